"""Opinions by word lists: an aspect is spoken of where one of its terms stands, and so is what its sentence feels like.

Sentiment is VADER's (Hutto and Gilbert 2014), by its usual threshold of .05 on the compound score. A transcript
without punctuation is one sentence.
"""

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from mbd.clips.stages import Opinion, Sentiment
from mbd.errors import ClipError

_THRESHOLD = 0.05


class Lexicon:
    """Knows which words speak of which aspect.

    Args:
        terms: for each aspect its words, in any case; a term may be several words.
    """

    def __init__(self, terms: Mapping[str, Sequence[str]]) -> None:
        if not all(
            isinstance(found, list | tuple) and all(isinstance(t, str) for t in found) for found in terms.values()
        ):
            raise ClipError("The terms of an aspect are no list.", remedy='give terms.NAME = ["word", ...]')
        words = {aspect: [term.lower().strip() for term in found] for aspect, found in terms.items()}
        if not words or not all(found and all(found) for found in words.values()):
            raise ClipError("An aspect has no terms.", remedy='give terms.NAME = ["word", ...] for each aspect')
        self._patterns = {
            aspect: re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, found))})(?!\w)")
            for aspect, found in words.items()
        }
        self._feels = SentimentIntensityAnalyzer()
        self.digest = version("vaderSentiment")

    def opinions(self, transcript: str) -> tuple[Opinion, ...]:
        """See `AspectReader`; of several sentences about one aspect it takes the mean."""
        sentences = [part for part in re.split(r"(?<=[.!?])\s+", transcript) if part.strip()]
        found = []
        for aspect, pattern in self._patterns.items():
            felt = [self._feels.polarity_scores(s)["compound"] for s in sentences if pattern.search(s.lower())]
            if felt:
                found.append(Opinion(aspect, _sentiment(sum(felt) / len(felt))))
        return tuple(found)


def _sentiment(compound: float) -> Sentiment:
    if abs(compound) < _THRESHOLD:
        return Sentiment.NEUTRAL
    return Sentiment.POSITIVE if compound > 0 else Sentiment.NEGATIVE
