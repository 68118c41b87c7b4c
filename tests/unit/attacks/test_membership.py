"""The membership attack finds people whom a model knows, nobody where there is nothing, and says how sure it is."""

import numpy as np
import pytest

from mbd.attacks.bounds import Roc
from mbd.attacks.membership import (
    Membership,
    Rate,
    challenge_forgetting,
    compare_membership,
    likelihood_ratio_membership,
    log_ratios,
)
from mbd.errors import AttackError

WORLDS, PEOPLE = 16, 12


@pytest.fixture
def worlds():
    """``worlds(shift)``: scores in which exposure adds ``shift`` standard deviations to each person's own level."""

    def make(shift, seed=0):
        rng = np.random.default_rng(seed)
        exposed_WS = np.stack([rng.permutation(WORLDS) < WORLDS // 2 for _ in range(PEOPLE)], axis=1)
        level_S = 10 * rng.standard_normal(PEOPLE)
        return level_S + shift * exposed_WS + rng.standard_normal((WORLDS, PEOPLE)), exposed_WS

    return make


def attack(scores, exposed):
    return likelihood_ratio_membership(scores, exposed, delta=1e-5, seed=0)


def test_exposure_that_shows_is_found_although_people_differ_far_more_than_it(worlds):
    found = attack(*worlds(3.0))
    assert found.auc.value > 0.9
    assert found.auc.low > 0.8
    assert found.true_at[0.01].low > 0.25
    assert found.epsilon > 1.0
    score_WS, exposed_WS = worlds(3.0)
    assert Roc.of(score_WS[exposed_WS], score_WS[~exposed_WS]).auc < 0.7  # one threshold for all finds little


def test_where_nothing_shows_nothing_is_found(worlds):
    found = [attack(*worlds(0.0, seed)) for seed in range(10)]
    assert all(each.auc.low < 0.5 for each in found)
    assert 0.45 < np.mean([each.auc.value for each in found]) < 0.55
    assert sum(each.epsilon > 0 for each in found) <= 1


def test_a_world_is_judged_by_the_others_alone(worlds):
    score_WS, exposed_WS = worlds(1.0)
    ratios = log_ratios(score_WS, exposed_WS)
    changed = exposed_WS.copy()
    changed[3] = ~changed[3]
    assert np.array_equal(log_ratios(score_WS, changed)[3], ratios[3])
    assert not np.array_equal(log_ratios(score_WS, changed)[4], ratios[4])


def test_ratios_are_those_of_two_gaussians():
    score_WS = np.array([[0.0], [2.0], [1.0], [3.0], [5.0]])
    exposed_WS = np.array([[False], [False], [True], [True], [True]])
    unexposed, exposed, variance = 1.0, 2.0, (2 + 2) / 2  # of the four others; four scores, two means
    wanted = ((5 - unexposed) ** 2 - (5 - exposed) ** 2) / (2 * variance)
    assert log_ratios(score_WS, exposed_WS)[4, 0] == pytest.approx(wanted)


def test_too_little_to_learn_from_is_refused(worlds):
    score_WS, exposed_WS = worlds(1.0)
    with pytest.raises(AttackError, match="do not carry"):
        attack(score_WS[:3], exposed_WS[:3])
    with pytest.raises(AttackError, match="nearly all worlds"):
        attack(score_WS, np.ones_like(exposed_WS))
    score_WS[0, 0] = np.nan
    with pytest.raises(AttackError, match="do not carry"):
        attack(score_WS, exposed_WS)


def test_a_verdict_compares_with_the_null_and_the_claim():
    roc = Roc.of(np.array([1.0, 2.0]), np.array([0.0, 1.5]))

    def made(low, high, epsilon=0.0):
        rate = Rate((low + high) / 2, low, high)
        return Membership(roc, rate, {0.001: rate, 0.01: rate}, epsilon, 1e-5, 0.95, 16, 12)

    null = made(0.4, 0.6)
    assert compare_membership(made(0.45, 0.65), null, claim=1.0, target="t", seed=0).verdict == "held"
    assert compare_membership(made(0.7, 0.9), null, claim=1.0, target="t", seed=0).verdict == "broken"
    assert compare_membership(made(0.45, 0.65, 1.5), null, claim=1.0, target="t", seed=0).verdict == "broken"


def test_the_challenge_scores_perfect_forgetting_by_1_and_none_by_nearly_0():
    rng = np.random.default_rng(0)
    same = rng.standard_normal((5, 200))
    assert challenge_forgetting(same, same) == 1.0
    assert challenge_forgetting(same + 100, same) == pytest.approx(2.0**-12)
    between = challenge_forgetting(same + 1.0, same)
    assert challenge_forgetting(same + 3.0, same) < between < 1.0


def test_the_challenge_counts_bins_of_half_an_epsilon():
    unlearned, retrained = np.array([[0.0, 0.0, 1.0, 1.0]]), np.array([[0.0, 0.0, 0.0, 1.0]])
    # the only threshold: (1 - FPR) / FNR = .75 / .5 and (1 - FNR) / FPR = .5 / .25: epsilon = ln 2, the second bin
    assert challenge_forgetting(unlearned, retrained) == 0.5
