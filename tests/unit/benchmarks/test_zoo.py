"""The benchmark of the zoo: folds are put together, and ratios and correlations are the right ones."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import alignmamba
from benchmarks.reliability import falls
from benchmarks.zoo import pool, training
from mbd.benchmark.result import Measured, Result


def fold(rows, **metrics):
    errors = tuple(0.5 * n for n in rows)
    conditions = {"fixed/ta": Measured("fixed", f"masks of {rows}", metrics, errors)}
    return Result("mbd", 3, "00", 10, float(sum(rows)), 7, 5, rows, conditions, {"text": 0.1}, 0.2, 0.4)


def test_every_person_of_every_fold_is_there_once_and_metrics_count_by_rows():
    pooled = pool([fold((2, 1), mae=0.5, corr=0.1), fold((9,), mae=0.9, corr=0.3)])
    assert pooled.rows == (2, 1, 9)
    found = pooled.conditions["fixed/ta"]
    assert found.errors == (1.0, 0.5, 4.5)
    assert found.metrics == pytest.approx({"mae": (3 * 0.5 + 9 * 0.9) / 12, "corr": (3 * 0.1 + 9 * 0.3) / 12})
    assert (pooled.backbone, pooled.seed, pooled.milliseconds) == ("mbd", 3, 6.0)
    assert pooled.mli == pytest.approx(0.4)
    assert pooled.shapley == pytest.approx({"text": 0.1})


def test_what_one_fold_does_not_have_is_not_made_up():
    pooled = pool([fold((2,), mae=0.5, corr=0.1), replace(fold((3,), mae=0.9), mei=None)])
    assert set(pooled.conditions["fixed/ta"].metrics) == {"mae"}
    assert pooled.mei is None
    assert pooled.mli is not None


def test_a_training_is_told_with_its_end_its_error_and_its_masks():
    one, other = fold((2, 1), mae=0.5), fold((3,), mae=0.5)
    told = training(4, one)
    masks = told.pop("masks")
    assert told == {"fold": 4, "backbone": "mbd", "seed": 3, "epochs": 7, "kept": 6, "error": 0.5}
    assert masks == training(0, replace(one, backbone="control"))["masks"] != training(0, other)["masks"]


def test_masks_of_other_folds_are_other_masks():
    one, other = fold((2,), mae=0.5), fold((3,), mae=0.5)
    digests = {pool(folds).conditions["fixed/ta"].masks for folds in ([one, one], [one, other], [other, one])}
    assert len(digests) == 3


def test_reliability_that_falls_on_average_may_not_fall_in_each_row():
    strengths = (0.0, 1.0, 2.0)
    found = falls(strengths, np.array([[0.9, 0.5, 0.3], [0.5, 0.6, 0.3], [0.1, 0.7, 0.3]]))
    assert found == pytest.approx({"mean": -1.0, "each": 0.0})  # the row without any change says nothing


def test_ratios_are_of_the_first_to_the_second_whoever_works_first(monkeypatch):
    monkeypatch.setattr(alignmamba, "seconds", lambda work: work())
    asked = []
    found = alignmamba.ratio("half more", lambda: asked.append("one") or 3.0, lambda: asked.append("other") or 2.0)
    assert found == {"ratio": 1.5, "low": 1.5, "high": 1.5}
    assert {tuple(asked[n : n + 2]) for n in range(0, len(asked), 2)} == {("one", "other"), ("other", "one")}
