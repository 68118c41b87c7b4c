"""RAVDESS (Livingstone and Russo 2018) as a cohort: 24 actors speak two sentences in eight emotions.

Voice is a frozen speech encoder, face the action units; 16 clips have no sound and so no voice. The text is two fixed
sentences: it says nothing of an emotion, and is not imported. It knows nothing of models.
"""

from collections.abc import Collection
from pathlib import Path
from typing import TypedDict

import numpy as np

from mbd.cohort.cohort import Channel, Cohort, Partition, Row, Split, Task
from mbd.cohort.importers.files import read_csv, read_npz
from mbd.cohort.modality import Modality
from mbd.cohort.validation import validate
from mbd.errors import CohortError, RowError

ACTORS = tuple(range(1, 25))

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")


class ActorSplit(TypedDict):
    """Who is held out, who selects, who is public; every other actor is revocable train."""

    test_actors: tuple[int, ...]
    valid_actors: tuple[int, ...]
    public_actors: tuple[int, ...]


def ravdess_fold(seed: int, fold: int, *, folds: int = 6, valid: int = 2, public: int = 6) -> ActorSplit:
    """One of ``folds`` splits; their test actors are disjoint and cover all 24.

    By default 4 test, 2 valid, 6 public and 12 revocable train actors.

    Raises:
        CohortError: the numbers leave nobody revocable, or do not divide the actors.
    """
    if not (0 <= fold < folds and len(ACTORS) % folds == 0 and valid + public < len(ACTORS) - len(ACTORS) // folds):
        raise CohortError(
            f"Fold {fold} of {folds} with {valid} valid and {public} public does not split {len(ACTORS)} actors.",
            remedy="count folds from 0, and leave revocable actors",
        )
    dealt = [ACTORS[i] for i in np.random.default_rng(seed).permutation(len(ACTORS))]
    size = len(ACTORS) // folds
    rest = dealt[(fold + 1) * size :] + dealt[: fold * size]
    return {
        "test_actors": tuple(sorted(dealt[fold * size : (fold + 1) * size])),
        "valid_actors": tuple(sorted(rest[:valid])),
        "public_actors": tuple(sorted(rest[valid : valid + public])),
    }


def ravdess(
    path: Path,
    *,
    test_actors: Collection[int],
    valid_actors: Collection[int],
    public_actors: Collection[int],
) -> Cohort:
    """The 1,440 clips with voice (768) and face (35); subjects are ``actor-01`` to ``actor-24``.

    Valid and public actors are public; test actors and all others are revocable.

    Raises:
        CohortError: files are missing or contradict each other, or an actor has two places.
    """
    named = [*test_actors, *valid_actors, *public_actors]
    if len(set(named)) != len(named) or not set(named) <= set(ACTORS):
        raise CohortError(
            f"Test {sorted(test_actors)}, valid {sorted(valid_actors)} and public {sorted(public_actors)} actors "
            "overlap or do not exist.",
            remedy="give each of the actors 1 to 24 at most one place",
        )
    place = dict.fromkeys(ACTORS, (Partition.REVOCABLE, Split.TRAIN))
    place |= dict.fromkeys(test_actors, (Partition.REVOCABLE, Split.TEST))
    place |= dict.fromkeys(valid_actors, (Partition.PUBLIC, Split.VALID))
    place |= dict.fromkeys(public_actors, (Partition.PUBLIC, Split.TRAIN))
    records = read_csv(path / "ravdess.csv", ("id", "actor", "emotion", "has_wav"))
    arrays = read_npz(path / "ravdess_features.npz", ("id", "au35", "whisper_tiny_en_enc768"))
    if [record["id"] for record in records] != arrays["id"].tolist():
        raise CohortError("ravdess.csv and the features list different clips.", remedy="take both from one release")
    voices = arrays["whisper_tiny_en_enc768"].astype(np.float32)
    has_voice = [record["has_wav"] == "True" for record in records]
    cohort = Cohort(
        name="ravdess",
        description="RAVDESS speech: acted emotions of 24 actors, who are recognisable in voice and face. The label is "
        "the emotion that the actor was asked for. The text is two fixed sentences and is left out.",
        synthetic=False,
        task=Task("classification", classes=EMOTIONS),
        channels={
            Modality.AUDIO: Channel(
                Modality.AUDIO, "vector", 768, extractor="frozen Whisper tiny.en encoder, 768 numbers a clip"
            ),
            Modality.VISION: Channel(Modality.VISION, "vector", 35, extractor="OpenFace action units, clip means"),
        },
        rows=tuple(_row(i, record, place) for i, record in enumerate(records)),
        features={
            Modality.AUDIO: tuple(voice if has else None for voice, has in zip(voices, has_voice, strict=True)),
            Modality.VISION: tuple(arrays["au35"]),
        },
    )
    validate(cohort)
    return cohort


def _row(i: int, record: dict[str, str | None], place: dict[int, tuple[Partition, Split]]) -> Row:
    clip, actor = str(record["id"]), str(record["actor"])
    if not actor.isdecimal() or int(actor) not in ACTORS:
        raise RowError(f"row {i} (clip '{clip}')", f"there is no actor {actor}.", remedy="number actors from 1 to 24")
    return Row(clip, f"actor-{int(actor):02d}", str(record["emotion"]), *place[int(actor)])
