"""From statistics to released heads: what the release grid costs, and what it must not."""

import numpy as np
import pytest

from mbd.cohort.modality import Modality
from mbd.errors import NotCertifiedError
from mbd.lattice.layout import Layout, group_names
from mbd.lattice.release import (
    ReleasePolicy,
    normal_equations,
    release_heads,
    remove_noise,
    sensitivity,
    solve_head,
)
from mbd.lattice.solve import residual, solve
from mbd.lattice.statistics import Grid, Statistics
from mbd.privacy.gaussian import sigma_for
from mbd.privacy.noise import NoiseSource

WIDTHS = {Modality.TEXT: 12, Modality.AUDIO: 9, Modality.VISION: 5}
LAYOUT = Layout(WIDTHS, 6, dict.fromkeys(group_names(WIDTHS, 6), 1.0))
ALL = LAYOUT.patterns[-1]
POLICY = ReleasePolicy()
NOISE = NoiseSource(b"n" * 32)


def statistics_of(rows, *, seed=0):
    """The statistics of ``rows`` rows that have every channel: 2,000 random ones, counted several times."""
    rng = np.random.default_rng(seed)
    phi = rng.integers(-1024, 1025, (2000, LAYOUT.width)).astype(np.float64)
    phi[:, [block.indicator for block in LAYOUT.blocks]] = 2048.0
    one = Statistics.of(Grid(11, 3072), phi, rng.integers(-3072, 3073, (2000, 1)).astype(np.float64))
    times = rows // 2000
    return Statistics(one.grid, one.gram * times, one.moment * times, rows)


def rounded(statistics):
    """The nearest grid point to the solution of the largest head, and the bound of its residual."""
    matrix_DD, moment_DK = normal_equations(LAYOUT, statistics, ALL)
    sigma = sigma_for(sensitivity(LAYOUT, POLICY), POLICY.head_mu)
    step = 2.0 ** (np.floor(np.log2(sigma)) - 28)
    nearest = np.rint(solve(matrix_DD, moment_DK, tau=POLICY.tau).weights_DK / step) * step
    return nearest, residual(matrix_DD, moment_DK, nearest)[1], step


def test_where_the_nearest_grid_point_is_certified_it_is_the_one_that_is_released():
    statistics = statistics_of(20_000)
    nearest, bound, _ = rounded(statistics)
    assert bound <= POLICY.tau
    assert np.array_equal(solve_head(LAYOUT, statistics, ALL, policy=POLICY).weights_DK, nearest)


def test_past_a_million_rows_the_nearest_grid_point_may_fail_and_one_beside_it_is_certified():
    failed = 0
    for seed in range(6):
        statistics = statistics_of(1_600_000, seed=seed)
        nearest, bound, step = rounded(statistics)
        failed += bound > POLICY.tau
        found = solve_head(LAYOUT, statistics, ALL, policy=POLICY)
        matrix_DD, moment_DK = normal_equations(LAYOUT, statistics, ALL)
        assert found.residual_bound == residual(matrix_DD, moment_DK, found.weights_DK)[1] <= POLICY.tau
        steps = found.weights_DK / step
        assert np.array_equal(steps, np.rint(steps))
        assert np.abs(found.weights_DK - nearest).max() <= 100 * step
    assert failed >= 2


def test_the_noise_comes_off_such_a_release_bit_for_bit():
    statistics = statistics_of(1_600_000)
    released = release_heads(LAYOUT, statistics, [ALL], policy=POLICY, noise=NOISE, purpose="test", commitment="c")
    mean = solve_head(LAYOUT, statistics, ALL, policy=POLICY).weights_DK
    assert np.array_equal(remove_noise(released.heads[ALL], NOISE), mean)


def test_rows_beyond_what_any_grid_point_can_certify_release_nothing():
    with pytest.raises(NotCertifiedError, match="nothing was released"):
        solve_head(LAYOUT, statistics_of(200_000_000), ALL, policy=ReleasePolicy(tau=1e-4))
