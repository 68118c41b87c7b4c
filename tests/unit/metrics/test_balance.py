"""Shapley's axioms, and the ends of both scales."""

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mbd.cohort.modality import Modality, parse_pattern, subsets
from mbd.errors import MbdError
from mbd.metrics.balance import contributions, learning_imbalance

T, A, V = Modality
SETS = subsets(Modality)

score = st.floats(-10, 10).map(lambda x: round(x, 6))
games = st.lists(score, min_size=7, max_size=7).map(lambda values: dict(zip(SETS, values, strict=True)))


def additive(worth):
    """A game in which every modality adds its own."""
    return {s: sum(worth[m] for m in s) for s in subsets(worth)}


@given(games, score)
def test_shapley_values_are_the_mean_over_all_orders(scores, empty):
    value = {frozenset(): empty, **scores}
    orders = list(permutations(Modality))
    phi = contributions(scores, empty=empty).shapley
    for m in Modality:
        gains = [value[frozenset(o[: o.index(m) + 1])] - value[frozenset(o[: o.index(m)])] for o in orders]
        assert phi[m] == pytest.approx(np.mean(gains), abs=1e-9)


@given(games, score)
def test_they_share_out_exactly_what_all_gain_over_none(scores, empty):
    phi = contributions(scores, empty=empty).shapley
    assert sum(phi.values()) == pytest.approx(scores[frozenset(Modality)] - empty, abs=1e-9)


@given(games, score)
def test_modalities_that_can_stand_for_each_other_get_the_same(scores, empty):
    swap = {T: A, A: T, V: V}
    fair = {s: (value + scores[frozenset(swap[m] for m in s)]) / 2 for s, value in scores.items()}
    phi = contributions(fair, empty=empty).shapley
    assert phi[T] == pytest.approx(phi[A], abs=1e-9)


@given(games, score)
def test_a_modality_that_never_changes_anything_gets_nothing(scores, empty):
    value = {frozenset(): empty, **scores}
    phi = contributions({s: value[s - {V}] for s in SETS}, empty=empty).shapley
    assert phi[V] == pytest.approx(0, abs=1e-9)


def test_values_by_hand():
    names = {"t": 4.0, "a": 1.0, "ta": 6.0}
    found = contributions({parse_pattern(n): v for n, v in names.items()}, empty=1.0)
    assert found.shapley == {T: pytest.approx((3 + 5) / 2), A: pytest.approx((0 + 2) / 2)}
    shares = np.array([0.8, 0.2])
    assert found.mei == pytest.approx(-(shares * np.log(shares)).sum() / math.log(2))


@pytest.mark.parametrize("modalities", [(T, A), (A, V), (T, A, V)])
def test_mei_is_one_for_equal_contributions_and_zero_for_a_single_one(modalities):
    assert contributions(additive(dict.fromkeys(modalities, 0.3)), empty=0.0).mei == pytest.approx(1.0)
    alone = dict.fromkeys(modalities, 0.0) | {modalities[1]: 0.3}
    assert contributions(additive(alone), empty=0.0).mei == 0.0


def test_mei_counts_a_modality_that_harms_as_one_that_does_nothing_and_phi_shows_it():
    harm = contributions(additive({T: 0.3, A: 0.3, V: -0.2}), empty=0.0)
    none = contributions(additive({T: 0.3, A: 0.3, V: 0.0}), empty=0.0)
    assert harm.mei == pytest.approx(none.mei) == pytest.approx(math.log(2) / math.log(3))
    assert harm.shapley[V] == pytest.approx(-0.2)


@pytest.mark.parametrize("worth", [{T: -0.1, A: 0.0, V: -0.3}, {T: 0.0, A: 0.0, V: 0.0}, {T: 0.5}])
def test_mei_is_nan_where_there_is_nothing_to_share_out_or_nobody_to_share_it(worth):
    found = contributions(additive(worth), empty=0.0)
    assert math.isnan(found.mei)
    assert found.shapley == pytest.approx(worth)


def test_rounding_is_no_contribution():
    scores = dict.fromkeys(SETS, -1.3) | {frozenset({A}): -1.3 + 2e-16, frozenset(Modality): -1.3 + 2e-16}
    assert math.isnan(contributions(scores, empty=-1.3).mei)


@given(games, score, st.floats(0.01, 100), score)
def test_mei_is_in_its_range_and_does_not_depend_on_the_unit_or_origin_of_the_score(scores, empty, unit, origin):
    found = contributions(scores, empty=empty)
    assume(all(abs(phi) > 1e-4 for phi in found.shapley.values()))
    assert math.isnan(found.mei) or 0 <= found.mei <= 1
    other = contributions({s: origin + unit * v for s, v in scores.items()}, empty=origin + unit * empty)
    assert other.mei == pytest.approx(found.mei, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize(
    "scores",
    [
        {},
        {frozenset({T}): 1.0, frozenset({A}): 1.0},
        {frozenset({T, A}): 1.0},
        {frozenset(): 1.0, frozenset({T}): 1.0},
        {frozenset({T}): math.nan},
    ],
)
def test_scores_that_are_not_one_for_each_subset_are_refused(scores):
    with pytest.raises(MbdError, match="every subset"):
        contributions(scores, empty=0.0)


def test_mli_is_zero_when_all_learn_alike_whatever_their_size():
    sizes = np.array([4, 100, 9])
    rms = np.array([[0.5], [2.0], [0.1]])
    assert learning_imbalance(rms * np.sqrt(sizes), sizes) == pytest.approx(0.0, abs=1e-12)


def test_mli_by_hand():
    norms = np.array([[1.0, 3.0], [2.0, 2.0], [0.0, 0.0]])
    # g: 1 and 3 (SD 1, mean 2), then equal ones; the third step taught nobody
    assert learning_imbalance(norms, np.array([1, 1])) == pytest.approx((1 / 2 + 0) / 2)
    assert learning_imbalance(norms[:1], np.array([1, 9])) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("count", [2, 3])
def test_mli_is_largest_when_one_modality_learns_alone(count):
    assert learning_imbalance(np.eye(count), np.full(count, 7)) == pytest.approx(math.sqrt(count - 1))


@given(
    st.lists(st.lists(st.floats(0, 10), min_size=3, max_size=3), min_size=1, max_size=6),
    st.lists(st.integers(1, 1000), min_size=3, max_size=3),
    st.floats(0.001, 1000),
)
def test_mli_is_in_its_range_and_does_not_depend_on_the_scale_of_the_loss(norms, sizes, scale):
    norms, sizes = np.array(norms), np.array(sizes)
    assume(not ((norms > 0) & (norms < 1e-100)).any())
    found = learning_imbalance(norms, sizes)
    assert math.isnan(found) == (not norms.any())
    assert math.isnan(found) or 0 <= found <= math.sqrt(2) + 1e-9
    assert learning_imbalance(norms * scale, sizes) == pytest.approx(found, nan_ok=True, abs=1e-9)


@pytest.mark.parametrize(
    ("norms", "sizes"),
    [
        ([[1.0, 2.0]], [1]),
        ([1.0, 2.0], [1, 1]),
        ([[1.0, -2.0]], [1, 1]),
        ([[1.0, math.nan]], [1, 1]),
        ([[1.0, 2.0]], [1, 0]),
        ([[]], []),
    ],
)
def test_norms_that_cannot_be_compared_are_refused(norms, sizes):
    with pytest.raises(MbdError, match="Norms of gradients"):
        learning_imbalance(np.array(norms), np.array(sizes, dtype=np.int64))
