"""From statistics to released heads: solve, certify, hide. What `Released.heads` holds may be published; nothing else.

The un-noised solution and the noise exist only inside `release_heads` and are gone when it returns.
Source: docs/guarantees.md, Claim 3.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mbd.cohort.modality import ModalitySet, pattern_name
from mbd.errors import NotCertifiedError
from mbd.hashing import arrays_digest, canonical_json, json_digest
from mbd.lattice.layout import Layout
from mbd.lattice.solve import Solution, solve
from mbd.lattice.statistics import Statistics
from mbd.privacy.gaussian import mu_of, sigma_for
from mbd.privacy.noise import NoiseSource

FloatArray = NDArray[np.float64]

_GRID_BITS_BELOW_SIGMA = 28


@dataclass(frozen=True)
class ReleasePolicy:
    """Public constants of a model line, fixed before any data is seen.

    Attributes:
        tau: the bound of every released head's residual.
        epsilon: what releasing all heads of the line together is calibrated to, at ``delta``.
        delta: the delta of every statement.
        budget_epsilon: the composed epsilon at ``delta`` that the line may reach before deletions become refits.
        exact_rows: up to so many training rows, a deletion reads them all again and is an exact refit.
        heads: how many heads the line began with. Each has the same mu for ever, so that a deletion, which releases
            some of them again, uses the very noise scale that training on D' from the start would use.
    """

    tau: float = 1e-6
    epsilon: float = 0.1
    delta: float = 1e-9
    budget_epsilon: float = 1.0
    exact_rows: int = 0
    heads: int = 7

    @cached_property
    def head_mu(self) -> float:
        """The mu of every single head."""
        return mu_of(self.epsilon, self.delta) / math.sqrt(self.heads)


@dataclass(frozen=True)
class Head:
    """Released weights of one availability pattern.

    Attributes:
        weights_DK: float64 [D, K], solution plus noise, on a public grid.
        sigma: the noise's standard deviation.
        mu: sensitivity / sigma.
        context: what keyed the noise stream, for an auditor's replay.
    """

    weights_DK: FloatArray
    sigma: float
    mu: float
    context: str


@dataclass(frozen=True)
class Released:
    """Heads, and what the operator may want to know about their making.

    Attributes:
        heads: may be published.
        residual_bounds: of each solution before noise, rounding included, at most tau. Not for publication: the
            guarantee is about weights plus noise, and these numbers carry no noise.
        candidates: coordinates that each solve moved. Not for publication either.
    """

    heads: Mapping[ModalitySet, Head] = field(default_factory=dict)
    residual_bounds: Mapping[ModalitySet, float] = field(default_factory=dict)
    candidates: Mapping[ModalitySet, int] = field(default_factory=dict)


def sensitivity(layout: Layout, policy: ReleasePolicy) -> float:
    """Delta = 2 tau / lambda_min: two near-minimisers of one objective are never further apart."""
    return 2 * policy.tau / layout.lambda_min


def release_heads(
    layout: Layout,
    statistics: Statistics,
    patterns: Sequence[ModalitySet],
    *,
    policy: ReleasePolicy,
    noise: NoiseSource,
    purpose: str,
    commitment: str,
    start: Mapping[ModalitySet, Head] | None = None,
) -> Released:
    """Solve and release these heads: each is head_mu-GDP around the exact minimiser.

    Args:
        layout: coordinates and penalties.
        statistics: of the rows that the heads may know.
        patterns: which heads.
        policy: tau and the calibration.
        noise: the committed stream.
        purpose: binds the noise to its occasion (request, model line, version). The statistics, the start and the
            calibration are bound as well: two different means never share one stream.
        commitment: the statistics' salted commitment, which names them in the context.
        start: released heads to start Newton from; None solves from nothing.

    Raises:
        NotCertifiedError: tau lies under the rounding floor; nothing is released.
    """
    sigma = sigma_for(sensitivity(layout, policy), policy.head_mu)
    begin = {pattern: start[pattern].weights_DK if start is not None else None for pattern in patterns}
    solved = {p: solve_head(layout, statistics, p, policy=policy, start_DK=begin[p]) for p in patterns}
    constants = json_digest(layout.as_json())
    heads = {}
    for pattern, start_DK in begin.items():
        context = canonical_json(
            {
                "purpose": purpose,
                "head": pattern_name(pattern),
                "statistics": commitment,
                "start": arrays_digest({"weights": start_DK}) if start_DK is not None else None,
                "layout": constants,
                "tau": policy.tau,
                "sigma": sigma,
            }
        )
        mean_DK = solved[pattern].weights_DK
        released_DK = mean_DK + _noise_on_grid(context, mean_DK.shape, sigma, noise)
        heads[pattern] = Head(released_DK, sigma, policy.head_mu, context.decode())
    bounds = {pattern: solution.residual_bound for pattern, solution in solved.items()}
    return Released(heads, bounds, {pattern: solution.candidates for pattern, solution in solved.items()})


def solve_head(
    layout: Layout,
    statistics: Statistics,
    pattern: ModalitySet,
    *,
    policy: ReleasePolicy,
    start_DK: FloatArray | None = None,
) -> Solution:
    """The certified, un-noised solution of one head, on the release grid: a secret of whoever computes it.

    Solution and noise are both integers on one grid, 2^-28 of sigma, so their float64 sum is exact: the release is
    the continuous Gaussian mechanism around a grid point, rounded, and rounding is post-processing. No low bits
    betray the mean (Mironov 2012). The residual is certified for the grid point itself.
    """
    matrix_DD, moment_DK = normal_equations(layout, statistics, pattern)
    step = _step(sigma_for(sensitivity(layout, policy), policy.head_mu))
    found = solve(matrix_DD, moment_DK, tau=policy.tau, start_DK=start_DK, grid=step)
    if np.abs(found.weights_DK).max(initial=0.0) >= 2.0**52 * step:  # noise has less than 2^33 steps: exact sums
        raise NotCertifiedError(
            "The weights are too large for the release grid: their sum with the noise would round.",
            remedy="scale the labels down, or train the model line with a larger tau (MBD_TAU); nothing was released",
        )
    return found


def normal_equations(layout: Layout, statistics: Statistics, pattern: ModalitySet) -> tuple[FloatArray, FloatArray]:
    """The matrix G_AA + Lambda [D, D] and the moment c_A [D, K] of one head."""
    at = layout.coordinates(pattern)
    mine = statistics.at(at)
    matrix_DD = mine.normal_matrix()
    matrix_DD.reshape(-1)[:: len(at) + 1] += layout.penalty_D[at]  # the diagonal
    return matrix_DD, mine.right_hand_side()


def remove_noise(head: Head, noise: NoiseSource) -> FloatArray:
    """The solution under a released head, bit for bit: what a chartered auditor who is shown the secret computes."""
    return head.weights_DK - _noise_on_grid(head.context.encode(), head.weights_DK.shape, head.sigma, noise)


def _noise_on_grid(context: bytes, shape: tuple[int, ...], sigma: float, noise: NoiseSource) -> FloatArray:
    step = _step(sigma)
    drawn = noise.standard_normal(context, math.prod(shape)).reshape(shape)
    return np.asarray(np.rint(sigma * drawn / step) * step)


def _step(sigma: float) -> float:
    """The release grid: a power of two, 2^-28 of sigma or a little less."""
    return float(2.0 ** (math.floor(math.log2(sigma)) - _GRID_BITS_BELOW_SIGMA))
