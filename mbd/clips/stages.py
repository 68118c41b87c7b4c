"""The sockets of the stages, and the file that says what is plugged into them.

    every = 2.0                                  # seconds between the frames that are looked at
    [transcriber]                                # sound to words
    use = "mbd.clips.stock.sphinx:Sphinx"
    [aspects]                                    # words to opinions
    use = "mbd.clips.stock.lexicon:Lexicon"
    terms.economy = ["jobs", "prices"]
    [scenes]                                     # a frame to a kind of scene
    use = "mbd.clips.stock.palette:Palette"
    examples = "scenes"
    [features]                                   # all three to numbers, for a cohort
    use = "mbd.clips.stock.plain:Plain"

``use`` names a class, yours as well as ours; all other entries are its constructor's arguments. A stage that the file
does not name is left out. A stage whose answers depend on more than its arguments (on a model's file, say) may have an
attribute ``digest``, a text that changes whenever they may: clips are then read anew. It knows no model.
"""

import importlib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np
from numpy.typing import NDArray

from mbd import __version__
from mbd.clips.media import Image, Samples
from mbd.errors import ClipError
from mbd.hashing import json_digest
from mbd.naming import is_plain_name

Vector = NDArray[np.float32]

_SOCKETS = {
    "transcriber": ("transcribe",),
    "aspects": ("opinions",),
    "scenes": ("scene",),
    "features": ("of_text", "of_sound", "of_frames"),
}
_LEAST, _MOST = 0.001, 86_400.0
"""Seconds between frames: a millisecond, a day."""

_SHOWN = 60
"""Characters of an answer in an error."""


class Sentiment(StrEnum):
    """How something is spoken of."""

    NEGATIVE = "negative"
    NEUTRAL = "neutral"
    POSITIVE = "positive"


@dataclass(frozen=True)
class Opinion:
    """What is said of one aspect."""

    aspect: str
    sentiment: Sentiment


class Transcriber(Protocol):
    """Hears."""

    def transcribe(self, sound_N: Samples) -> str:
        """The words of a sound [N] at 16 kHz, in lower case with single spaces; empty if nobody speaks."""
        ...


class AspectReader(Protocol):
    """Reads."""

    def opinions(self, transcript: str) -> Sequence[Opinion]:
        """Each aspect that is spoken of, once."""
        ...


class SceneReader(Protocol):
    """Looks."""

    def scene(self, image: Image) -> str:
        """The kind of scene that a picture shows."""
        ...


class Featurizer(Protocol):
    """Makes numbers for a cohort: of every clip equally many, whoever else is in the cohort."""

    def of_text(self, transcript: str) -> Vector:
        """[F] of a transcript."""
        ...

    def of_sound(self, sound_N: Samples) -> Vector:
        """[F] of a sound [N] at 16 kHz."""
        ...

    def of_frames(self, images: Sequence[Image]) -> Vector:
        """[F] of one or more frames."""
        ...


@dataclass(frozen=True)
class Stages:
    """What is plugged in.

    Attributes:
        digest: of the file's entries, of what the stages say of themselves, and of the versions of this program and of
            the decoder: a reading by other stages is not this one's.
        every: seconds between frames.
    """

    digest: str
    every: float = 2.0
    transcriber: Transcriber | None = None
    aspects: AspectReader | None = None
    scenes: SceneReader | None = None
    features: Featurizer | None = None


