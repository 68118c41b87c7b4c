"""Strongly convex heads: solve, then certify the residual over all coordinates. It draws no noise.

    minimise  1/2 w^T G w - c^T w + 1/2 w^T Lambda w,     gradient  r(w) = (G + Lambda) w - c

1. Saliency proposes: coordinates with a large |r| at the start are candidates, and a Newton step moves them.
2. The residual certifies: ||r(w)|| <= tau over all coordinates, the rounding of its own computation included.
   If it fails, the candidates widen; at last all coordinates are candidates.
Then ||w - w*|| <= tau / lambda_min, whatever the start was. Source: docs/guarantees.md, Claim 3.

The Newton step on S candidates is a linear system. Up to `DIRECT_WIDTH` candidates a Cholesky factor solves it
(S^3 / 3 multiplications); beyond, preconditioned conjugate gradients do (S^2 for each iteration), and if they have not
converged at about the price of a factor, the factor is computed after all. No step of the proof knows which it was.
"""

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mbd.errors import NotCertifiedError
from mbd.lattice.conjugate import Preconditioner, conjugate_gradients, full_factor, on_coordinates, partial_factor

FloatArray = NDArray[np.float64]

DIRECT_WIDTH = 8192  # `benchmarks/large_heads.py` measures both ways on either side of it
_PIVOT_SHARE = 8  # width / 8 pivots: a preconditioner for a tenth of a factor's time
_PATIENCE_SHARE = 100  # width / 100 iterations cost about what a factor costs
_LEAST_PATIENCE = 16  # iterations that any system may take
_TARGET = 0.1  # of tau: leaves room for rounding and for the release grid
_UNIT_ROUNDOFF = 2.0**-53
_STRIP = 128  # columns whose products are summed before strips are added up
_WIDENINGS = 10  # then all coordinates: a head that widens so often is coupled throughout
_REFINEMENTS = 4  # one is enough for a well-conditioned head; more only fight rounding

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Solution:
    """A certified near-minimiser. It is secret until noise hides it: see `mbd.lattice.release`.

    Attributes:
        weights_DK: float64 [D, K].
        residual_bound: an upper bound of ||(G + Lambda) w - c||_F, rounding included.
        candidates: how many coordinates the Newton steps moved.
        iterations: of conjugate gradients, all steps together; 0 where Cholesky alone solved.
        widenings: how often the candidates had to grow after the first proposal.
    """

    weights_DK: FloatArray
    residual_bound: float
    candidates: int
    iterations: int = 0
    widenings: int = 0


