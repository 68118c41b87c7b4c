"""The accountant against three others: Opacus' PRV, the closed form at q = 1, and numerical integration of one step."""

import doctest
import math
import warnings
from dataclasses import astuple

import numpy as np
import pytest
from scipy.stats import binom, norm

from mbd.errors import PrivacyError
from mbd.privacy import accounting, gaussian
from mbd.privacy.accounting import Run, calibrate, epsilon_of, joint_epsilon, k_max

REFERENCE = Run(rate=0.01, noise_multiplier=1.0, steps=1000)
SMALL = Run(rate=0.1, noise_multiplier=8.0, steps=100)


def hockey_stick_of_one_step(run, subjects, epsilon):
    """delta(epsilon) of one step by quadrature, the larger of the two directions."""
    sigma = run.noise_multiplier
    x, width = np.linspace(-12 * sigma, subjects + 12 * sigma, 400_001, retstep=True)
    chances = binom.pmf(np.arange(subjects + 1), subjects, run.rate)
    with_them = sum(chance * norm.pdf(x, loc=j, scale=sigma) for j, chance in enumerate(chances))
    without_them = norm.pdf(x, scale=sigma)
    pairs = ((with_them, without_them), (without_them, with_them))
    return max(np.maximum(p - math.exp(epsilon) * q, 0.0).sum() * width for p, q in pairs)


def test_the_doctests_hold():
    assert doctest.testmod(accounting).failed == 0


@pytest.mark.parametrize(
    ("run", "delta"),
    [(REFERENCE, 1e-5), (Run(rate=0.05, noise_multiplier=2.0, steps=400), 1e-6)],
)
def test_opacus_prv_accountant_agrees_within_one_percent(run, delta):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Opacus and what it imports warn about their own futures
        from opacus.accountants import PRVAccountant

    prv = PRVAccountant()
    prv.history = [(run.noise_multiplier, run.rate, run.steps)]
    assert epsilon_of(run, delta) == pytest.approx(prv.get_epsilon(delta, eps_error=0.01), rel=0.01)


def test_the_reference_figure_has_not_moved():
    assert epsilon_of(REFERENCE, 1e-5) == pytest.approx(1.8282, abs=1e-4)


@pytest.mark.parametrize("subjects", [1, 3])
def test_without_sampling_it_is_the_gaussian_mechanism_in_closed_form(subjects):
    run = Run(rate=1.0, noise_multiplier=30.0, steps=100)
    exact = gaussian.epsilon_of(subjects * math.sqrt(run.steps) / run.noise_multiplier, 1e-9)
    assert exact <= epsilon_of(run, 1e-9, subjects=subjects) <= exact * 1.001


@pytest.mark.parametrize(("run", "subjects"), [(Run(0.1, 1.0, 1), 1), (Run(0.1, 1.0, 1), 2), (Run(0.3, 2.0, 1), 5)])
def test_one_step_with_k_subjects_is_what_integration_gives_and_never_less(run, subjects):
    delta = 1e-5
    epsilon = epsilon_of(run, delta, subjects=subjects)
    assert hockey_stick_of_one_step(run, subjects, epsilon) <= delta * (1 + 1e-6)
    assert hockey_stick_of_one_step(run, subjects, epsilon * 0.995) > delta


def test_more_subjects_cost_more_and_a_group_costs_less_than_the_generic_lemma():
    epsilons = [epsilon_of(SMALL, 1e-6, subjects=k) for k in (1, 2, 3)]
    assert epsilons == sorted(epsilons)
    # the lemma (Vadhan 2017, Lemma 2.2): (eps, delta) for one gives (k eps, k e^(k eps) delta) for k
    one = epsilon_of(SMALL, 1e-9)
    delta_of_two = 2 * math.exp(2 * one) * 1e-9
    assert epsilon_of(SMALL, delta_of_two, subjects=2) < 2 * one


def test_releases_compose_to_more_than_each_and_to_no_more_than_their_sum():
    mu = gaussian.mu_of(0.5, 1e-9)
    tower = epsilon_of(SMALL, 1e-9)
    both = joint_epsilon([(SMALL, 1)], 2e-9, mu=mu)
    assert max(tower, 0.5) < both <= tower + 0.5
    two_towers = joint_epsilon([(SMALL, 1), (SMALL, 1)], 1e-9)
    assert two_towers == pytest.approx(epsilon_of(Run(0.1, 8.0, 200), 1e-9), rel=1e-3)


def test_heads_alone_are_the_closed_form_and_nothing_costs_nothing():
    assert joint_epsilon([], 1e-9, mu=0.2) == pytest.approx(gaussian.epsilon_of(0.2, 1e-9), rel=0.01)
    assert joint_epsilon([(SMALL, 0)], 1e-9) == 0.0


@pytest.mark.parametrize(("epsilon", "rate", "steps"), [(0.3, 0.2, 20), (1.0, 0.05, 100), (4.0, 1.0, 50)])
def test_calibrated_noise_keeps_the_promise_and_a_little_less_would_not(epsilon, rate, steps):
    sigma = calibrate(epsilon, 1e-6, rate, steps)
    assert epsilon_of(Run(rate, sigma, steps), 1e-6) <= epsilon
    assert epsilon_of(Run(rate, sigma - 0.002, steps), 1e-6) > epsilon


@pytest.mark.parametrize("policy", [0.2, 2.0])
def test_capacity_is_the_last_number_of_subjects_within_policy(policy):
    capacity = k_max(SMALL, policy, 1e-9)
    assert capacity == 0 or epsilon_of(SMALL, 1e-9, subjects=capacity) <= policy
    assert epsilon_of(SMALL, 1e-9, subjects=capacity + 1) > policy


def test_capacity_stops_where_its_search_ends(monkeypatch):
    monkeypatch.setattr(accounting, "MOST_SUBJECTS", 4)
    assert k_max(Run(rate=0.01, noise_multiplier=50.0, steps=1), 1.0, 1e-9) == 4


@pytest.mark.parametrize(
    "change",
    [{"rate": 0.0}, {"rate": 1.1}, {"noise_multiplier": 0.0}, {"noise_multiplier": math.nan}, {"steps": 0}],
)
def test_a_run_that_is_none_is_refused(change):
    fields = dict(zip(("rate", "noise_multiplier", "steps"), astuple(SMALL), strict=True))
    with pytest.raises(PrivacyError, match="Remedy: choose 0 < q"):
        Run(**(fields | change))


@pytest.mark.parametrize("delta", [0.0, 1e-12, 1.0, math.nan])
def test_a_delta_that_the_arithmetic_cannot_carry_is_refused(delta):
    with pytest.raises(PrivacyError, match="delta"):
        epsilon_of(SMALL, delta)


def test_negative_counts_and_policies_are_refused():
    for call in (
        lambda: joint_epsilon([(SMALL, -1)], 1e-9),
        lambda: joint_epsilon([(SMALL, 1)], 1e-9, mu=-1.0),
        lambda: k_max(SMALL, 0.0, 1e-9),
        lambda: calibrate(-1.0, 1e-9, 0.1, 10),
    ):
        with pytest.raises(PrivacyError, match="Remedy"):
            call()