def load_stages(path: Path) -> Stages:
    """What a TOML file plugs in.

    Raises:
        ClipError: the file is not one of these, or a stage cannot be made.
    """
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ClipError(f"{path} cannot be read: {error}.", remedy="give a TOML file, see docs/clips.md") from error
    every = given.pop("every", 2.0)
    unknown = sorted(set(given) - set(_SOCKETS))
    if unknown:
        raise ClipError(f"{path.name}: no stage is called '{unknown[0]}'.", remedy="see docs/clips.md for the entries")
    if isinstance(every, bool) or not isinstance(every, int | float) or not _LEAST <= every <= _MOST:
        raise ClipError(
            f"{path.name}: `every` is a number of seconds from {_LEAST} to {_MOST:.0f}.", remedy="give every = 2.0"
        )
    made = {name: _make(path, name, entry) for name, entry in given.items()}
    said = {name: getattr(stage, "digest", "") for name, stage in made.items()}
    try:
        digest = json_digest(
            {"every": float(every), "stages": given, "said": said, "mbd": __version__, "av": av.__version__}
        )
    except ValueError as error:
        raise ClipError(
            f"{path.name} holds a value that is no argument: {error}.",
            remedy="give texts, finite numbers, truth values, and lists and tables of them",
        ) from error
    return Stages(digest, float(every), **made)


def _make(path: Path, name: str, entry: Any) -> Any:
    use = entry.get("use") if isinstance(entry, Mapping) else None
    module, _, kind = use.partition(":") if isinstance(use, str) else ("", "", "")
    if not (module and kind):
        raise ClipError(
            f"{path.name}: [{name}] does not say what it is.", remedy='give it use = "package.module:Class"'
        )
    try:
        maker = getattr(importlib.import_module(module), kind)
        made = maker(**{key: value for key, value in entry.items() if key != "use"})
        lacking = [method for method in _SOCKETS[name] if not callable(getattr(made, method, None))]
        if lacking or not isinstance(getattr(made, "digest", ""), str):
            raise TypeError(f"it has no method {', '.join(lacking)}" if lacking else "its `digest` is no text")
        return made
    except ClipError:
        raise
    except (Exception, SystemExit) as error:  # a plug-in's, whatever it is
        raise ClipError(
            f"{path.name}: [{name}] cannot be made of {use} ({type(error).__name__}: {error}).",
            remedy="check the name and its arguments; what our own stages need is in the extra `clips`",
        ) from error


def transcript_of(answer: object) -> str:
    """A transcriber's answer.

    Raises:
        ClipError: it is no text.
    """
    if not isinstance(answer, str):
        raise _not_an_answer("The transcriber", answer, "a text")
    return str(answer)


def opinions_of(answer: Iterable[object]) -> tuple[Opinion, ...]:
    """The answer of a reader of aspects.

    Raises:
        ClipError: it is not one `Opinion` of each aspect.
    """
    found: dict[str, Opinion] = {}
    for each in answer:
        name = each.aspect if isinstance(each, Opinion) else None
        fit = isinstance(name, str) and is_plain_name(name) and name not in found
        if not isinstance(each, Opinion) or not fit or each.sentiment not in list(Sentiment):
            raise _not_an_answer("The reader of aspects", each, "one Opinion(aspect, sentiment) of each aspect")
        found[str(name)] = Opinion(str(name), Sentiment(each.sentiment))
    return tuple(found.values())


def scene_of(answer: object) -> str:
    """The answer of a reader of scenes.

    Raises:
        ClipError: it is no text, or empty.
    """
    if not isinstance(answer, str) or not is_plain_name(answer):
        raise _not_an_answer("The reader of scenes", answer, "a printable text without spaces around it")
    return str(answer)


def vector_of(answer: object) -> tuple[float, ...]:
    """A featurizer's answer as plain numbers.

    Raises:
        ClipError: it is no row [F] of finite numbers.
    """
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinity
            given = np.asarray(answer)
            numbers = given.astype(np.float32)
    except (TypeError, ValueError):
        given = numbers = np.zeros(0, np.float32)
    if given.dtype.kind not in "fiu" or numbers.ndim != 1 or not numbers.size or not np.isfinite(numbers).all():
        raise _not_an_answer("The featurizer", answer, "a row [F] of one or more finite numbers")
    return tuple(numbers.tolist())


def _not_an_answer(who: str, answer: object, wanted: str) -> ClipError:
    shown = repr(answer)
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
    return ClipError(f"{who} answered {shown}.", remedy=f"have it answer {wanted}")
