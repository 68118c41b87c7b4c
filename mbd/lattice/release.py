"""From statistics to released heads: solve, certify, hide. What it returns may be published; nothing else leaves.

The un-noised solution and the noise exist only inside `release_heads` and are gone when it returns.
Source: docs/guarantees.md, "Release".
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mbd.cohort.modality import ModalitySet, pattern_name
from mbd.hashing import arrays_digest, canonical_json
from mbd.lattice.layout import Layout
from mbd.lattice.solve import Solution, solve
from mbd.lattice.statistics import Statistics
from mbd.privacy.gaussian import mu_of, sigma_for
from mbd.privacy.noise import NoiseSource

FloatArray = NDArray[np.float64]

_GRID_BITS_BELOW_SIGMA = 32


@dataclass(frozen=True)
class ReleasePolicy:
    """Public constants of a model line, fixed before any data is seen.

    Attributes:
        tau: the bound of every released head's residual.
        epsilon: what one deletion's releases are calibrated to, at ``delta``.
        delta: the delta of every statement.
        budget_epsilon: the composed epsilon at ``delta`` that the line may reach before deletions become refits.
    """

    tau: float = 1e-6
    epsilon: float = 0.1
    delta: float = 1e-9
    budget_epsilon: float = 1.0


@dataclass(frozen=True)
class Head:
    """Released weights of one availability pattern.

    Attributes:
        weights_DK: float64 [D, K], solution plus noise.
        sigma: the noise's standard deviation.
        mu: sensitivity / sigma.
        residual_bound: of the solution before noise, rounding included; at most tau.
        candidates: coordinates that the solve moved.
        context: what keyed the noise stream, for an auditor's replay.
    """

    weights_DK: FloatArray
    sigma: float
    mu: float
    residual_bound: float
    candidates: int
    context: str


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
    start: Mapping[ModalitySet, Head] | None = None,
) -> dict[ModalitySet, Head]:
    """Solve and release these heads together: jointly mu_of(epsilon, delta)-GDP around the exact minimisers.

    Args:
        layout: coordinates and penalties.
        statistics: of the rows that the heads may know.
        patterns: which heads.
        policy: tau and the calibration.
        noise: the committed stream.
        purpose: binds the noise to its occasion (request, model line, version). The statistics, the start and the
            calibration are bound as well: two different means never share one stream.
        start: released heads to start Newton from; None solves from nothing.

    Raises:
        NotCertifiedError: tau lies under the rounding floor; nothing is released.
    """
    delta_2 = sensitivity(layout, policy)
    mu = mu_of(policy.epsilon, policy.delta) / np.sqrt(max(len(patterns), 1))
    sigma = sigma_for(delta_2, float(mu))
    heads = {}
    for pattern in patterns:
        begin = start[pattern].weights_DK if start is not None else None
        solution = solve_head(layout, statistics, pattern, policy=policy, start_DK=begin)
        context = {
            "purpose": purpose,
            "head": pattern_name(pattern),
            "statistics": statistics.digest,
            "start": arrays_digest({"weights": begin}) if begin is not None else None,
            "layout": layout.as_json(),
            "tau": policy.tau,
            "sigma": sigma,
        }
        heads[pattern] = _hide(solution, sigma, float(mu), noise, canonical_json(context))
    return heads


def solve_head(
    layout: Layout,
    statistics: Statistics,
    pattern: ModalitySet,
    *,
    policy: ReleasePolicy,
    start_DK: FloatArray | None = None,
) -> Solution:
    """The certified, un-noised solution of one head: a secret of whoever computes it."""
    matrix_DD, moment_DK = normal_equations(layout, statistics, pattern)
    return solve(matrix_DD, moment_DK, tau=policy.tau, start_DK=start_DK)


def normal_equations(layout: Layout, statistics: Statistics, pattern: ModalitySet) -> tuple[FloatArray, FloatArray]:
    """The matrix G_AA + Lambda [D, D] and the moment c_A [D, K] of one head."""
    at = layout.coordinates(pattern)
    mine = statistics.at(at)
    matrix_DD = mine.normal_matrix()
    matrix_DD[np.diag_indices_from(matrix_DD)] += layout.penalty_D[at]
    return matrix_DD, mine.right_hand_side()


def remove_noise(head: Head, noise: NoiseSource) -> FloatArray:
    """The solution under a released head, float64 [D, K]: what a chartered auditor who is shown the secret computes.

    It differs from the solved weights by the rounding of the release grid, 2^-32 of sigma.
    """
    return head.weights_DK - head.sigma * _draw(head.context.encode(), head.weights_DK.shape, noise)


def _hide(solution: Solution, sigma: float, mu: float, noise: NoiseSource, context: bytes) -> Head:
    """Add the Gaussian over all coordinates, then round to a public grid 2^32 times finer than sigma.

    The rounding is post-processing: it costs no privacy, and it removes the low bits through which floating-point
    samplers have leaked (Mironov 2012).
    """
    drawn_DK = _draw(context, solution.weights_DK.shape, noise)
    step = 2.0 ** (np.floor(np.log2(sigma)) - _GRID_BITS_BELOW_SIGMA)
    released_DK = np.rint((solution.weights_DK + sigma * drawn_DK) / step) * step
    return Head(released_DK, sigma, mu, solution.residual_bound, solution.candidates, context.decode())


def _draw(context: bytes, shape: tuple[int, ...], noise: NoiseSource) -> FloatArray:
    return noise.standard_normal(context, math.prod(shape)).reshape(shape)
