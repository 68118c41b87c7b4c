import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from mbd.errors import PrivacyError
from mbd.privacy.gaussian import compose, delta_of, epsilon_of, mu_of, sigma_for

REFERENCE = {0.1: 30.75, 0.5: 7.03, 1.0: 3.731, 2.0: 1.994, 4.0: 1.081, 8.0: 0.600}


@pytest.mark.parametrize(("epsilon", "ratio"), REFERENCE.items())
def test_sigma_over_sensitivity_is_the_published_value_at_delta_1e_5(epsilon, ratio):
    assert sigma_for(1.0, mu_of(epsilon, 1e-5)) == pytest.approx(ratio, abs=6e-3)


@given(mu=st.floats(1e-3, 20), epsilon=st.floats(0, 50))
def test_delta_is_the_difference_of_the_two_normal_tails(mu, epsilon):
    direct = norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu)
    assert delta_of(mu, epsilon) == pytest.approx(max(direct, 0), abs=1e-12)


@given(mu=st.floats(1e-4, 10), epsilon=st.floats(0, 20))
def test_delta_equals_the_supremum_over_half_lines(mu, epsilon):
    """For two Gaussians the worst event is a half line; scan them all instead of trusting the formula."""
    cuts = [epsilon / mu + shift for shift in (-1.0, -0.1, 0.0, 0.1, 1.0)]
    gains = [norm.sf(cut - mu / 2) - math.exp(epsilon) * norm.sf(cut + mu / 2) for cut in cuts]
    assert max(gains) <= delta_of(mu, epsilon) + 1e-12
    assert gains[2] == pytest.approx(delta_of(mu, epsilon), abs=1e-12)


@given(epsilon=st.floats(0.01, 20), delta=st.floats(1e-12, 0.1))
def test_calibration_never_exceeds_what_was_asked_and_wastes_nothing(epsilon, delta):
    mu = mu_of(epsilon, delta)
    assert delta_of(mu, epsilon) <= delta
    assert delta_of(mu * (1 + 1e-9), epsilon) >= delta * (1 - 1e-3)
    assert epsilon_of(mu, delta) == pytest.approx(epsilon, rel=1e-6)


@given(st.lists(st.floats(0, 5), max_size=20))
def test_composition_is_the_euclidean_norm(mus):
    assert compose(mus) == pytest.approx(math.hypot(*mus) if mus else 0.0)


@pytest.mark.parametrize(("epsilon", "delta"), [(0, 1e-5), (-1, 1e-5), (1, 0), (1, 1), (math.nan, 1e-5)])
def test_impossible_parameters_are_refused_with_a_remedy(epsilon, delta):
    with pytest.raises(PrivacyError, match="Remedy: choose epsilon"):
        mu_of(epsilon, delta)
