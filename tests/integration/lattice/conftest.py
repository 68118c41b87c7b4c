"""A saved model and the cohort folder that it was made from, as other processes find them."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from mbd.cohort import folder
from mbd.lattice.model import LatticeModel, save_model


@dataclass(frozen=True)
class Stored:
    """What lies where, and the statistics that one process makes in memory."""

    cohort: Path
    model: Path
    made: LatticeModel


@pytest.fixture(scope="session")
def stored(random_cohort, fit_small, tmp_path_factory) -> Stored:
    base = tmp_path_factory.mktemp("stored")
    cohort = random_cohort(11, subjects=14, clips=4)
    model = fit_small(cohort)
    folder.write(cohort, base / "cohort", key=bytes(32))
    save_model(model, base / "model", cohort_root="c" * 64)
    return Stored(base / "cohort", base / "model", model)
