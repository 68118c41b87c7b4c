"""What the tests of the cohort share: bit-for-bit comparison, and a small sound cohort to spoil."""

import numpy as np
import pytest

from mbd.cohort.cohort import Channel, Cohort, Partition, Row, Split, Task
from mbd.cohort.modality import Modality


def _same(one: Cohort, other: Cohort) -> bool:
    declared = ("name", "description", "synthetic", "task", "rows")
    return (
        all(getattr(one, field) == getattr(other, field) for field in declared)
        and dict(one.channels) == dict(other.channels)
        and all(
            _same_bits(a, b) for m in one.modalities for a, b in zip(one.features[m], other.features[m], strict=True)
        )
    )


def _same_bits(a, b) -> bool:
    if a is None or b is None:
        return a is b
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.fixture(scope="session")
def same():
    return _same


@pytest.fixture
def small() -> Cohort:
    """Two public and three revocable subjects; text vectors and audio sequences; ``dan`` has no audio."""
    people = {
        "ann": (Partition.PUBLIC, Split.TRAIN),
        "bob": (Partition.PUBLIC, Split.VALID),
        "cem": (Partition.REVOCABLE, Split.TRAIN),
        "dan": (Partition.REVOCABLE, Split.TRAIN),
        "eve": (Partition.REVOCABLE, Split.TEST),
    }
    rows = tuple(Row(f"{who}-{c}", who, float(c - 1), *place) for who, place in people.items() for c in range(3))
    rng = np.random.default_rng(0)
    text = [rng.normal(size=4).astype(np.float32) for _ in rows]
    audio = [rng.normal(size=(1 + i % 3, 2)).astype(np.float32) for i in range(len(rows))]
    return Cohort(
        name="small",
        description="A small cohort for tests.",
        synthetic=True,
        task=Task("regression", low=-3.0, high=3.0),
        channels={
            Modality.TEXT: Channel(Modality.TEXT, "vector", 4, extractor="random"),
            Modality.AUDIO: Channel(Modality.AUDIO, "sequence", 2, extractor="random"),
        },
        rows=rows,
        features={
            Modality.TEXT: tuple(text),
            Modality.AUDIO: tuple(None if r.subject == "dan" else a for r, a in zip(rows, audio, strict=True)),
        },
    )
