"""The account against closed form, the bounds against hostile numbers, and a distinguisher that tries to break it."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, norm

from mbd.errors import PrivacyError
from mbd.privacy.gaussian import delta_of, mu_of
from mbd.privacy.noise import NoiseSource
from mbd.privacy.noisy_iterations import MOST_COORDINATES, Chain, clip, iterate

FEW = Chain(start_bound=1.0, gradient_bound=0.5, rate=0.1, steps=3, coordinates=2)
ROUNDING = 1e-6  # of the grid, for the few coordinates and steps of these tests


@given(start=st.floats(0.01, 100), gradient=st.floats(0.01, 100), rate=st.floats(1e-4, 1), sigma=st.floats(0.01, 1000))
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_while_a_step_pays_mu_is_the_published_formula(start, gradient, rate, sigma, steps):
    if steps > start / (rate * gradient):
        return
    chain = Chain(start, gradient, rate, steps, coordinates=3)
    published = (2 * start + 2 * rate * gradient * steps) / (sigma * math.sqrt(steps))
    assert published <= chain.mu(sigma) * (1 + 1e-12)
    assert chain.mu(sigma) == pytest.approx(published, rel=1e-9, abs=ROUNDING)


@given(steps=st.integers(1, 300), sigma=st.floats(0.1, 10))
def test_more_steps_never_prove_less(steps, sigma):
    """The published formula grows again beyond C0 / (gamma C1) steps; a step that both chains make cannot hurt."""
    chain = dataclasses.replace(FEW, steps=steps)
    assert dataclasses.replace(chain, steps=steps + 1).mu(sigma) <= chain.mu(sigma)
    best = 2 * math.sqrt(4 * chain.start_bound * chain.rate * chain.gradient_bound) / sigma
    assert chain.mu(sigma) >= best


@given(
    mu=st.floats(0.01, 10),
    steps=st.integers(1, 200),
    coordinates=st.integers(1, 10**6),
    start=st.floats(0.01, 100),
)
def test_calibration_never_exceeds_what_was_asked_and_wastes_nothing(mu, steps, coordinates, start):
    chain = Chain(start, 1.0, 0.05, steps, coordinates)
    sigma = chain.sigma_for(mu)
    assert chain.mu(sigma) <= mu
    assert chain.mu(sigma) == pytest.approx(mu, rel=1e-9)


def test_the_noise_of_one_step_without_gradient_is_that_of_output_perturbation():
    chain = Chain(start_bound=1.0, gradient_bound=1e-12, rate=1e-12, steps=1, coordinates=1)
    mu = mu_of(1.0, 1e-5)
    assert chain.sigma_for(mu) == pytest.approx(2 * 3.7306, rel=1e-4)
    assert delta_of(chain.mu(chain.sigma_for(mu)), 1.0) <= 1e-5


@pytest.mark.parametrize(
    "wrong",
    [
        {"start_bound": 0.0},
        {"gradient_bound": -1.0},
        {"rate": math.inf},
        {"steps": 0},
        {"coordinates": 0},
        {"coordinates": MOST_COORDINATES + 1},
    ],
)
def test_a_chain_without_an_account_is_refused(wrong):
    with pytest.raises(PrivacyError, match="Remedy"):
        dataclasses.replace(FEW, **wrong)


@pytest.mark.parametrize(
    ("chain", "mu", "why"),
    [
        (FEW, 0.0, "No noise on a grid"),
        (dataclasses.replace(FEW, coordinates=MOST_COORDINATES), 1e-6, "No noise on a grid"),
        (FEW, 1e9, "the sums could round"),
        (dataclasses.replace(FEW, steps=10**6), 1.0, "the sums could round"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(chain, mu, why):
    with pytest.raises(PrivacyError, match=why):
        chain.sigma_for(mu)


@given(
    values=st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=20),
    bound=st.floats(1e-3, 1e3),
)
def test_a_clipped_vector_is_within_the_bound_whatever_it_was(values, bound):
    clipped = clip(np.array(values), bound)
    assert math.sqrt(math.fsum(float(x) ** 2 for x in clipped)) <= bound


def test_clipping_keeps_the_direction_and_leaves_short_vectors_alone():
    assert clip(np.array([3.0, 4.0]), 1.0) == pytest.approx([0.6, 0.8], rel=1e-8)
    assert clip(np.array([0.3, 0.4]), 1.0).tolist() == [0.3, 0.4]
    assert clip(np.array([np.nan, 1.0]), 1.0).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("start", [np.array([1e6, -1e6]), np.array([np.inf, 0.0]), np.array([1e-3, 2e-3])])
def test_without_noise_start_and_every_step_stay_within_their_bounds_on_the_grid(start):
    seen = []

    def gradient(x, step):
        seen.append(x)
        return np.array([(-1.0) ** step, 3.0]) * 1e9

    last = iterate(FEW, 0.7, start, gradient, lambda _step: np.zeros(2))
    grid = 2.0**-29
    assert np.linalg.norm(seen[0]) <= FEW.start_bound
    for before, after in zip(seen, [*seen[1:], last], strict=True):
        assert np.linalg.norm(after - before) <= FEW.rate * FEW.gradient_bound
        assert np.array_equal(np.rint(after / grid) * grid, after)


def test_an_iterate_is_the_formula_step_by_step():
    gradient = np.array([0.3, 0.4])
    drawn = np.random.default_rng(1).standard_normal((FEW.steps, 2))
    last = iterate(FEW, 2.0, np.array([3.0, 4.0]), lambda _x, _step: gradient, lambda step: drawn[step])
    assert last == pytest.approx([0.6, 0.8] - 3 * 0.1 * gradient + 2.0 * drawn.sum(axis=0), abs=1e-7)


def run_apart(x_D, _step):
    """The worst gradient: it drives both chains away from each other, in every coordinate."""
    return -np.where(x_D > 0, 1.0, -1.0) * 1e3


def lower_bound_of_mu(chain, sigma, spoil, *, runs=3000, confidence=0.999):
    """What a distinguisher proves about chains from opposite starts (Clopper-Pearson, best of three projections)."""
    streams = {sign: NoiseSource(bytes([64 + sign]) * 32) for sign in (1, -1)}
    last = {}
    for sign, source in streams.items():
        drawn = source.standard_normal(b"runs", runs * chain.steps * 2).reshape(runs, chain.steps, 2)
        start = sign * np.full(2, 1e3)
        last[sign] = np.array(
            [iterate(chain, sigma, start, run_apart, lambda step, z=z: spoil(z[step])) for z in drawn]
        )
    bounds = []
    alpha = (1 - confidence) / 6
    for direction in (np.array([1.0, 1.0]), np.array([1.0, 0.0]), np.array([0.0, 1.0])):
        hits, alarms = ((last[sign] @ direction > 0).sum() for sign in (1, -1))
        hit_rate = beta.ppf(alpha, hits, runs - hits + 1) if hits else 0.0
        alarm_rate = beta.ppf(1 - alpha, alarms + 1, runs - alarms) if alarms < runs else 1.0
        bounds.append(norm.ppf(hit_rate) - norm.ppf(alarm_rate))
    return max(bounds)


def honest(z):
    return z


def half(z):
    return 0.5 * z


def all_but_one(z):
    return z * [1.0, 0.0]


@pytest.mark.parametrize("chain", [FEW, dataclasses.replace(FEW, rate=1.0, steps=4)], ids=["short", "past the best t"])
def test_a_distinguisher_with_the_worst_starts_and_gradients_does_not_beat_the_claim(chain):
    claimed = 1.5
    found = lower_bound_of_mu(chain, chain.sigma_for(claimed), honest)
    assert found <= claimed
    assert found > 0.4 * claimed  # and it is no blunt instrument


@pytest.mark.parametrize("bug", [half, all_but_one])
def test_the_same_distinguisher_catches_planted_bugs(bug):
    claimed = 1.5
    assert lower_bound_of_mu(FEW, FEW.sigma_for(claimed), bug) > claimed
