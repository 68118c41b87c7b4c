"""Runs the stages over clips, keeps each reading as soon as it is there, and goes on where it was stopped.

What a person withdrew is not looked at: without the voice no sound is decoded and no transcript made, and a reading
that held it is made anew without it. Text that is transcribed from a voice falls with that voice.

Crash point: a reading is written whole or not at all. It knows no stage and no database.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from mbd.clips.manifest import Clip
from mbd.clips.media import frames, sound
from mbd.clips.stages import Opinion, Sentiment, Stages
from mbd.cohort.modality import Modality
from mbd.cohort.suppression import Suppressed
from mbd.durable import write_durably
from mbd.errors import ClipError
from mbd.hashing import file_digest, json_digest

OnProgress = Callable[[float, str], None]
"""Called with the finished fraction, and the clip that was read last."""

_READINGS = "readings"
_SHOWN = 3


@dataclass(frozen=True)
class Reading:
    """What the stages found in one clip.

    Attributes:
        identity: of the media file's bytes, the stages and what was withheld.
        withheld: the modalities that its subject withdrew.
        transcript: None without a sound track, a transcriber, or leave.
        opinions: of the transcript.
        scenes: seconds and kinds.
        features: of each modality that was looked at, where there is a featurizer.
    """

    clip: str
    identity: str
    withheld: tuple[Modality, ...]
    transcript: str | None
    opinions: tuple[Opinion, ...]
    scenes: tuple[tuple[float, str], ...]
    features: Mapping[Modality, tuple[float, ...]]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(
            clip=value["clip"],
            identity=value["identity"],
            withheld=tuple(map(Modality, value["withheld"])),
            transcript=value["transcript"],
            opinions=tuple(Opinion(each["aspect"], Sentiment(each["sentiment"])) for each in value["opinions"]),
            scenes=tuple((float(second), str(kind)) for second, kind in value["scenes"]),
            features={Modality(name): tuple(numbers) for name, numbers in value["features"].items()},
        )

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
    withheld: Suppressed,
    fresh: bool = False,
    on_progress: OnProgress | None = None,
) -> list[Reading]:
    """Every clip's reading; those that an earlier run left in ``out`` are not made again.

    Args:
        clips: which.
        stages: what reads them.
        out: where readings are kept.
        withheld: what was withdrawn.
        fresh: make all again.
        on_progress: told after every clip.

    Raises:
        ClipError: some clips cannot be read; all others are, and kept.
    """
    (out / _READINGS).mkdir(parents=True, exist_ok=True)
    for path in set((out / _READINGS).iterdir()) - {_path(out, clip) for clip in clips}:
        path.unlink()  # of a clip that the list has no more
    found, failed = [], list[tuple[str, ClipError]]()
    for n, clip in enumerate(clips):
        try:
            found.append(_kept(clip, stages, out, withheld, fresh=fresh))
        except ClipError as error:
            _path(out, clip).unlink(missing_ok=True)
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


def load_readings(clips: Sequence[Clip], out: Path, *, withheld: Suppressed) -> list[Reading]:
    """What `read_clips` kept of these clips.

    Raises:
        ClipError: one is missing or damaged, or holds what was withdrawn since.
    """
    return [_loaded(clip, out, withheld) for clip in clips]


def _loaded(clip: Clip, out: Path, withheld: Suppressed) -> Reading:
    reading = _stored(_path(out, clip))
    if reading is None or set(reading.withheld) != set(_withheld(clip, withheld)):
        raise ClipError(
            f"There is no reading of clip '{clip.clip}' that may be used.",
            remedy="run `mbd clips read` with the same list and folder: it makes what is missing or was withdrawn",
        )
    return reading


def _kept(clip: Clip, stages: Stages, out: Path, withheld: Suppressed, *, fresh: bool) -> Reading:
    hidden = _withheld(clip, withheld)
    try:
        media = file_digest(clip.media)
    except OSError as error:
        raise ClipError(f"{clip.media} cannot be read: {error.strerror}.", remedy="check the path") from error
    identity = json_digest({"media": media, "stages": stages.digest, "withheld": list(hidden)})
    stored = None if fresh else _stored(_path(out, clip))
    if stored is not None and stored.identity == identity:
        return stored
    try:
        reading = _read(clip, stages, hidden, identity)
    except ClipError:
        raise
    except Exception as error:  # a plug-in's, whatever it is: the other clips can be read all the same
        raise ClipError(
            f"a stage could not take it ({type(error).__name__}: {error}).", remedy="mend the stage, or leave it out"
        ) from error
    write_durably(_path(out, clip), (json.dumps(reading.to_json()) + "\n").encode())
    return reading


def _read(clip: Clip, stages: Stages, hidden: tuple[Modality, ...], identity: str) -> Reading:
    listens, looks = stages.transcriber or stages.features, stages.scenes or stages.features
    heard = sound(clip.media) if listens and Modality.AUDIO not in hidden else None
    transcript = None
    if heard is not None and stages.transcriber is not None and Modality.TEXT not in hidden:
        transcript = stages.transcriber.transcribe(heard)
    seen = list(frames(clip.media, every=stages.every)) if looks and Modality.VISION not in hidden else []
    features: dict[Modality, tuple[float, ...]] = {}
    if stages.features is not None:
        if transcript is not None:
            features[Modality.TEXT] = tuple(stages.features.of_text(transcript).tolist())
        if heard is not None:
            features[Modality.AUDIO] = tuple(stages.features.of_sound(heard).tolist())
        if seen:
            features[Modality.VISION] = tuple(stages.features.of_frames([image for _, image in seen]).tolist())
    return Reading(
        clip=clip.clip,
        identity=identity,
        withheld=hidden,
        transcript=transcript,
        opinions=tuple(stages.aspects.opinions(transcript)) if stages.aspects and transcript else (),
        scenes=tuple((second, stages.scenes.scene(image)) for second, image in seen) if stages.scenes else (),
        features=features,
    )


def _withheld(clip: Clip, withheld: Suppressed) -> tuple[Modality, ...]:
    return tuple(modality for modality in Modality if withheld(clip.subject, modality))


def _stored(path: Path) -> Reading | None:
    try:
        return Reading.from_json(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _path(out: Path, clip: Clip) -> Path:
    return out / _READINGS / f"{json_digest(clip.clip)}.json"  # a clip's name need not be a file's
