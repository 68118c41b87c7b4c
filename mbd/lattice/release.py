"""From statistics to released heads: solve, certify, hide. What `Released.heads` holds may be published; nothing else.

The un-noised solution and the noise exist only inside `release_heads` and are gone when it returns; who calls its two
halves by themselves, as audits do, holds secrets.
Source: docs/guarantees.md, Claim 3.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mbd.cohort.modality import ModalitySet, pattern_name
from mbd.errors import NotCertifiedError
from mbd.hashing import arrays_digest, canonical_json, json_digest
from mbd.lattice.cross_entropy import HeadRows, cross_entropy_residual, solve_cross_entropy
from mbd.lattice.layout import Layout
from mbd.lattice.solve import Solution, residual, solve
from mbd.lattice.statistics import Statistics
from mbd.privacy.gaussian import mu_of, sigma_for
from mbd.privacy.noise import NoiseSource

FloatArray = NDArray[np.float64]

Loss = Literal["squared", "cross-entropy"]

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
        loss: what heads minimise: squared errors, or the cross-entropy of classes.
        heads: how many heads the line began with. Each has the same mu for ever, so that a deletion, which releases
            some of them again, uses the very noise scale that training on D' from the start would use.
    """

    tau: float = 1e-6
    epsilon: float = 0.1
    delta: float = 1e-9
    budget_epsilon: float = 1.0
    exact_rows: int = 0
    loss: Loss = "squared"
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


@dataclass(frozen=True)
class Unhidden:
    """Certified solutions before their noise: a secret of whoever computes them, to be hidden and forgotten.

    Attributes:
        solved: one for each head.
        bound: what each head's noise is bound to beside the purpose.
        sigma: the noise's standard deviation.
        mu: of each head.
    """

    solved: Mapping[ModalitySet, Solution] = field(repr=False)
    bound: Mapping[ModalitySet, Mapping[str, Any]]
    sigma: float
    mu: float

    def release(self, purpose: str, noise: NoiseSource) -> Released:
        """Add the noise of this purpose. Another purpose means other noise."""
        heads = {}
        for pattern, solution in self.solved.items():
            context = canonical_json({"purpose": purpose, **self.bound[pattern]})
            mean_DK = solution.weights_DK
            released_DK = mean_DK + _noise_on_grid(context, mean_DK.shape, self.sigma, noise)
            heads[pattern] = Head(released_DK, self.sigma, self.mu, context.decode())
        bounds = {pattern: solution.residual_bound for pattern, solution in self.solved.items()}
        return Released(heads, bounds, {pattern: solution.candidates for pattern, solution in self.solved.items()})


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
    rows: HeadRows | None = None,
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
        rows: those that the statistics are of; cross-entropy heads are solved on them.

    Raises:
        NotCertifiedError: tau lies under the rounding floor; nothing is released.
    """
    unhidden = solve_heads(layout, statistics, patterns, policy=policy, commitment=commitment, start=start, rows=rows)
    return unhidden.release(purpose, noise)


def solve_heads(
    layout: Layout,
    statistics: Statistics,
    patterns: Sequence[ModalitySet],
    *,
    policy: ReleasePolicy,
    commitment: str,
    start: Mapping[ModalitySet, Head] | None = None,
    rows: HeadRows | None = None,
) -> Unhidden:
    """The first half of `release_heads`, whose arguments these are; an audit hides one solution many times.

    Raises:
        NotCertifiedError: tau lies under the rounding floor.
    """
    sigma = sigma_for(sensitivity(layout, policy), policy.head_mu)
    begin = {pattern: start[pattern].weights_DK if start is not None else None for pattern in patterns}
    solved = {p: solve_head(layout, statistics, p, policy=policy, start_DK=begin[p], rows=rows) for p in patterns}
    of_rows = {} if rows is None else {"rows": rows.commitment}
    constants = json_digest(layout.as_json())
    bound = {
        pattern: {
            "head": pattern_name(pattern),
            "statistics": commitment,
            "start": arrays_digest({"weights": start_DK}) if start_DK is not None else None,
            "layout": constants,
            "tau": policy.tau,
            "sigma": sigma,
            **of_rows,
        }
        for pattern, start_DK in begin.items()
    }
    return Unhidden(solved, bound, sigma, policy.head_mu)


def solve_head(
    layout: Layout,
    statistics: Statistics,
    pattern: ModalitySet,
    *,
    policy: ReleasePolicy,
    start_DK: FloatArray | None = None,
    rows: HeadRows | None = None,
) -> Solution:
    """The certified, un-noised solution of one head, on the release grid: a secret of whoever computes it.

    Solution and noise are both integers on one grid, 2^-28 of sigma, so their float64 sum is exact: the release is
    the continuous Gaussian mechanism around a grid point, rounded, and rounding is post-processing. No low bits
    betray the mean (Mironov 2012). The residual is certified for the grid point itself.
    """
    step = release_grid(sigma_for(sensitivity(layout, policy), policy.head_mu))
    if policy.loss == "cross-entropy":
        phi_ND, target_NK, penalty_D = cross_entropy_problem(layout, pattern, rows)
        found = solve_cross_entropy(phi_ND, target_NK, penalty_D, tau=policy.tau, start_DK=start_DK, grid=step)
    else:
        matrix_DD, moment_DK = normal_equations(layout, statistics, pattern)
        found = solve(matrix_DD, moment_DK, tau=policy.tau, start_DK=start_DK, grid=step)
    if np.abs(found.weights_DK).max(initial=0.0) >= 2.0**52 * step:  # noise has less than 2^33 steps: exact sums
        raise NotCertifiedError(
            "The weights are too large for the release grid: their sum with the noise would round.",
            remedy="scale the labels down, or train the model line with a larger tau (MBD_TAU); nothing was released",
        )
    return found


def residual_bound(
    layout: Layout,
    statistics: Statistics,
    pattern: ModalitySet,
    weights_DK: FloatArray,
    *,
    policy: ReleasePolicy,
    rows: HeadRows | None = None,
) -> float:
    """A rigorous bound of one head's residual at these weights: what a replay holds against tau."""
    if policy.loss == "cross-entropy":
        phi_ND, target_NK, penalty_D = cross_entropy_problem(layout, pattern, rows)
        return cross_entropy_residual(phi_ND, target_NK, penalty_D, weights_DK)[1]
    return residual(*normal_equations(layout, statistics, pattern), weights_DK)[1]


def cross_entropy_problem(
    layout: Layout, pattern: ModalitySet, rows: HeadRows | None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The features [N, D] and one-hot labels [N, K] that one head knows, and its penalties [D]."""
    assert rows is not None, "cross-entropy heads are solved on rows"
    at = layout.coordinates(pattern)
    return (*rows.of(at), layout.penalty_D[at])


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
    step = release_grid(sigma)
    drawn = noise.standard_normal(context, math.prod(shape)).reshape(shape)
    return np.asarray(np.rint(sigma * drawn / step) * step)


def release_grid(sigma: float) -> float:
    """The release grid: a power of two, 2^-28 of sigma or a little less."""
    return float(2.0 ** (math.floor(math.log2(sigma)) - _GRID_BITS_BELOW_SIGMA))
