"""The runs on real people that every benchmark shares: which people are public, revocable and unseen in each."""

from collections.abc import Iterator
from pathlib import Path

from mbd.cohort.cohort import Cohort
from mbd.cohort.importers.mosi import mosi
from mbd.cohort.importers.ravdess import ravdess, ravdess_fold

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
RESULTS = Path(__file__).with_name("results")
SEEDS, FOLDS = 5, 6


def runs(name: str) -> int:
    """How many there are."""
    return SEEDS * (1 if name == "mosi" else FOLDS)


def cohorts(name: str) -> Iterator[tuple[int, int, Cohort]]:
    """(seed, fold, cohort): six folds of actors a seed, or the official split with another draw of public videos."""
    for seed in range(SEEDS):
        if name == "mosi":
            yield seed, 0, mosi(DATA / "mosi", seed=seed)
        else:
            for fold in range(FOLDS):
                yield seed, fold, ravdess(DATA / "ravdess", **ravdess_fold(seed, fold))
