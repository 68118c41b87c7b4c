"""Preconditioned conjugate gradients for one symmetric positive definite system. It knows no tau and certifies nothing.

    M x = r for several right-hand sides at once; a preconditioner is a cheap map that resembles the inverse of M

Whoever calls it computes the true residual of what comes back. So a preconditioner, good or bad, decides how long the
iteration takes and nothing else. Sources: Golub and Van Loan, Matrix Computations (4th ed.), algorithm 11.5.1;
partial Cholesky factors as preconditioners: Diaz, Epperly, Frangella, Tropp and Webber 2023, section 2.

Legend: D coordinates, K right-hand sides, P pivots.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.linalg.lapack import dpotrf, dpotrs

from mbd.errors import NotCertifiedError

FloatArray = NDArray[np.float64]
Preconditioner = Callable[[FloatArray], FloatArray]

_PIVOT_SEED = 0  # a public constant: which coordinates are pivots never depends on data


@dataclass(frozen=True)
class Iterated:
    """What the iteration reached.

    Attributes:
        solution_DK: float64 [D, K].
        iterations: products with the matrix.
        converged: whether the residual, as the recursion carries it along, fell to the target.
    """

    solution_DK: FloatArray
    iterations: int
    converged: bool


def conjugate_gradients(
    matrix_DD: FloatArray, right_DK: FloatArray, precondition: Preconditioner, *, target: float, most: int
) -> Iterated:
    """Iterate from zero until ||M x - r||_F <= target, at most ``most`` times.

    Args:
        matrix_DD: M, symmetric positive definite.
        right_DK: r. A column leaves the iteration when its residual is at most target / sqrt(K).
        precondition: symmetric positive definite, [D, K] to [D, K], for any K.
        target: of the residual that the recursion carries along; the true one can be larger by rounding.
        most: the largest number of products with M.

    Raises:
        NotCertifiedError: M or the preconditioner is not positive definite, or a number is not finite.
    """
    solution_DK = np.zeros_like(right_DK)
    share = target / np.sqrt(right_DK.shape[1])
    live = np.flatnonzero(~(np.linalg.norm(right_DK, axis=0) <= share))  # a NaN stays live, and is refused below
    rest_DK = right_DK[:, live]
    direction_DK = precondition(rest_DK)
    energy_K = _positive(rest_DK, direction_DK, "The preconditioner")
    iterations = 0
    while live.size and iterations < most:
        image_DK = (direction_DK.T @ matrix_DD).T  # M is symmetric; rows times M is what BLAS does best in C order
        step_K = energy_K / _positive(direction_DK, image_DK, "The matrix G + Lambda")
        solution_DK[:, live] += step_K * direction_DK
        rest_DK = rest_DK - step_K * image_DK
        iterations += 1
        kept = ~(np.linalg.norm(rest_DK, axis=0) <= share)
        live, rest_DK, direction_DK, energy_K = live[kept], rest_DK[:, kept], direction_DK[:, kept], energy_K[kept]
        if live.size:
            gradient_DK = precondition(rest_DK)
            next_K = _positive(rest_DK, gradient_DK, "The preconditioner")
            direction_DK = gradient_DK + next_K / energy_K * direction_DK
            energy_K = next_K
    return Iterated(solution_DK, iterations, converged=not live.size)


def full_factor(matrix_DD: FloatArray) -> Preconditioner:
    """The inverse by a whole Cholesky factor: of the system itself, or of one that resembles it.

    It costs D^3 / 3 multiplications and one copy of the matrix.

    Raises:
        NotCertifiedError: the matrix is not positive definite.
    """
    factor = _cholesky(matrix_DD)
    return lambda right_DK: np.asarray(dpotrs(factor, right_DK, lower=True)[0])


def partial_factor(matrix_DD: FloatArray, pivots: int) -> Preconditioner:
    """The inverse of a model of M: exact on a few pivot coordinates and their coupling, diagonal in what remains.

    With M_PP = L L^T and B = L^-1 M_PD, the model is B^T B + diag(M - B^T B). Whatever of the spectrum the pivots span,
    the iteration need not discover. Pivots are drawn by a fixed seed: evenly spaced ones can fall in step with a
    layout, and greedily chosen ones were no better. It costs P^2 D multiplications and P D numbers.

    Args:
        matrix_DD: M, symmetric positive definite.
        pivots: P, from 1 to D.

    Raises:
        NotCertifiedError: M is not positive definite.
    """
    at = np.sort(np.random.default_rng(_PIVOT_SEED).permutation(len(matrix_DD))[:pivots])
    lower_PP = _cholesky(matrix_DD[np.ix_(at, at)])
    half_PD = solve_triangular(lower_PP, matrix_DD[at], lower=True, overwrite_b=True, check_finite=False)
    remainder_D = np.diag(matrix_DD) - np.einsum("pd,pd->d", half_PD, half_PD)
    remainder_D[at] = np.inf  # pivots have no remainder: the factor answers for them
    if not (remainder_D > 0).all():
        raise _not_positive("The matrix G + Lambda")

    def precondition(right_DK: FloatArray) -> FloatArray:
        known_PK = solve_triangular(lower_PP, right_DK[at], lower=True, check_finite=False)
        out_DK: FloatArray = (right_DK - half_PD.T @ known_PK) / remainder_D[:, None]
        known_PK -= half_PD @ out_DK
        out_DK[at] = solve_triangular(lower_PP, known_PK, lower=True, trans=1, check_finite=False)
        return out_DK

    return precondition


def on_coordinates(precondition: Preconditioner, at: NDArray[np.intp], width: int) -> Preconditioner:
    """A preconditioner of all ``width`` coordinates, restricted to some: a principal part stays positive definite."""

    def restricted(right_SK: FloatArray) -> FloatArray:
        right_DK = np.zeros((width, right_SK.shape[1]))
        right_DK[at] = right_SK
        return precondition(right_DK)[at]

    return restricted


def _cholesky(matrix_DD: FloatArray) -> FloatArray:
    """The lower factor, in one copy that LAPACK overwrites; the other triangle holds leftovers."""
    factor, info = dpotrf(matrix_DD.copy().T, lower=True, clean=False, overwrite_a=True)
    if info:
        raise _not_positive("The matrix G + Lambda")
    return np.asarray(factor)


def _positive(left_DK: FloatArray, right_DK: FloatArray, what: str) -> FloatArray:
    """The inner product of each pair of columns; not positive, or not a number, means that ``what`` is broken."""
    product_K = np.asarray(np.einsum("dk,dk->k", left_DK, right_DK))
    if not ((product_K > 0) & np.isfinite(product_K)).all():
        raise _not_positive(what)
    return product_K


def _not_positive(what: str) -> NotCertifiedError:
    return NotCertifiedError(
        f"{what} is not positive definite in float64, or holds a number that is not finite.",
        remedy="check that the statistics are the registered ones (`mbd ledger fsck`); nothing was released",
    )
