"""The one-run audit: known numbers of the theorem, a sound run holds, and a run with too little noise is caught."""

import numpy as np
import pytest
from scipy.stats import binom

from mbd.attacks.one_run import audit_private_training, one_run_epsilon
from mbd.errors import AttackError
from mbd.privacy.noise import NoiseSource
from mbd.training import private
from mbd.training.tower_recipe import PrivateRecipe, TowerRecipe

NOISE = NoiseSource(b"an audit's noise is known to all")
CANARIES = 512


def recipe(**changes):
    constants = {
        "rate": 0.5,
        "noise_multiplier": 4.0,
        "steps": 4,
        "subjects": CANARIES,
        "learning_rate": 1e-4,
        "momentum": 0.0,
        "delta": 1e-5,
    }
    return PrivateRecipe(TowerRecipe("audio", width=4, epochs=0), **(constants | changes))


def test_without_delta_the_bound_is_a_binomial_tail():
    epsilon = one_run_epsilon(90, 100, 100, delta=0.0, confidence=0.95)
    assert binom.sf(89, 100, 1 / (1 + np.exp(-epsilon))) == pytest.approx(0.05, rel=0.02)
    perfect = one_run_epsilon(100, 100, 100, delta=0.0, confidence=0.95)
    assert perfect == pytest.approx(np.log(0.05**0.01 / (1 - 0.05**0.01)), abs=2e-3)


def test_half_of_the_guesses_right_refutes_nothing_and_delta_only_lowers_the_bound():
    assert one_run_epsilon(50, 100, 100, delta=0.0) == 0.0
    bounds = [one_run_epsilon(95, 100, 1000, delta=delta) for delta in (0.0, 1e-6, 1e-4)]
    assert bounds[0] >= bounds[1] > bounds[2]


def test_randomised_response_is_bounded_from_below_as_often_as_stated():
    rng, epsilon = np.random.default_rng(0), 1.0
    truth = 1 / (1 + np.exp(-epsilon))
    rights = rng.binomial(300, truth, size=400)
    bounds = np.array([one_run_epsilon(int(right), 300, 300, delta=0.0, confidence=0.9) for right in rights])
    assert (bounds > epsilon + 1e-3).mean() <= 0.1
    assert bounds.mean() > 0.7


@pytest.mark.parametrize("counts", [(5, 4, 10), (1, 11, 10), (0, 0, 10)])
def test_impossible_counts_are_refused(counts):
    right, guesses, canaries = counts
    with pytest.raises(AttackError, match="cannot be"):
        one_run_epsilon(right, guesses, canaries, delta=0.0)


def test_a_sound_run_holds():
    report = audit_private_training(recipe(), canaries=CANARIES, noise=NOISE, seed=0)
    assert report.verdict == "held"
    assert 0.9 < report.claim < 1.2
    assert report.estimates[1].value > 0.4


@pytest.mark.parametrize("fault", ["a tenth of the noise", "nobody is clipped"])
def test_a_broken_run_is_caught(monkeypatch, fault):
    if fault == "nobody is clipped":
        everything = private.PrivateRecipe(**(vars(recipe()) | {"clip": 1e6}))
        clipped = private.clipped_sum
        monkeypatch.setattr(
            private, "clipped_sum", lambda given, headed, drawn, size: clipped(everything, headed, drawn, size=size)
        )
    else:
        noise_for = private._noise_for
        monkeypatch.setattr(private, "_noise_for", lambda given, sum_P, **more: 0.1 * noise_for(given, sum_P, **more))
    report = audit_private_training(recipe(), canaries=CANARIES, noise=NOISE, seed=0)
    assert report.verdict == "broken"
    assert report.estimates[0].value > report.claim


def test_too_few_canaries_are_refused():
    with pytest.raises(AttackError, match="decide nothing"):
        audit_private_training(recipe(), canaries=8, noise=NOISE, seed=0)
