"""Processes that `train_by` starts: the reason why one of them stopped arrives, and none is left behind."""

from dataclasses import replace
from multiprocessing import active_children

import pytest
import torch.distributed as dist

from mbd.cohort import folder
from mbd.cohort.synthetic import Subjects, synthetic_cohort
from mbd.errors import CohortError, RanksError
from mbd.training.loop import train
from mbd.training.processes import train_by
from mbd.training.recipe import Recipe

RECIPE = Recipe(options={"width": 8, "property_width": 6}, epochs=1)


@pytest.fixture(scope="module")
def cohort():
    return synthetic_cohort(subjects=Subjects(5, 2, 1, 1), clips=4)


@pytest.fixture(autouse=True)
def _nothing_is_left():
    yield
    assert active_children() == []
    assert not dist.is_initialized()


def test_one_process_is_a_plain_call_that_reads_no_folder(cohort, tmp_path):
    alone = train_by(1, RECIPE, cohort, stored=tmp_path / "nothing", seed=0)
    assert alone.transcript.to_bytes() == train(RECIPE, cohort, seed=0).transcript.to_bytes()


def test_the_error_of_another_process_arrives_whole(cohort, tmp_path):
    with pytest.raises(CohortError, match=str(tmp_path / "nothing")):
        train_by(2, RECIPE, cohort, stored=tmp_path / "nothing", seed=0)


def test_other_rows_in_the_folder_are_refused(cohort, tmp_path):
    other = replace(cohort, rows=tuple(replace(row, label=-row.label) for row in cohort.rows))
    folder.write(other, tmp_path / "other", key=bytes(32))
    with pytest.raises(RanksError, match=r"The 2 processes are not at the same work: data, initial weights differ"):
        train_by(2, RECIPE, cohort, stored=tmp_path / "other", seed=0)
