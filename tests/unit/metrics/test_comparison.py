"""Differences between models over seeds and people."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mbd.errors import MbdError
from mbd.metrics.bootstrap import paired_interval
from mbd.metrics.comparison import compare

ONES = np.ones((2, 2))


def effects(draws, seeds, people, *, of_seeds, of_people, of_both):
    """A difference of each seed and person: what the seed brings, what the person brings, and chance."""
    return (
        of_seeds * draws.normal(size=(seeds, 1))
        + of_people * draws.normal(size=(1, people))
        + of_both * draws.normal(size=(seeds, people))
    )


@pytest.mark.parametrize(
    ("of_seeds", "of_people", "of_both"),
    [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.2, 1.0, 1.0), (1.0, 1.0, 1.0)],
)
def test_the_interval_covers_the_truth_as_often_as_it_says(of_seeds, of_people, of_both):
    draws = np.random.default_rng(1)
    rows = np.tile(draws.integers(1, 20, size=30).astype(float), (5, 1))
    hits = 0
    for _ in range(1000):
        first = (0.3 + effects(draws, 5, 30, of_seeds=of_seeds, of_people=of_people, of_both=of_both)) * rows
        found = compare(first, np.zeros_like(rows), rows)
        hits += found.low <= 0.3 <= found.high
    assert hits >= 930  # three standard deviations of the count below 950


def test_people_alone_cover_too_seldom_when_seeds_differ():
    """Why the bootstrap over people is not enough for a table of models."""
    draws, rows = np.random.default_rng(2), np.ones((5, 30))
    hits = {"people": 0, "both": 0}
    for trial in range(200):
        first = 0.3 + effects(draws, 5, 30, of_seeds=1.0, of_people=1.0, of_both=0.0)
        people = paired_interval(first.sum(axis=0), rows.sum(axis=0), resamples=300, seed=trial)
        both = compare(first, np.zeros_like(rows), rows)
        hits["people"] += people.low <= 0.3 <= people.high
        hits["both"] += both.low <= 0.3 <= both.high
    assert hits["people"] < 140
    assert hits["both"] > 180


def test_without_noise_of_seeds_it_is_the_interval_over_people():
    draws = np.random.default_rng(3)
    first = np.tile(draws.normal(0.2, 1.0, size=200), (5, 1))
    rows = np.tile(draws.integers(1, 5, size=200).astype(float), (5, 1))
    found = compare(first * rows, np.zeros_like(rows), rows)
    people = paired_interval((first * rows).sum(axis=0), rows.sum(axis=0))
    assert found.mean == pytest.approx(people.mean)
    assert (found.low, found.high) == pytest.approx((people.low, people.high), abs=0.02)
    assert found.seed_sd == pytest.approx(0.0, abs=1e-12)
    assert found.exceeds_seed_noise


def test_seed_noise_is_what_a_paired_t_test_over_seeds_calls_so():
    by_seed = np.array([[0.10], [0.12], [0.08], [0.11], [0.09]])
    clear = compare(np.tile(by_seed, (1, 4)), np.zeros((5, 4)), np.ones((5, 4)))
    assert clear.seed_sd == pytest.approx(by_seed.std(ddof=1))
    assert clear.exceeds_seed_noise
    half = 2.776445 * by_seed.std(ddof=1) / np.sqrt(5)  # Student's t at 4 degrees of freedom, 97.5 %
    assert (clear.low, clear.high) == pytest.approx((0.1 - half, 0.1 + half), abs=1e-6)
    noisy = compare(np.tile(by_seed - 0.09, (1, 4)), np.zeros((5, 4)), np.ones((5, 4)))
    assert noisy.seed_sd == pytest.approx(clear.seed_sd)
    assert not noisy.exceeds_seed_noise


def test_a_difference_that_everybody_has_at_every_seed_is_certain():
    rows = np.array([[4.0, 2.0, 8.0]] * 3)
    found = compare(rows, rows / 2, rows)
    assert (found.mean, found.low, found.high, found.seed_sd) == (0.5, 0.5, 0.5, 0.0)
    assert found.exceeds_seed_noise
    none = compare(rows, rows, rows)
    assert (none.mean, none.low, none.high) == (0.0, 0.0, 0.0)
    assert not none.exceeds_seed_noise


def test_a_seed_may_test_other_people():
    rows = np.array([[2.0, 0.0, 1.0], [0.0, 3.0, 1.0]])
    found = compare(rows * [[0.5], [0.7]], np.zeros_like(rows), rows)
    assert found.mean == pytest.approx((3 * 0.5 + 4 * 0.7) / 7)
    assert found.seed_sd == pytest.approx(np.std([0.5, 0.7], ddof=1))
    assert found.low < found.mean < found.high


def test_differences_whose_squares_are_no_numbers_any_more_still_have_an_interval():
    rows = np.ones((3, 4))
    found = compare(np.arange(12.0).reshape(3, 4) * 1e-160, np.zeros_like(rows), rows)
    assert found.low <= found.mean <= found.high


errors = arrays(np.float64, (3, 4), elements=st.floats(-5, 5))


@given(errors, errors, arrays(np.float64, (3, 4), elements=st.integers(1, 9).map(float)), st.data())
def test_the_order_of_models_turns_the_sign_and_the_order_of_people_and_seeds_nothing(first, second, rows, data):
    found, turned = compare(first, second, rows), compare(second, first, rows)
    assert (turned.mean, turned.low, turned.high) == pytest.approx((-found.mean, -found.high, -found.low), abs=1e-9)
    seeds, people = (data.draw(st.permutations(range(size))) for size in first.shape)
    again = compare(*(array[seeds][:, people] for array in (first, second, rows)))
    assert (again.mean, again.low, again.high) == pytest.approx((found.mean, found.low, found.high), abs=1e-6)
    assert found.low <= found.mean <= found.high


@pytest.mark.parametrize(
    ("first", "second", "rows"),
    [
        (ONES[:1], ONES[:1], ONES[:1]),
        (ONES[:, :1], ONES[:, :1], ONES[:, :1]),
        (ONES, ONES[:1], ONES),
        (ONES, ONES, -ONES),
        (ONES, ONES, np.array([[1.0, 0.0], [1.0, 0.0]])),
        (ONES, ONES, np.array([[1.0, 1.0], [0.0, 0.0]])),
        (ONES[0], ONES[0], ONES[0]),
    ],
)
def test_too_few_seeds_or_people_are_refused(first, second, rows):
    with pytest.raises(MbdError, match="two of each"):
        compare(first, second, rows)
