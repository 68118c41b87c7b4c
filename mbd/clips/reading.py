"""What the stages found in one clip, and the file that it is kept in. It runs no stage."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from mbd.clips.stages import Opinion, Sentiment
from mbd.cohort.modality import Modality
from mbd.durable import write_durably
from mbd.hashing import json_digest

_FOLDER = "readings"
_OURS = re.compile(r"[0-9a-f]{64}\.json|\.[0-9a-f]{64}\.json\.partial-.*")


@dataclass(frozen=True)
class Reading:
    """What the stages found in one clip.

    Attributes:
        subject: whose the list says that it is.
        people: everybody under whom the file is or was listed.
        media: the digest of the file's bytes.
        stages: the digest of the stages; empty where it was emptied.
        withheld: the modalities that were not looked at, because one of the people withdrew them.
        transcript: None without a sound track, a transcriber, or leave.
        opinions: of the transcript; None without one, or without a reader of aspects.
        scenes: seconds and kinds.
        features: of each modality that was looked at, where there is a featurizer.
    """

    clip: str
    subject: str
    people: tuple[str, ...]
    media: str
    stages: str
    withheld: tuple[Modality, ...]
    transcript: str | None
    opinions: tuple[Opinion, ...] | None
    scenes: tuple[tuple[float, str], ...]
    features: Mapping[Modality, tuple[float, ...]]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        said = value["opinions"]
        return cls(
            clip=value["clip"],
            subject=value["subject"],
            people=tuple(value["people"]),
            media=value["media"],
            stages=value["stages"],
            withheld=tuple(map(Modality, value["withheld"])),
            transcript=value["transcript"],
            opinions=None if said is None else tuple(Opinion(o["aspect"], Sentiment(o["sentiment"])) for o in said),
            scenes=tuple((float(second), str(kind)) for second, kind in value["scenes"]),
            features={Modality(name): tuple(numbers) for name, numbers in value["features"].items()},
        )

    def without(self, modalities: frozenset[Modality]) -> Self:
        """Emptied, because these were withdrawn since."""
        withheld = tuple(m for m in Modality if m in modalities or m in self.withheld)
        return replace(self, stages="", withheld=withheld, transcript=None, opinions=None, scenes=(), features={})

    @property
    def scene(self) -> str | None:
        """The kind that most frames show; the first of equals."""
        kinds = [kind for _, kind in self.scenes]
        return max(kinds, key=kinds.count) if kinds else None


def path_of(out: Path, clip: str) -> Path:
    """Where a clip's reading is kept: its name need not be a file's."""
    return out / _FOLDER / f"{json_digest(clip)}.json"


def all_paths(out: Path) -> Iterator[Path]:
    """Every reading's file in a folder, also a half-written one; what others put there is left out."""
    return (path for path in (out / _FOLDER).glob("*") if _OURS.fullmatch(path.name))


def load(path: Path) -> Reading | None:
    """The reading of a file; None where none is, or a damaged one."""
    try:
        return Reading.from_json(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def keep(path: Path, reading: Reading) -> None:
    """Write it, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, (json.dumps(reading.to_json()) + "\n").encode())
