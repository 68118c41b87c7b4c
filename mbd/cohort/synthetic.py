"""The bundled cohort: made by this program, of no person, and it says so everywhere.

Sentiment is spread over the three modalities: a part that all of them show and a part that each shows alone, so that
two channels tell more than one. Every (subject, modality) carries a planted trait, a known direction of known strength,
and every subject a mood that shifts the labels: a model gains by remembering people, so forgetting can be measured.
It knows nothing of the models that will be measured.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mbd.cohort.cohort import Channel, Cohort, Feature, Partition, Row, Split, Task
from mbd.cohort.modality import Modality
from mbd.cohort.validation import validate

DIMS = {Modality.TEXT: 32, Modality.AUDIO: 24, Modality.VISION: 16}

_NOISE = {Modality.TEXT: 0.6, Modality.AUDIO: 0.9, Modality.VISION: 1.0}
_OWN_WEIGHT = {Modality.TEXT: 0.9, Modality.AUDIO: 0.6, Modality.VISION: 0.5}
_SHARED_WEIGHT = 0.8
_MOOD = 0.4
_FRAMES = (3, 12)


@dataclass(frozen=True)
class Subjects:
    """How many synthetic subjects to make of each kind. Test subjects are revocable too."""

    public_train: int = 24
    public_valid: int = 8
    revocable_train: int = 40
    revocable_test: int = 12


def planted_trait(seed: int, subject: str, modality: Modality) -> NDArray[np.float64]:
    """The unit direction [F] that marks this subject in this channel; it does not depend on the rest of the cohort."""
    name = hashlib.sha256(f"synthetic trait {seed} {subject} {modality}".encode()).digest()
    direction = np.random.default_rng(list(name)).standard_normal(DIMS[modality])
    return direction / float(np.linalg.norm(direction))


def synthetic_cohort(
    seed: int = 0,
    *,
    subjects: Subjects | None = None,
    clips: int = 20,
    missing: float = 0.1,
    trait_strength: float = 1.5,
    sequence: bool = False,
) -> Cohort:
    """A cohort of synthetic people with sentiment scores in [-3, 3].

    Args:
        seed: the same seed makes the same cohort, bit for bit.
        subjects: how many of each kind.
        clips: of each subject.
        missing: the rate at which a channel of a clip is absent; every clip keeps at least one.
        trait_strength: the length of each planted trait; 0 plants none.
        sequence: voice and face as sequences of 3 to 12 frames around their vector, instead of vectors.
    """
    rng = np.random.default_rng(seed)
    shows = {m: rng.standard_normal((2, dim)) / np.sqrt(2) for m, dim in DIMS.items()}
    rows: list[Row] = []
    features: dict[Modality, list[Feature | None]] = {m: [] for m in Modality}
    for subject, partition, split in _people(subjects or Subjects()):
        mood = _MOOD * rng.standard_normal()
        traits = {m: trait_strength * planted_trait(seed, subject, m) for m in Modality}
        for clip in range(clips):
            shared = rng.standard_normal()
            own = {m: rng.standard_normal() for m in Modality}
            score = mood + _SHARED_WEIGHT * shared + sum(_OWN_WEIGHT[m] * own[m] for m in Modality)
            label = float(np.clip(np.round(score * 5) / 5, -3, 3))
            rows.append(Row(f"{subject}-clip-{clip:02d}", subject, label, partition, split))
            kept = rng.random(len(Modality)) >= missing
            kept[rng.integers(len(Modality))] |= not kept.any()
            for m, is_kept in zip(Modality, kept, strict=True):
                signal = np.array([shared, own[m]]) @ shows[m] + traits[m]
                vector = signal + _NOISE[m] * rng.standard_normal(DIMS[m])
                feature = _frames(vector, rng) if sequence and m is not Modality.TEXT else vector
                features[m].append(feature.astype(np.float32) if is_kept else None)
    cohort = Cohort(
        name=f"synthetic-{seed}",
        description="Synthetic: numbers made by a program from a seed, of no person. Sentiment is spread over text, "
        "audio and vision, and every synthetic subject carries a planted trait in each channel.",
        synthetic=True,
        task=Task("regression", low=-3.0, high=3.0),
        channels={m: _channel(m, sequence) for m in Modality},
        rows=tuple(rows),
        features={m: tuple(column) for m, column in features.items()},
    )
    validate(cohort)
    return cohort


def _people(subjects: Subjects) -> list[tuple[str, Partition, Split]]:
    places = (
        [(Partition.PUBLIC, Split.TRAIN)] * subjects.public_train
        + [(Partition.PUBLIC, Split.VALID)] * subjects.public_valid
        + [(Partition.REVOCABLE, Split.TRAIN)] * subjects.revocable_train
        + [(Partition.REVOCABLE, Split.TEST)] * subjects.revocable_test
    )
    return [(f"synthetic-{i:03d}", partition, split) for i, (partition, split) in enumerate(places, start=1)]


def _channel(modality: Modality, sequence: bool) -> Channel:
    return Channel(
        modality,
        "sequence" if sequence and modality is not Modality.TEXT else "vector",
        DIMS[modality],
        extractor="synthetic: made by a program, of no person",
    )


def _frames(vector: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """[T, F]: frames that scatter around the vector."""
    frames = int(rng.integers(_FRAMES[0], _FRAMES[1] + 1))
    return vector + 0.5 * rng.standard_normal((frames, len(vector)))
