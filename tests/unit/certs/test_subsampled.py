"""What a verifier recomputes of private towers and noisy fine-tuning, against the programs that issuers use."""

import math
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from certs.errors import Code, VerificationError
from certs.gaussian import noisy_iterations_mu
from certs.subsampled import subsampled_delta
from certs.verification import verify
from mbd.privacy.accounting import Run, epsilon_of
from mbd.privacy.gaussian import delta_of
from mbd.privacy.noisy_iterations import Chain

G = "/predicate/guarantee"
DELTA = 1e-9
RUNS = [
    (rate, noise, steps, subjects)
    for rate, steps in ((0.01, 1000), (0.05, 100), (0.3, 20), (1.0, 10))
    for noise in (1.0, 2.0, 8.0)
    for subjects in (1, 3)
]


def lower_epsilon(run):
    """The largest epsilon that the verifier refuses at DELTA, by bisection."""
    low, high = 0.0, 1.0
    while subsampled_delta(high, *run) > DELTA:
        low, high = high, 2 * high
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (middle, high) if subsampled_delta(middle, *run) > DELTA else (low, middle)
    return low


@pytest.mark.parametrize("run", RUNS, ids=str)
def test_the_lower_bound_never_passes_the_accountant_and_is_close_where_there_is_noise(run):
    rate, noise, steps, subjects = run
    epsilon = epsilon_of(Run(rate, noise, steps), DELTA, subjects=subjects)
    least = lower_epsilon(run)
    assert least <= epsilon
    assert subsampled_delta(epsilon, *run) <= DELTA
    if noise >= 2:
        assert least >= 0.75 * epsilon


@given(epsilon=st.floats(1e-3, 20), noise=st.floats(0.3, 20), steps=st.integers(1, 200), subjects=st.integers(1, 5))
def test_with_everybody_in_every_step_it_is_the_gaussian(epsilon, noise, steps, subjects):
    """The lower bound is tight there: k people move the sum of T outputs by k T, its deviation is sigma sqrt(T)."""
    mu = subjects * math.sqrt(steps) / noise
    found, exact = subsampled_delta(epsilon, 1.0, noise, steps, subjects), delta_of(mu, epsilon)
    assert found == pytest.approx(exact, rel=1e-6, abs=1e-12)


@settings(max_examples=50)
@example(rate=0.99999, noise=1.0, steps=466, subjects=4)  # hardly anybody is left out, and that is no normal number
@given(rate=st.floats(1e-4, 1), noise=st.floats(0.5, 20), steps=st.integers(1, 500), subjects=st.integers(1, 20))
def test_it_is_a_probability_that_falls_with_epsilon_and_grows_with_people(rate, noise, steps, subjects):
    run = (rate, noise, steps)
    deltas = [subsampled_delta(epsilon, *run, subjects) for epsilon in (0.1, 1.0, 4.0)]
    assert all(0 <= delta <= 1 + 1e-9 for delta in deltas)
    assert deltas == sorted(deltas, reverse=True)
    assert subsampled_delta(1.0, *run, subjects + 1) >= subsampled_delta(1.0, *run, subjects) * (1 - 1e-6) - 1e-15


ODD = [5e-324, 1e-200, 1e-160, 1e-20, 1e20, 1e160, 1e200, sys.float_info.max]


@pytest.mark.parametrize("noise", ODD)
@pytest.mark.parametrize("epsilon", [5e-324, 1.0, sys.float_info.max])
@pytest.mark.parametrize("rate", [5e-324, 0.5, 1.0])
def test_no_number_that_a_statement_can_hold_breaks_it(noise, epsilon, rate):
    assert 0 <= subsampled_delta(epsilon, rate, noise, 10, 2) <= 1 + 1e-9


@pytest.mark.parametrize("noise", [1e-200, 1e200])
def test_a_certificate_with_odd_noise_is_judged_and_not_crashed_on(reissue, trusted_root, at, noise):
    changes = {f"{G}/departed/0/noiseMultiplier": noise}
    if noise > 1:
        verify(reissue("towers", changes), trusted_root, at=at)
    else:
        _refused(Code.EPSILON_UNDERSTATED, reissue("towers", changes), trusted_root, at)


@pytest.mark.parametrize(
    "account",
    [{"steps": (1 << 53) - 1}, {"subjects": (1 << 53) - 1}, {"steps": 10**9, "subjects": 10**6, "rate": 0.5}],
    ids=str,
)
def test_a_certificate_with_an_endless_run_does_not_keep_the_verifier_busy(reissue, trusted_root, at, account):
    changes = {f"{G}/departed/0/{name}": value for name, value in account.items()}
    with pytest.raises(VerificationError) as refused:
        verify(reissue("towers", changes), trusted_root, at=at)
    assert refused.value.code in {Code.STATEMENT_MALFORMED, Code.EPSILON_UNDERSTATED}


def test_an_account_of_the_golden_tower_cannot_be_understated(reissue, golden, trusted_root, at):
    """Each number of the account, a little more revealing than what the curve was made for."""
    verify(golden("towers.sigstore.json"), trusted_root, at=at)
    for name, value in (("noiseMultiplier", 1.0), ("subjects", 500), ("rate", 1.0)):
        _refused(Code.EPSILON_UNDERSTATED, reissue("towers", {f"{G}/departed/0/{name}": value}), trusted_root, at)


@settings(max_examples=60)
@given(
    start=st.floats(1e-3, 10),
    gradient=st.floats(1e-3, 10),
    rate=st.floats(1e-5, 1),
    steps=st.integers(1, 300),
    sigma=st.floats(1e-3, 10),
    coordinates=st.integers(1, 1 << 20),
)
def test_the_mu_of_noisy_fine_tuning_is_that_of_the_engine(start, gradient, rate, *, steps, sigma, coordinates):
    theirs = Chain(start, gradient, rate, steps, coordinates).mu(sigma)
    ours = noisy_iterations_mu(
        start_bound=start, gradient_bound=gradient, rate=rate, steps=steps, sigma=sigma, coordinates=coordinates
    )
    assert ours == pytest.approx(theirs, rel=1e-12)


def _refused(code, bundle, trusted_root, at):
    with pytest.raises(VerificationError) as refused:
        verify(bundle, trusted_root, at=at)
    assert refused.value.code is code
