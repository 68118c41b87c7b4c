"""Differences between models, with people drawn again."""

import numpy as np
import pytest

from mbd.errors import MbdError
from mbd.metrics.bootstrap import paired_interval


def test_a_difference_that_everybody_has_is_certain():
    found = paired_interval(np.array([2.0, 1.0, 4.0]), np.array([4.0, 2.0, 8.0]))
    assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    draws = np.random.default_rng(1)
    rows = np.full(40, 5.0)
    hits = 0
    for trial in range(200):
        effect = 0.3 + draws.normal(size=40)  # of each person, on all of that person's rows
        found = paired_interval(effect * rows, rows, resamples=1000, seed=trial)
        hits += found.low <= 0.3 <= found.high
    assert 180 <= hits <= 200


def test_clips_of_one_person_count_as_one_draw():
    draws = np.random.default_rng(2)
    effect = draws.normal(size=10)
    few = paired_interval(effect, np.ones(10))
    many = paired_interval(effect * 100, np.full(10, 100.0))
    assert (many.low, many.high) == pytest.approx((few.low, few.high))


@pytest.mark.parametrize(
    ("differences", "rows"), [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([1.0, 2.0], [1.0, 0.0]), ([], [])]
)
def test_too_few_people_are_refused(differences, rows):
    with pytest.raises(MbdError, match="two people"):
        paired_interval(np.array(differences), np.array(rows))
