"""What a stored reading is to a clip of the list: fit to be used, or why not.

A file shows everybody under whom it is or was listed, and what one of them withdrew is hidden of it. It reads no clip
and changes nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Self

from mbd.clips.manifest import Clip
from mbd.clips.reading import Reading, load, path_of
from mbd.cohort.modality import Modality
from mbd.cohort.suppression import Suppressed
from mbd.errors import ClipError
from mbd.hashing import file_digest

Ask = Callable[[], Suppressed]
"""What is withdrawn by now."""


class Standing(Enum):
    """What a stored reading is to a clip of the list."""

    FIT = auto()
    MISSING = auto()
    STRANGE = auto()  # another person's
    HOLDS = auto()  # what was withdrawn
    HIDES = auto()  # what nobody withdrew
    OLD = auto()  # of another file, or by other stages


@dataclass
class Files:
    """The bytes of the files on a list, whom they show, and what of them is hidden.

    Attributes:
        media: the digest of each clip's file, or why there is none.
        people: of each clip: everybody under whom its bytes are listed, and who is named by its stored reading.
        hidden: of each clip. It only grows: a deployment that goes away in the middle brings nothing back.
    """

    media: Mapping[str, str | ClipError]
    people: Mapping[str, frozenset[str]]
    hidden: dict[str, frozenset[Modality]] = field(default_factory=dict)

    @classmethod
    def of(cls, clips: Sequence[Clip], out: Path) -> Self:
        """Of these clips, whose readings are kept in ``out``; nothing is hidden before `ask`."""
        by_path = {path: digest_of(path) for path in {clip.media for clip in clips}}
        media = {clip.clip: by_path[clip.media] for clip in clips}
        listed: dict[str | ClipError, frozenset[str]] = {}
        for clip in clips:
            stored, digest = load(path_of(out, clip.clip)), media[clip.clip]
            same = stored is not None and (stored.media == digest or isinstance(digest, ClipError))
            before = stored.people if stored is not None and same else ()
            listed[digest] = listed.get(digest, frozenset()) | {clip.subject, *before}
        return cls(media, {clip.clip: listed[media[clip.clip]] for clip in clips})

    def ask(self, withheld: Ask, clips: Sequence[Clip]) -> None:
        """What is withdrawn of these by now."""
        suppressed = withheld()
        for clip in clips:
            people = self.people[clip.clip]
            now = frozenset(m for m in Modality if any(suppressed(subject, m) for subject in people))
            self.hidden[clip.clip] = self.hidden.get(clip.clip, frozenset()) | now

    def media_of(self, clip: Clip) -> str:
        """The digest.

        Raises:
            ClipError: there is none.
        """
        found = self.media[clip.clip]
        if isinstance(found, ClipError):
            raise found
        return found

    def standing(self, clip: Clip, reading: Reading | None, stages: str | None = None) -> Standing:
        """What a reading is to its clip; by whichever stages, if they are not named."""
        if reading is None:
            return Standing.MISSING
        if reading.subject != clip.subject:
            return Standing.STRANGE
        if self.hidden[clip.clip] - set(reading.withheld):
            return Standing.HOLDS
        if set(reading.withheld) - self.hidden[clip.clip]:
            return Standing.HIDES
        wanted = reading.stages if stages is None else stages
        same = reading.media == self.media[clip.clip] and reading.stages == wanted != ""
        return Standing.FIT if same else Standing.OLD


def digest_of(path: Path) -> str | ClipError:
    """Of a file's bytes, or why there is none."""
    try:
        if not path.is_file():
            return ClipError(f"{str(path)!r} is no file.", remedy="check the path")
        return file_digest(path)
    except OSError as error:
        return ClipError(f"{path} cannot be read: {error.strerror}.", remedy="check the path, and your rights to it")
