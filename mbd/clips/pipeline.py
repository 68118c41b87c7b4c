"""Runs the stages over clips, keeps each reading as soon as it is there, and goes on where it was stopped.

What a person withdrew is not looked at: without the voice no sound is decoded and no transcript made. Before anything
is read, every reading goes that is somebody else's by now or left the list, and one that holds what was withdrawn since
is emptied: it remembers what is withheld, and of whom. Text that is transcribed from a voice falls with that voice.

Crash point: a reading is written whole or not at all. It knows no stage and no database.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from mbd.clips.manifest import Clip
from mbd.clips.media import frames, sound
from mbd.clips.reading import Reading, all_paths, keep, load, path_of
from mbd.clips.stages import Stages, opinions_of, scene_of, transcript_of, vector_of
from mbd.clips.standing import Ask, Files, Standing, digest_of
from mbd.cohort.modality import Modality
from mbd.durable import locked
from mbd.errors import ClipError

OnProgress = Callable[[float, str], None]
"""Called with the finished fraction, and the clip that was read last."""

_LOCK = ".lock"
_SHOWN = 3


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
    out.mkdir(parents=True, exist_ok=True)
    with locked(out / _LOCK):
        files = Files.of(clips, out)
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
    files = Files.of(clips, out)
    files.ask(withheld, clips)
    readings = [_loaded(clip, out, files) for clip in clips]
    if len({reading.stages for reading in readings}) > 1:
        raise ClipError(
            "The readings are not all by the same stages.", remedy="run `mbd clips read` to its end with one --stages"
        )
    return readings


def _forget(clips: Sequence[Clip], files: Files, out: Path, *, fresh: bool) -> None:
    """Unlink or empty, before anything is read, what may not be kept; with ``fresh`` unlink all.

    Raises:
        ClipError: a reading hides what is not withdrawn (any more, or in this deployment).
    """
    kept, hiding = set[Path](), list[str]()
    for clip in () if fresh else clips:
        path = path_of(out, clip.clip)
        reading = load(path)
        if reading is not None and files.standing(clip, reading) is Standing.HOLDS:
            reading = reading.without(files.hidden[clip.clip])
            keep(path, reading)
        found = files.standing(clip, reading)
        kept |= {path} if found not in (Standing.MISSING, Standing.STRANGE) else set()
        hiding += [clip.clip] if found is Standing.HIDES else []
    for path in set(all_paths(out)) - kept:
        path.unlink()
    if hiding:
        raise ClipError(
            f"{len(hiding)} readings, such as that of '{hiding[0]}', withhold what this deployment does not.",
            remedy="give the --home whose people these are; if they took it back, read again with --fresh",
        )


def _loaded(clip: Clip, out: Path, files: Files) -> Reading:
    reading = load(path_of(out, clip.clip))
    if reading is None or files.standing(clip, reading) is not Standing.FIT:
        raise ClipError(
            f"There is no reading of clip '{clip.clip}' that may be used.",
            remedy="run `mbd clips read` with the same list, folder and --home: it makes what is missing, "
            "has changed or was withdrawn",
        )
    return reading


def _kept(clip: Clip, stages: Stages, out: Path, files: Files) -> Reading:
    media, stored = files.media_of(clip), load(path_of(out, clip.clip))
    if stored is not None and files.standing(clip, stored, stages.digest) is Standing.FIT:
        return stored
    try:
        reading = _read(clip, stages, files)
    except ClipError:
        raise
    except Exception as error:  # a plug-in's, whatever it is: the other clips can be read all the same
        raise ClipError(
            f"a stage could not take it ({type(error).__name__}: {error}).", remedy="mend the stage, or leave it out"
        ) from error
    if digest_of(clip.media) != media:
        raise ClipError(f"{clip.media} changed while it was read.", remedy="read it again when nobody writes to it")
    keep(path_of(out, clip.clip), reading)
    return reading


def _read(clip: Clip, stages: Stages, files: Files) -> Reading:
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
