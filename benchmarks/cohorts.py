"""The runs on real people that every benchmark shares: who is public, revocable and unseen; and what was measured."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mbd.cohort.cohort import Cohort
from mbd.cohort.importers.mosi import mosi
from mbd.cohort.importers.ravdess import ravdess, ravdess_fold

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
RESULTS = Path(__file__).with_name("results")
SEEDS, FOLDS = 5, 6
NAMES = {"t": "text", "a": "voice", "v": "face", "ta": "text + voice", "av": "voice + face"}


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


def load_results(name: str) -> dict[str, Any]:
    """What the last run of a cohort's benchmark measured."""
    result: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return result


def size_then_order(pattern: str) -> tuple[int, list[int]]:
    """Sorts availability patterns as everywhere: small ones first, then text, voice, face."""
    return len(pattern), ["tav".index(letter) for letter in pattern]
