"""The verifier's own privacy arithmetic, against reference values, SciPy and the engine's implementation."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_ndtr

from certs.gaussian import compose, gaussian_delta, log_normal_cdf
from mbd.privacy import gaussian as engine

MUS = st.floats(1e-3, 8)


@pytest.mark.parametrize(
    ("epsilon", "sigma_over_sensitivity"),
    [(0.1, 30.75), (0.5, 7.03), (1, 3.731), (2, 1.994), (4, 1.081), (8, 0.600)],
)
def test_the_published_calibration_at_delta_1e_5(epsilon, sigma_over_sensitivity):
    """Balle and Wang 2018: at the table's rounding the delta is 1e-5, and 0.2 % less noise is not enough."""
    assert gaussian_delta(epsilon, 1 / (sigma_over_sensitivity * 1.001)) < 1e-5
    assert gaussian_delta(epsilon, 1 / (sigma_over_sensitivity * 0.998)) > 1e-5


@given(st.floats(-1e4, 30))
def test_the_logarithm_of_the_normal_distribution_is_scipys(z):
    assert log_normal_cdf(z) == pytest.approx(float(log_ndtr(z)), rel=1e-12, abs=1e-300)


@given(st.floats(1e-3, 50), MUS)
def test_the_verifier_and_the_engine_compute_the_same_delta(epsilon, mu):
    ours, theirs = gaussian_delta(epsilon, mu), engine.delta_of(mu, epsilon)
    assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-300)


@given(st.floats(1e-3, 50), MUS, st.floats(1.001, 3))
def test_delta_falls_with_epsilon_and_grows_with_mu(epsilon, mu, factor):
    assert 0 <= gaussian_delta(epsilon * factor, mu) <= gaussian_delta(epsilon, mu) <= 1
    assert gaussian_delta(epsilon, mu) <= gaussian_delta(epsilon, mu * factor)


def test_delta_at_epsilon_zero_is_the_total_variation():
    assert gaussian_delta(1e-12, 0.5) == pytest.approx(math.erf(0.25 / math.sqrt(2)), rel=1e-9)


def test_deep_tails_are_zero_and_not_an_error():
    assert gaussian_delta(1e6, 1e-3) == 0
    assert gaussian_delta(1e-3, 1e3) == pytest.approx(1)


@given(st.lists(MUS, min_size=1, max_size=5))
def test_releases_compose_as_root_of_squares(mus):
    assert compose(mus) == pytest.approx(math.sqrt(sum(mu * mu for mu in mus)), rel=1e-12)
    assert compose([]) == 0