def residual(matrix_DD: FloatArray, moment_DK: FloatArray, weights_DK: FloatArray) -> tuple[FloatArray, float]:
    """The residual as computed, and a rigorous bound of the true one's Frobenius norm.

    The bound adds gamma_n (|M| |w| + |c|), the standard bound of an inner product's rounding (Higham 2002, section
    3.1), so a certificate never rests on an unrounded wish. Products are summed in strips of s columns, in any order
    inside a strip, and then the D / s strips are added up: no term passes through more than n = s + D / s + 1
    roundings (section 4.2). At D = 20,000 that bound is 70 times smaller than one with n = D. |M| is taken a strip
    of rows at a time, so that no second matrix is held.
    """
    computed_DK = _as_computed(matrix_DD, moment_DK, weights_DK)
    width = len(matrix_DD)
    magnitude_DK, buffer_SD = np.abs(moment_DK), np.empty((min(_STRIP, width), width))
    sizes_DK = np.abs(weights_DK)
    for start in range(0, width, _STRIP):
        strip = slice(start, min(start + _STRIP, width))
        magnitude_DK[strip] += np.abs(matrix_DD[strip], out=buffer_SD[: strip.stop - start]) @ sizes_DK
    terms = min(_STRIP, width) + -(-width // _STRIP) + 1
    gamma = terms * _UNIT_ROUNDOFF / (1 - terms * _UNIT_ROUNDOFF)
    slack = 1 + 2 * (computed_DK.size + terms) * _UNIT_ROUNDOFF  # the norms and the products above round too
    bound = (float(np.linalg.norm(computed_DK)) + gamma * float(np.linalg.norm(magnitude_DK)) * slack) * slack
    return computed_DK, bound


def _as_computed(matrix_DD: FloatArray, moment_DK: FloatArray, weights_DK: FloatArray) -> FloatArray:
    """M w - c, products summed in strips."""
    computed_DK = -moment_DK
    for start in range(0, len(matrix_DD), _STRIP):
        computed_DK += matrix_DD[:, start : start + _STRIP] @ weights_DK[start : start + _STRIP]
    return computed_DK


def solve(
    matrix_DD: FloatArray,
    moment_DK: FloatArray,
    *,
    tau: float,
    start_DK: FloatArray | None = None,
    grid: float = 0.0,
    precondition: Preconditioner | None = None,
    direct_width: int = DIRECT_WIDTH,
) -> Solution:
    """Near-minimiser with ||residual|| <= tau.

    Args:
        matrix_DD: G + Lambda, symmetric positive definite.
        moment_DK: c.
        tau: the public bound of the residual, fixed in advance.
        start_DK: where Newton starts (the released weights before a deletion); None solves from nothing, so
            that the result is a function of G, c and Lambda alone.
        grid: the point that is certified is rounded to multiples of this power of two; 0 rounds nothing.
        precondition: resembles the inverse over all D coordinates, for example `full_factor` of the matrix before a
            deletion. It changes the cost and never the certificate. With ``start_DK=None`` it must come from public
            constants, or the result would not be a function of G, c and Lambda alone. None makes one from the
            matrix itself.
        direct_width: how many candidates Cholesky solves; more go to conjugate gradients.

    Raises:
        NotCertifiedError: not even the full solve reaches tau, which then lies under the rounding floor, or the grid
            is too coarse beside it; or the matrix is not positive definite, or a number is not finite.
    """
    width = len(matrix_DD)
    weights_DK = np.zeros_like(moment_DK) if start_DK is None else _rounded(start_DK, grid)
    residual_DK = _as_computed(matrix_DD, moment_DK, weights_DK)
    bound = float(np.linalg.norm(residual_DK))  # enough to see that the start is not good enough yet
    if bound <= tau:
        residual_DK, bound = residual(matrix_DD, moment_DK, weights_DK)
    if not np.isfinite(bound):
        raise NotCertifiedError(
            "The statistics or the weights to start from hold a number that is not finite.",
            remedy="check that both are the registered ones (`mbd ledger fsck`); nothing was released",
        )
    chosen = np.full(width, start_DK is None)
    system: _System | None = None
    proposals = full_steps = iterations = 0
    while bound > tau and full_steps < _REFINEMENTS:
        if system is None or not chosen.all():
            chosen = _widened(chosen, residual_DK, tau, proposals)
            system = _System(matrix_DD, np.flatnonzero(chosen), precondition, direct_width)
            proposals += 1
            _log.debug("Newton step on %d of %d coordinates", len(system.at), width)
        step_SK, spent = system.solve(residual_DK[system.at], target=_TARGET * tau)
        iterations += spent
        full_steps += len(system.at) == width
        weights_DK[system.at] -= step_SK
        weights_DK, residual_DK, bound = _on_grid(matrix_DD, moment_DK, weights_DK, tau, grid)
    if not bound <= tau:
        raise NotCertifiedError(
            f"The residual is bounded by {bound:.3g}, above tau = {tau:g}, after the full solve.",
            remedy="train the model line with a larger tau or larger penalties; nothing was released",
        )
    found = Solution(weights_DK, bound, int(chosen.sum()), iterations, max(proposals - 1, 0))
    _log.debug("certified after %d iterations, candidates widened %d times", found.iterations, found.widenings)
    return found


def _on_grid(
    matrix_DD: FloatArray, moment_DK: FloatArray, weights_DK: FloatArray, tau: float, grid: float
) -> tuple[FloatArray, FloatArray, float]:
    """The point on the grid, its residual and bound; or, while that is above tau, the point itself to go on from.

    Raises:
        NotCertifiedError: rounding is all that stands in the way.
    """
    rounded_DK = _rounded(weights_DK, grid)
    residual_DK, bound = residual(matrix_DD, moment_DK, rounded_DK)
    if bound <= tau or not grid:
        return rounded_DK, residual_DK, bound
    residual_DK, unrounded = residual(matrix_DD, moment_DK, weights_DK)
    if unrounded <= tau:
        raise NotCertifiedError(
            f"On the release grid the residual is bounded by {bound:.3g}, above tau = {tau:g}.",
            remedy="train the model line with a larger MBD_INDICATOR_PENALTY or MBD_EPSILON: they make the grid finer "
            "beside tau, as a larger tau does not; nothing was released",
        )
    return weights_DK, residual_DK, unrounded


def _rounded(weights_DK: FloatArray, grid: float) -> FloatArray:
    return np.rint(weights_DK / grid) * grid if grid else weights_DK.copy()


class _System:
    """M_SS x = r for one set of candidates: by conjugate gradients once if it is wide, else by a kept factor."""

    def __init__(
        self, matrix_DD: FloatArray, at: NDArray[np.intp], precondition: Preconditioner | None, direct_width: int
    ) -> None:
        whole = len(at) == len(matrix_DD)
        self.at = at
        self._matrix_SS = matrix_DD if whole else matrix_DD[np.ix_(at, at)]
        if precondition is not None and not whole:
            precondition = on_coordinates(precondition, at, len(matrix_DD))
        self._precondition = precondition
        self._iterate = len(at) > direct_width
        self._factor: Preconditioner | None = None

    def solve(self, right_SK: FloatArray, *, target: float) -> tuple[FloatArray, int]:
        """An approximation of M_SS^-1 r, and its iterations; a second call refines the first, and wants a factor."""
        iterations = 0
        if self._iterate:
            self._iterate = False
            width = len(self._matrix_SS)
            found = conjugate_gradients(
                self._matrix_SS,
                right_SK,
                self._precondition or partial_factor(self._matrix_SS, max(width // _PIVOT_SHARE, 1)),
                target=target,
                most=max(width // _PATIENCE_SHARE, _LEAST_PATIENCE),
            )
            if found.converged:
                return found.solution_DK, found.iterations
            iterations = found.iterations
            _log.debug("no convergence in %d iterations: a factor of %d coordinates follows", iterations, width)
        if self._factor is None:
            self._factor = full_factor(self._matrix_SS)
        return self._factor(right_SK), iterations


def _widened(chosen: NDArray[np.bool_], residual_DK: FloatArray, tau: float, proposals: int) -> NDArray[np.bool_]:
    """The candidates and what is salient now; all coordinates where the full solve is cheaper than widening again."""
    saliency_D = np.linalg.norm(residual_DK, axis=1)
    if np.count_nonzero(saliency_D > tau / 2) > len(chosen) // 2:
        return np.ones_like(chosen)  # each of these is salient by itself: no need to sort
    widened = chosen | _salient(saliency_D, tau)
    if widened.sum() > len(chosen) // 2 or np.array_equal(widened, chosen) or proposals > _WIDENINGS:
        return np.ones_like(chosen)
    return widened


def _salient(saliency_D: FloatArray, tau: float) -> NDArray[np.bool_]:
    """The fewest coordinates whose removal leaves a residual of at most tau / 2."""
    ascending = np.argsort(saliency_D, kind="stable")
    negligible = np.sqrt(np.cumsum(saliency_D[ascending] ** 2)) <= tau / 2
    salient = np.ones(len(saliency_D), dtype=bool)
    salient[ascending[negligible]] = False
    return salient
