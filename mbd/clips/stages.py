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
does not name is left out. It knows no model.
"""

import importlib
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from mbd.clips.media import Image, Samples
from mbd.errors import ClipError
from mbd.hashing import json_digest

Vector = NDArray[np.float32]

_Stage = TypeVar("_Stage")


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
        digest: of the file's entries: a reading by other stages is not this one's.
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
    except (OSError, ValueError) as error:
        raise ClipError(f"{path} cannot be read: {error}.", remedy="give a TOML file, see docs/clips.md") from error
    every = given.pop("every", 2.0)
    unknown = sorted(set(given) - {"transcriber", "aspects", "scenes", "features"})
    if unknown or isinstance(every, bool) or not isinstance(every, int | float) or not 0 < every < math.inf:
        said = f"no stage is called '{unknown[0]}'" if unknown else "`every` is a number of seconds above 0"
        raise ClipError(f"{path.name}: {said}.", remedy="see docs/clips.md for the entries")
    made = {name: _make(path, name, entry) for name, entry in given.items()}
    return Stages(json_digest({"every": float(every), **given}), float(every), **made)


def _make(path: Path, name: str, entry: Any) -> Any:
    use = entry.get("use") if isinstance(entry, Mapping) else None
    module, _, kind = use.partition(":") if isinstance(use, str) else ("", "", "")
    if not (module and kind):
        raise ClipError(
            f"{path.name}: [{name}] does not say what it is.", remedy='give it use = "package.module:Class"'
        )
    try:
        maker = getattr(importlib.import_module(module), kind)
        return maker(**{key: value for key, value in entry.items() if key != "use"})
    except ClipError:
        raise
    except Exception as error:  # a plug-in's, whatever it is
        raise ClipError(
            f"{path.name}: [{name}] cannot be made of {use} ({type(error).__name__}: {error}).",
            remedy="check the name and its arguments; what our own stages need is in the extra `clips`",
        ) from error
