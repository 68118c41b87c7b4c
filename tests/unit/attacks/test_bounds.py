"""Bounds from counts: exact intervals, known numbers, and never above the truth more often than stated."""

import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest, norm

from mbd.attacks.bounds import Hits, Roc, best_threshold, clopper_pearson, hits_above, mean_interval
from mbd.errors import AttackError


@pytest.mark.parametrize(("hits", "trials"), [(0, 10), (10, 10), (3, 17), (250, 1000)])
def test_the_interval_is_the_exact_one(hits, trials):
    exact = binomtest(hits, trials).proportion_ci(0.95, method="exact")
    assert clopper_pearson(hits, trials, confidence=0.95) == pytest.approx((exact.low, exact.high), abs=1e-12)


@pytest.mark.parametrize("probability", [0.01, 0.3, 0.5, 0.97])
def test_the_interval_covers_as_often_as_it_says(probability):
    trials = 40
    covered = 0.0
    for hits in range(trials + 1):
        low, high = clopper_pearson(hits, trials, confidence=0.9)
        covered += binom.pmf(hits, trials, probability) * (low <= probability <= high)
    assert covered >= 0.9


@pytest.mark.parametrize("counts", [(-1, 5, 0.9), (6, 5, 0.9), (0, 0, 0.9), (1, 5, 1.0)])
def test_impossible_counts_are_refused(counts):
    hits, trials, confidence = counts
    with pytest.raises(AttackError, match="have no interval"):
        clopper_pearson(hits, trials, confidence=confidence)


def test_the_bound_of_mu_is_below_the_truth_and_close_to_it():
    rng = np.random.default_rng(0)
    bounds = []
    for _ in range(200):
        exposed, unexposed = rng.normal(1.0, 1, 2000), rng.normal(0.0, 1, 2000)
        bounds.append(hits_above(exposed, unexposed, 0.5).mu(0.95))
    assert np.mean(np.array(bounds) > 1.0) <= 0.05
    assert np.mean(bounds) > 0.85


def test_perfect_separation_and_none_give_known_numbers():
    perfect = Hits(true=100, exposed=100, false=0, unexposed=100)
    low, high = clopper_pearson(100, 100, confidence=0.95)[0], clopper_pearson(0, 100, confidence=0.95)[1]
    assert perfect.mu(0.95) == pytest.approx(norm.ppf(low) - norm.ppf(high))
    assert perfect.epsilon(1e-5, 0.95) == pytest.approx(math.log((low - 1e-5) / high))
    none = Hits(true=50, exposed=100, false=50, unexposed=100)
    assert none.mu(0.95) == none.epsilon(1e-5, 0.95) == 0.0
    assert Hits(100, 100, 100, 100).mu(0.95) == 0.0


def test_a_curve_of_ties_has_one_step_for_all_of_them():
    roc = Roc.of(np.array([1.0, 1.0, 2.0]), np.array([1.0, 0.0]))
    assert roc.false_P.tolist() == [0.0, 0.0, 0.5, 1.0]
    assert roc.true_P.tolist() == pytest.approx([0.0, 1 / 3, 1.0, 1.0])
    assert roc.auc == pytest.approx(1 / 3 * 0.5 + 2 / 3 * 0.5 / 2 + 0.5)
    assert roc.true_at(0.4) == pytest.approx(1 / 3)
    assert roc.hits_at(0.5) == Hits(3, 3, 1, 2)


def test_the_area_is_the_chance_that_an_exposed_score_is_larger():
    rng = np.random.default_rng(1)
    exposed, unexposed = rng.normal(0.7, 1, 300), rng.normal(0, 1, 200)
    larger = (exposed[:, None] > unexposed[None]).mean()
    assert Roc.of(exposed, unexposed).auc == pytest.approx(larger)


def test_the_best_threshold_lies_between_two_groups():
    exposed, unexposed = np.linspace(2, 3, 100), np.linspace(0, 1, 100)
    threshold = best_threshold(exposed, unexposed, confidence=0.95)
    assert 1 < threshold <= 2


@pytest.mark.parametrize("worlds", [3, 5, 12])
def test_an_interval_of_few_worlds_holds_the_mean_as_often_as_it_says(worlds):
    rng = np.random.default_rng(0)
    intervals = [mean_interval(rng.normal(3.0, 2.0, worlds), 0.95) for _ in range(2000)]
    held = np.mean([low <= 3.0 <= high for low, high in intervals])
    assert 0.93 < held < 0.97
