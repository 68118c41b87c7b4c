"""Strongly convex heads: solve, then certify the residual over all coordinates. It draws no noise.

    minimise  1/2 w^T G w - c^T w + 1/2 w^T Lambda w,     gradient  r(w) = (G + Lambda) w - c

1. Saliency proposes: coordinates with a large |r| at the start are candidates, and a Newton step moves them.
2. The residual certifies: ||r(w)|| <= tau over all coordinates, the rounding of its own computation included.
   If it fails, the candidates widen; at last all coordinates are candidates.
Then ||w - w*|| <= tau / lambda_min, whatever the start was. Source: docs/guarantees.md, Claim 3.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from mbd.errors import NotCertifiedError

FloatArray = NDArray[np.float64]

_UNIT_ROUNDOFF = 2.0**-53
_REFINEMENTS = 4  # one is enough for a well-conditioned head; more only fight rounding


@dataclass(frozen=True)
class Solution:
    """A certified near-minimiser. It is secret until noise hides it: see `mbd.lattice.release`.

    Attributes:
        weights_DK: float64 [D, K].
        residual_bound: an upper bound of ||(G + Lambda) w - c||_F, rounding included.
        candidates: how many coordinates the Newton steps moved.
    """

    weights_DK: FloatArray
    residual_bound: float
    candidates: int


def residual(matrix_DD: FloatArray, moment_DK: FloatArray, weights_DK: FloatArray) -> tuple[FloatArray, float]:
    """The residual as computed, and a rigorous bound of the true one's Frobenius norm.

    The bound adds gamma_(D+2) (|M| |w| + |c|), the standard bound of an inner product's rounding in any order of
    summation (Higham 2002, section 3.1), so a certificate never rests on an unrounded wish.
    """
    computed_DK = matrix_DD @ weights_DK - moment_DK
    terms = len(matrix_DD) + 2
    gamma = terms * _UNIT_ROUNDOFF / (1 - terms * _UNIT_ROUNDOFF)
    rounding_DK = gamma * (np.abs(matrix_DD) @ np.abs(weights_DK) + np.abs(moment_DK))
    slack = 1 + 2 * computed_DK.size * _UNIT_ROUNDOFF  # the norms and the products above round too
    bound = (float(np.linalg.norm(computed_DK)) + float(np.linalg.norm(rounding_DK)) * slack) * slack
    return computed_DK, bound


def solve(matrix_DD: FloatArray, moment_DK: FloatArray, *, tau: float, start_DK: FloatArray | None = None) -> Solution:
    """Near-minimiser with ||residual|| <= tau.

    Args:
        matrix_DD: G + Lambda, symmetric positive definite.
        moment_DK: c.
        tau: the public bound of the residual, fixed in advance.
        start_DK: where Newton starts (the released weights before a deletion); None solves from nothing, so
            that the result is a function of G, c and Lambda alone.

    Raises:
        NotCertifiedError: not even the full solve reaches tau, which then lies under the rounding floor.
    """
    width = len(matrix_DD)
    weights_DK = np.zeros_like(moment_DK) if start_DK is None else start_DK.copy()
    residual_DK, bound = residual(matrix_DD, moment_DK, weights_DK)
    chosen = np.zeros(width, dtype=bool) if start_DK is not None else np.ones(width, dtype=bool)
    while bound > tau and not chosen.all():
        widened = chosen | _salient(residual_DK, tau)
        if widened.sum() > width // 2 or np.array_equal(widened, chosen):
            chosen[:] = True  # past half the coordinates the full solve is cheaper than widening again
            break
        chosen = widened
        weights_DK, residual_DK, bound = _newton(matrix_DD, moment_DK, weights_DK, residual_DK, chosen)
    for _ in range(_REFINEMENTS):
        if bound <= tau or not chosen.all():
            break
        weights_DK, residual_DK, bound = _newton(matrix_DD, moment_DK, weights_DK, residual_DK, chosen)
    if not bound <= tau:
        raise NotCertifiedError(
            f"The residual is bounded by {bound:.3g}, above tau = {tau:g}, after the full solve.",
            remedy="train the model line with a larger tau or larger penalties; nothing was released",
        )
    return Solution(weights_DK, bound, int(chosen.sum()))


def _salient(residual_DK: FloatArray, tau: float) -> NDArray[np.bool_]:
    """The fewest coordinates whose removal leaves a residual of at most tau / 2."""
    saliency_D = np.linalg.norm(residual_DK, axis=1)
    ascending = np.argsort(saliency_D, kind="stable")
    negligible = np.sqrt(np.cumsum(saliency_D[ascending] ** 2)) <= tau / 2
    salient = np.ones(len(saliency_D), dtype=bool)
    salient[ascending[negligible]] = False
    return salient


def _newton(
    matrix_DD: FloatArray,
    moment_DK: FloatArray,
    weights_DK: FloatArray,
    residual_DK: FloatArray,
    chosen: NDArray[np.bool_],
) -> tuple[FloatArray, FloatArray, float]:
    at = np.flatnonzero(chosen)
    part_DD = matrix_DD if chosen.all() else matrix_DD[np.ix_(at, at)]  # gathering costs half of factorising
    factor = cho_factor(part_DD, lower=True)
    weights_DK = weights_DK.copy()
    weights_DK[at] -= cho_solve(factor, residual_DK[at])
    return weights_DK, *residual(matrix_DD, moment_DK, weights_DK)
