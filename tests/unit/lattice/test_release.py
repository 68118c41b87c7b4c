"""From statistics to released heads: when the release grid is too coarse beside tau, and what makes it finer."""

import numpy as np
import pytest

from mbd.cohort.modality import Modality
from mbd.errors import NotCertifiedError, TrainingError
from mbd.lattice.layout import Layout, group_names
from mbd.lattice.release import ReleasePolicy, release_heads, remove_noise, sensitivity, solve_head
from mbd.lattice.statistics import Grid, Statistics
from mbd.privacy.noise import NoiseSource

WIDTHS = {Modality.TEXT: 12, Modality.AUDIO: 9, Modality.VISION: 5}
NOISE = NoiseSource(b"n" * 32)
MANY = 4_000_000


def layout_with(penalty, *, indicator):
    return Layout(WIDTHS, 6, dict.fromkeys(group_names(WIDTHS, 6), penalty), indicator)


def statistics_of(rows, layout):
    """The statistics of ``rows`` rows that have every channel: 2,000 random ones, counted several times."""
    rng = np.random.default_rng(0)
    phi = rng.integers(-1024, 1025, (2000, layout.width)).astype(np.float64)
    phi[:, [block.indicator for block in layout.blocks]] = 2048.0
    one = Statistics.of(Grid(11, 3072), phi, rng.integers(-3072, 3073, (2000, 1)).astype(np.float64))
    times = rows // 2000
    return Statistics(one.grid, one.gram * times, one.moment * times, rows)


@pytest.mark.parametrize("tau", [1e-6, 1e-5, 1e-4])
def test_with_millions_of_rows_the_grid_is_too_coarse_beside_any_tau(tau):
    """Sigma follows tau and the grid follows sigma: a larger tau alone does not help, and nothing is released."""
    layout = layout_with(10.0, indicator=1.0)
    with pytest.raises(NotCertifiedError, match="MBD_INDICATOR_PENALTY or MBD_EPSILON"):
        solve_head(layout, statistics_of(MANY, layout), layout.patterns[-1], policy=ReleasePolicy(tau=tau))


def test_a_larger_least_penalty_makes_the_grid_finer_and_such_heads_are_released():
    layout, policy = layout_with(10.0, indicator=10.0), ReleasePolicy(tau=1e-5)
    statistics, pattern = statistics_of(MANY, layout), layout.patterns[-1]
    released = release_heads(layout, statistics, [pattern], policy=policy, noise=NOISE, purpose="", commitment="")
    assert released.residual_bounds[pattern] <= policy.tau
    mean = solve_head(layout, statistics, pattern, policy=policy).weights_DK
    assert np.array_equal(remove_noise(released.heads[pattern], NOISE), mean)


def test_the_indicators_penalty_is_part_of_lambda_min_and_so_of_the_sensitivity():
    policy = ReleasePolicy()
    assert sensitivity(layout_with(10.0, indicator=1.0), policy) == 2 * policy.tau
    assert sensitivity(layout_with(10.0, indicator=10.0), policy) == pytest.approx(2 * policy.tau / 10)
    layout = layout_with(10.0, indicator=7.0)
    assert all(layout.penalty_D[block.indicator] == 7.0 for block in layout.blocks)
    assert layout.without([Modality.AUDIO]).indicator_penalty == 7.0


def test_a_layout_keeps_its_indicator_penalty():
    for indicator in (1.0, 10.0):
        layout = layout_with(10.0, indicator=indicator)
        assert Layout.from_json(layout.as_json()) == layout


@pytest.mark.parametrize("indicator", [0.5, 0.0, float("nan"), float("inf")])
def test_an_indicator_penalty_below_one_is_refused(indicator):
    with pytest.raises(TrainingError, match="strong convexity"):
        layout_with(10.0, indicator=indicator)
