"""Runs the stages over clips, keeps each reading as soon as it is there, and goes on where it was stopped.

What a person withdrew is not looked at: without the voice no sound is decoded and no transcript made. Before anything
is read, every reading goes that is somebody else's by now or left the list, and one that holds what was withdrawn since
is emptied: it remembers what is withheld, and of whom. Text that is transcribed from a voice falls with that voice. A
file shows everybody under whom it is or was listed.

Crash point: a reading is written whole or not at all. It knows no stage and no database.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum, auto
from pathlib import Path
from typing import Any, Self

from mbd.clips.manifest import Clip
from mbd.clips.media import frames, sound
from mbd.clips.stages import Opinion, Sentiment, Stages, opinions_of, scene_of, transcript_of, vector_of
from mbd.cohort.modality import Modality
from mbd.cohort.suppression import Suppressed
from mbd.durable import locked, write_durably
from mbd.errors import ClipError
from mbd.hashing import file_digest, json_digest

Ask = Callable[[], Suppressed]
"""What is withdrawn by now."""

OnProgress = Callable[[float, str], None]
"""Called with the finished fraction, and the clip that was read last."""

_READINGS, _LOCK = "readings", ".lock"
_OURS = re.compile(r"[0-9a-f]{64}\.json|\.[0-9a-f]{64}\.json\.partial-.*")
_SHOWN = 3


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


def read_clips(
    clips: Sequence[Clip],
    stages: Stages,
    out: Path,
    *,
    withheld: Ask,
    fresh: bool = False,
    on_progress: OnProgress | None = None,
) -> list[Reading]:
    """Every clip's reading; those that an earlier run left in ``out`` are not made again. A second run waits.

    Args:
        clips: which.
        stages: what reads them.
        out: where readings are kept.
        withheld: asked at the start, and again before each clip.
        fresh: make all again.
        on_progress: told after every clip.

    Raises:
        ClipError: some clips cannot be read (all others are, and kept); or readings withhold what nobody withdrew.
    """
    (out / _READINGS).mkdir(parents=True, exist_ok=True)
    with locked(out / _LOCK):
        files = _Files.of(clips, out)
        files.ask(withheld, clips)
        _forget(clips, files, out, fresh=fresh)
        found, failed = [], list[tuple[str, ClipError]]()
        for n, clip in enumerate(clips):
            files.ask(withheld, [clip])
            try:
                found.append(_kept(clip, stages, out, files))
            except ClipError as error:
                failed.append((clip.clip, error))
            if on_progress:
                on_progress((n + 1) / len(clips), clip.clip)
    if failed:
        shown = " ".join(f"{name}: {error.message}" for name, error in failed[:_SHOWN])
        more = f" and {len(failed) - _SHOWN} more." if len(failed) > _SHOWN else ""
        raise ClipError(
            f"{len(failed)} of {len(clips)} clips could not be read. {shown}{more}",
            remedy="mend them or take them off the list, and run it again: what was read is kept",
        )
    return found


def load_readings(clips: Sequence[Clip], out: Path, *, withheld: Ask) -> list[Reading]:
    """What `read_clips` kept of these clips.

    Raises:
        ClipError: one is missing, damaged, of another file or person, or holds what was withdrawn since; or they are
            not all by the same stages.
    """
    files = _Files.of(clips, out)
    files.ask(withheld, clips)
    readings = [_loaded(clip, out, files) for clip in clips]
    if len({reading.stages for reading in readings}) > 1:
        raise ClipError(
            "The readings are not all by the same stages.", remedy="run `mbd clips read` to its end with one --stages"
        )
    return readings


class _Standing(Enum):
    """What a stored reading is to a clip of the list."""

    FIT = auto()
    MISSING = auto()
    STRANGE = auto()  # another person's
    HOLDS = auto()  # what was withdrawn
    HIDES = auto()  # what nobody withdrew
    OLD = auto()  # of another file, or by other stages


@dataclass
class _Files:
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
        by_path = {path: _digest(path) for path in {clip.media for clip in clips}}
        media = {clip.clip: by_path[clip.media] for clip in clips}
        listed: dict[str | ClipError, frozenset[str]] = {}
        for clip in clips:
            stored, digest = _stored(_path(out, clip)), media[clip.clip]
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
        found = self.media[clip.clip]
        if isinstance(found, ClipError):
            raise found
        return found

    def standing(self, clip: Clip, reading: Reading | None, stages: str | None = None) -> _Standing:
        """What a reading is to its clip; by whichever stages, if they are not named."""
        if reading is None:
            return _Standing.MISSING
        if reading.subject != clip.subject:
            return _Standing.STRANGE
        if self.hidden[clip.clip] - set(reading.withheld):
            return _Standing.HOLDS
        if set(reading.withheld) - self.hidden[clip.clip]:
            return _Standing.HIDES
        wanted = reading.stages if stages is None else stages
        same = reading.media == self.media[clip.clip] and reading.stages == wanted != ""
        return _Standing.FIT if same else _Standing.OLD


def _digest(path: Path) -> str | ClipError:
    try:
        if not path.is_file():
            return ClipError(f"{str(path)!r} is no file.", remedy="check the path")
        return file_digest(path)
    except OSError as error:
        return ClipError(f"{path} cannot be read: {error.strerror}.", remedy="check the path, and your rights to it")


def _forget(clips: Sequence[Clip], files: _Files, out: Path, *, fresh: bool) -> None:
    """Unlink or empty, before anything is read, what may not be kept; with ``fresh`` unlink all.

    Raises:
        ClipError: a reading hides what is not withdrawn (any more, or in this deployment).
    """
    kept, hiding = set[Path](), list[str]()
    for clip in () if fresh else clips:
        path = _path(out, clip)
        reading = _stored(path)
        if reading is not None and files.standing(clip, reading) is _Standing.HOLDS:
            reading = reading.without(files.hidden[clip.clip])
            _write(path, reading)
        found = files.standing(clip, reading)
        kept |= {path} if found not in (_Standing.MISSING, _Standing.STRANGE) else set()
        hiding += [clip.clip] if found is _Standing.HIDES else []
    for path in set((out / _READINGS).iterdir()) - kept:
        if _OURS.fullmatch(path.name):
            path.unlink()
    if hiding:
        raise ClipError(
            f"{len(hiding)} readings, such as that of '{hiding[0]}', withhold what this deployment does not.",
            remedy="give the --home whose people these are; if they took it back, read again with --fresh",
        )


def _loaded(clip: Clip, out: Path, files: _Files) -> Reading:
    reading = _stored(_path(out, clip))
    if reading is None or files.standing(clip, reading) is not _Standing.FIT:
        raise ClipError(
            f"There is no reading of clip '{clip.clip}' that may be used.",
            remedy="run `mbd clips read` with the same list, folder and --home: it makes what is missing, "
            "has changed or was withdrawn",
        )
    return reading


def _kept(clip: Clip, stages: Stages, out: Path, files: _Files) -> Reading:
    media, stored = files.media_of(clip), _stored(_path(out, clip))
    if stored is not None and files.standing(clip, stored, stages.digest) is _Standing.FIT:
        return stored
    try:
        reading = _read(clip, stages, files)
    except ClipError:
        raise
    except Exception as error:  # a plug-in's, whatever it is: the other clips can be read all the same
        raise ClipError(
            f"a stage could not take it ({type(error).__name__}: {error}).", remedy="mend the stage, or leave it out"
        ) from error
    if _digest(clip.media) != media:
        raise ClipError(f"{clip.media} changed while it was read.", remedy="read it again when nobody writes to it")
    _write(_path(out, clip), reading)
    return reading


def _read(clip: Clip, stages: Stages, files: _Files) -> Reading:
    words, aspects, scenes, features = stages.transcriber, stages.aspects, stages.scenes, stages.features
    open_to = set(Modality) - files.hidden[clip.clip]
    listens = features is not None or (words is not None and Modality.TEXT in open_to)
    looks = features is not None or scenes is not None
    heard = sound(clip.media) if listens and Modality.AUDIO in open_to else None
    transcript = None
    if heard is not None and words is not None and Modality.TEXT in open_to:
        transcript = transcript_of(words.transcribe(heard))
    seen = list(frames(clip.media, every=stages.every)) if looks and Modality.VISION in open_to else []
    opinions = None
    if transcript is not None and aspects is not None:
        opinions = opinions_of(aspects.opinions(transcript)) if transcript else ()
    numbers: dict[Modality, tuple[float, ...]] = {}
    if features is not None:
        if transcript is not None:
            numbers[Modality.TEXT] = vector_of(features.of_text(transcript))
        if heard is not None:
            numbers[Modality.AUDIO] = vector_of(features.of_sound(heard))
        if seen:
            numbers[Modality.VISION] = vector_of(features.of_frames([image for _, image in seen]))
    return Reading(
        clip=clip.clip,
        subject=clip.subject,
        people=tuple(sorted(files.people[clip.clip])),
        media=files.media_of(clip),
        stages=stages.digest,
        withheld=tuple(m for m in Modality if m not in open_to),
        transcript=transcript,
        opinions=opinions,
        scenes=tuple((t, scene_of(scenes.scene(image))) for t, image in seen) if scenes is not None else (),
        features=numbers,
    )


def _write(path: Path, reading: Reading) -> None:
    write_durably(path, (json.dumps(reading.to_json()) + "\n").encode())


def _stored(path: Path) -> Reading | None:
    try:
        return Reading.from_json(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _path(out: Path, clip: Clip) -> Path:
    return out / _READINGS / f"{json_digest(clip.clip)}.json"  # a clip's name need not be a file's
