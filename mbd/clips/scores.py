"""How well the stages read: word error rate, and macro F1 of aspects and of scenes. It runs no stage."""

import unicodedata
from collections.abc import Sequence

import jiwer
import numpy as np

from mbd.clips.manifest import Clip
from mbd.clips.reading import Reading
from mbd.errors import ClipError
from mbd.metrics.sentiment import classification_metrics

_ABSENT = "not spoken of"


def score(clips: Sequence[Clip], readings: Sequence[Reading]) -> dict[str, float]:
    """Whatever the list says the truth of: ``wer``, ``aspect_macro_f1``, ``scene_macro_f1``.

    The word error rate is over all words of all clips, in lower case without punctuation; it can be above 1. Aspects
    are judged one by one in each clip: negative, neutral, positive or not spoken of. A clip's scene is that of most of
    its frames. Clips without a transcript, or without a scene, are not judged by it: nobody may have been allowed to
    listen or to look.

    Raises:
        ClipError: the list says the truth of nothing that was read.
    """
    found: dict[str, float] = {}
    heard = [(c, r) for c, r in zip(clips, readings, strict=True) if r.transcript is not None]
    spoken = [(_plain(c.transcript), _plain(r.transcript)) for c, r in heard if _plain(c.transcript)]
    if spoken:
        found["wer"] = float(jiwer.wer([truth for truth, _ in spoken], [said for _, said in spoken]))
    judged = [(c.opinions, r.opinions) for c, r in heard if c.opinions is not None and r.opinions is not None]
    aspects = sorted({opinion.aspect for truth, read in judged for opinion in (*truth, *read)})
    if aspects:
        pairs = [
            ({o.aspect: str(o.sentiment) for o in truth}, {o.aspect: str(o.sentiment) for o in read})
            for truth, read in judged
        ]
        found["aspect_macro_f1"] = _macro_f1(
            [truth.get(aspect, _ABSENT) for truth, _ in pairs for aspect in aspects],
            [read.get(aspect, _ABSENT) for _, read in pairs for aspect in aspects],
        )
    seen = [(c.scene, r.scene) for c, r in zip(clips, readings, strict=True) if c.scene and r.scene]
    if seen:
        found["scene_macro_f1"] = _macro_f1([str(truth) for truth, _ in seen], [str(read) for _, read in seen])
    if not found:
        raise ClipError(
            "The list says the truth of nothing that was read.",
            remedy="give it columns transcript, aspects or scene, and run the stages that read them",
        )
    return found


def _macro_f1(truth: Sequence[str], read: Sequence[str]) -> float:
    """Over the classes that occur."""
    classes = sorted({*truth, *read})
    numbers = [np.array([classes.index(each) for each in column]) for column in (truth, read)]
    return classification_metrics(*numbers, classes=len(classes))["macro_f1"]


def _plain(text: str | None) -> str:
    """Words in lower case, of letters with their marks, digits and apostrophes inside; as in Unicode form NFC."""
    lower = unicodedata.normalize("NFC", (text or "").lower().replace("\u2019", "'"))
    kept = "".join(c if c == "'" or unicodedata.category(c)[0] in "LMN" else " " for c in lower)
    return " ".join(word for part in kept.split() if (word := part.strip("'")))
