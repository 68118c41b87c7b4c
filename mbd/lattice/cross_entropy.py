"""Cross-entropy heads: solve on the rows, then certify the gradient over all coordinates. It draws no noise.

    minimise  L(W) = sum_i CE(softmax(W^T phi_i), y_i) + 1/2 sum_k w_k^T Lambda w_k
    gradient  R(W) = sum_i phi_i (softmax(W^T phi_i) - y_i)^T + Lambda W

L has no finite statistics, so a solve reads every row: its cost grows with n. It is lambda_min-strongly convex, so
||R(W)||_F <= tau implies ||W - W*||_F <= tau / lambda_min, whatever the start was.
Source: docs/mechanisms/cross_entropy.md. Higham is "Accuracy and Stability of Numerical Algorithms", 2nd edition, 2002.

Legend: N rows, D coordinates, K classes, T rows of one chunk.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, cg
from scipy.special import logsumexp

from mbd.errors import NotCertifiedError, TrainingError
from mbd.hashing import arrays_digest
from mbd.lattice.solve import Solution

FloatArray = NDArray[np.float64]

ASSUMPTIONS = (
    "The exponential in float64 errs by at most 4 units in the last place, and below 2^-1022 by at most 2^-1022.",
    "Matrix products in float64 are sums of products in some order, each operation rounded to nearest or fused.",
)
"""What the bound of the residual's rounding rests on beside IEEE arithmetic, by name."""

CHUNK_ROWS = 1024

_UNIT_ROUNDOFF = 2.0**-53
_EXP_ERROR = 9 * _UNIT_ROUNDOFF  # ln(1 + 4 ulp), where an ulp is at most 2 u
_UNDERFLOW = 2.0**-400  # more than everything that numbers below 2^-1022 can add up to
_NEWTON_STEPS = 100  # far more than the line search ever needed
_CG_STEPS = 1000  # a direction that was cut short still descends
_HALVINGS = 60
_SUFFICIENT = 1e-4  # Armijo's constant
_NOISE_OF_VALUE = 2.0**-40  # relative differences of L below this are rounding: there the full step is right


def cross_entropy_residual(
    phi_ND: FloatArray, target_NK: FloatArray, penalty_D: FloatArray, weights_DK: FloatArray
) -> tuple[FloatArray, float]:
    """The gradient as computed, float64 [D, K], and a rigorous bound of the true one's Frobenius norm.

    Args:
        phi_ND: features in their own units, float64, at most 1 in absolute value; exact, as `Featurizer.features`
            times 2^-b is.
        target_NK: one-hot labels.
        penalty_D: the diagonal of Lambda.
        weights_DK: where.
    """
    return _bounded(*_Objective(phi_ND, target_NK, penalty_D).gradient(weights_DK))


def solve_cross_entropy(
    phi_ND: FloatArray,
    target_NK: FloatArray,
    penalty_D: FloatArray,
    *,
    tau: float,
    start_DK: FloatArray | None = None,
    grid: float = 0.0,
) -> Solution:
    """Near-minimiser with ||R(W)||_F <= tau, by Newton's method with conjugate gradients.

    Beside the features it holds a few arrays of the targets' and of the weights' size, and one chunk of rows.

    Args:
        phi_ND: features in their own units, as in `cross_entropy_residual`.
        target_NK: one-hot labels.
        penalty_D: the public diagonal of Lambda, every entry at least 1.
        tau: the public bound of the residual, fixed in advance.
        start_DK: where Newton starts (the released weights before a deletion); None solves from nothing, so that the
            result is a function of the rows and Lambda alone.
        grid: the point that is certified is rounded to multiples of this power of two; 0 rounds nothing.

    Raises:
        TrainingError: the targets are not one-hot.
        NotCertifiedError: tau lies under the rounding floor, or Newton's method did not get there.
    """
    _require_one_hot(target_NK)
    objective = _Objective(phi_ND, target_NK, penalty_D)
    width, classes = phi_ND.shape[1], target_NK.shape[1]
    weights_DK = np.zeros((width, classes)) if start_DK is None else start_DK.copy()
    residual_DK, bound = _bounded(*objective.gradient(weights_DK))
    candidates = 0
    for _ in range(_NEWTON_STEPS):
        # Where less than half of the bound is gradient, the rest is rounding, and no step takes that away.
        if bound <= (tau / 2 if grid else tau) or np.linalg.norm(residual_DK) < bound / 2:
            break
        weights_DK, candidates = objective.newton(weights_DK, residual_DK, tau=tau), width
        residual_DK, bound = _bounded(*objective.gradient(weights_DK))
    if grid:
        weights_DK = np.rint(weights_DK / grid) * grid
        residual_DK, bound = _bounded(*objective.gradient(weights_DK))
    if not bound <= tau:
        raise NotCertifiedError(
            f"The residual over {len(phi_ND):,} rows is bounded by {bound:.3g}, above tau = {tau:g}.",
            remedy="train the model line with a larger MBD_TAU; or with a larger MBD_INDICATOR_PENALTY, for a finer "
            "release grid; nothing was released",
        )
    return Solution(weights_DK, bound, candidates)


@dataclass(frozen=True)
class HeadRows:
    """Training rows, for heads that have no finite statistics. Features of all of them are in memory.

    Attributes:
        phi_ND: features in their own units, as in `cross_entropy_residual`, over all coordinates of a layout.
        target_NK: one-hot labels.
        salt: the version's random bytes.
    """

    phi_ND: FloatArray
    target_NK: FloatArray
    salt: bytes = field(repr=False)

    def of(self, at: NDArray[np.intp]) -> tuple[FloatArray, FloatArray]:
        """Features and targets of one head with these coordinates.

        A row of which the head knows no block is left out: it adds a constant to L, but would shift the chunks, and a
        head's bits must not depend on it.
        """
        mine_ND = self.phi_ND[:, at]
        knows_N = mine_ND.any(axis=1)
        return mine_ND[knows_N], self.target_NK[knows_N]

    @cached_property
    def commitment(self) -> str:
        """SHA-256 (hex) under the salt. Equal statistics do not mean equal rows, and noise is bound to the rows."""
        salt = np.frombuffer(self.salt, np.uint8)
        return arrays_digest({"phi": self.phi_ND, "targets": self.target_NK, "salt": salt})


@dataclass(frozen=True)
class _Objective:
    """L for fixed rows. The names of steps are those of docs/mechanisms/cross_entropy.md."""

    phi_ND: FloatArray
    target_NK: FloatArray
    penalty_D: FloatArray

    def gradient(self, weights_DK: FloatArray) -> tuple[FloatArray, FloatArray]:
        """R(W) as computed [D, K], and a bound of its error in every entry [D, K]."""
        gradient_DK, rounding_DK = np.zeros_like(weights_DK), np.zeros_like(weights_DK)
        length, chunks = min(CHUNK_ROWS, len(self.phi_ND)), -(-len(self.phi_ND) // CHUNK_ROWS)
        of_the_sum = _gamma(length + chunks + 1)  # steps 5 and 6
        for at in self._chunks():
            phi_TD = self.phi_ND[at]
            size_TD = np.abs(phi_TD)
            probability_TK = _softmax(phi_TD @ weights_DK)
            difference_TK = probability_TK - self.target_NK[at]
            logit_size_TK = size_TD @ np.abs(weights_DK)
            error_TK = _softmax_error(probability_TK, logit_size_TK, width=phi_TD.shape[1])
            gradient_DK += phi_TD.T @ difference_TK
            rounding_DK += size_TD.T @ (of_the_sum * np.abs(difference_TK) + error_TK)
        pull_DK = self.penalty_D[:, None] * weights_DK
        gradient_DK += pull_DK
        rounding_DK += _gamma(1) * (np.abs(pull_DK) + np.abs(gradient_DK))  # step 7
        terms = length + chunks + sum(weights_DK.shape) + 32
        return gradient_DK, rounding_DK * (1 + 2 * terms * _UNIT_ROUNDOFF)  # step 8: the bound rounds too

    def newton(self, weights_DK: FloatArray, gradient_DK: FloatArray, *, tau: float) -> FloatArray:
        """One truncated Newton step with Armijo's backtracking (Nocedal and Wright 2006, algorithm 7.1)."""
        logit_NK = self.phi_ND @ weights_DK
        probability_NK = _softmax(logit_NK)
        direction_DK = self._direction(probability_NK, gradient_DK, tau)
        slope = float((gradient_DK * direction_DK).sum())
        along_NK = self.phi_ND @ direction_DK
        value = self._value(logit_NK, weights_DK)
        allowed = value + _NOISE_OF_VALUE * abs(value)
        length = 1.0
        for _ in range(_HALVINGS):
            reached_DK = weights_DK + length * direction_DK
            if self._value(logit_NK + length * along_NK, reached_DK) <= allowed + _SUFFICIENT * length * slope:
                return reached_DK
            length /= 2
        return weights_DK

    def _direction(self, probability_NK: FloatArray, gradient_DK: FloatArray, tau: float) -> FloatArray:
        """-H^-1 R by conjugate gradients, preconditioned with H's diagonal; it gets more exact as R gets small."""
        shape = gradient_DK.shape
        diagonal_DK = np.repeat(self.penalty_D[:, None], shape[1], axis=1)
        for at in self._chunks():
            diagonal_DK += np.square(self.phi_ND[at]).T @ (probability_NK[at] * (1 - probability_NK[at]))

        def hessian(flat: FloatArray) -> FloatArray:
            vector_DK = flat.reshape(shape)
            change_NK = self.phi_ND @ vector_DK
            change_NK -= (probability_NK * change_NK).sum(axis=1, keepdims=True)
            change_NK *= probability_NK
            return np.asarray(self.phi_ND.T @ change_NK + self.penalty_D[:, None] * vector_DK).ravel()

        size = gradient_DK.size
        norm = float(np.linalg.norm(gradient_DK))
        flat, _ = cg(
            LinearOperator((size, size), matvec=hessian, dtype=np.float64),
            -gradient_DK.ravel(),
            rtol=min(0.1, norm),
            atol=tau / 100,
            maxiter=_CG_STEPS,
            M=LinearOperator((size, size), matvec=lambda x: x / diagonal_DK.ravel(), dtype=np.float64),
        )
        return np.asarray(flat.reshape(shape))

    def _value(self, logit_NK: FloatArray, weights_DK: FloatArray) -> float:
        """L(W), from the logits."""
        margin_NK = logit_NK - (logit_NK * self.target_NK).sum(axis=1, keepdims=True)
        penalty = (self.penalty_D[:, None] * np.square(weights_DK)).sum()
        return float(logsumexp(margin_NK, axis=1).sum() + penalty / 2)

    def _chunks(self) -> Iterator[slice]:
        for start in range(0, len(self.phi_ND), CHUNK_ROWS):
            yield slice(start, start + CHUNK_ROWS)


def _softmax(logit_NK: FloatArray) -> FloatArray:
    """Written out, because the error analysis is of these very operations."""
    power_NK = np.exp(logit_NK - logit_NK.max(axis=1, keepdims=True))
    return np.asarray(power_NK / power_NK.sum(axis=1, keepdims=True))


def _softmax_error(probability_TK: FloatArray, logit_size_TK: FloatArray, *, width: int) -> FloatArray:
    """A bound of |computed - true probability| in every entry.

    The rounding of product, shift and exponential is a change theta of the logits (steps 1 to 3). It moves the log-odds
    of a class by at most 2 theta, and so its probability by at most 2 theta e^(2 theta) p (1 - p) with p at the changed
    logits. Sum and division err by a relative gamma_K (step 4).
    """
    theta_T1 = _gamma(width + 3) * logit_size_TK.max(axis=1, keepdims=True) + _EXP_ERROR
    of_the_division = _gamma(probability_TK.shape[1])
    slope_TK = probability_TK * (1 - probability_TK + of_the_division)
    moved_TK = np.where(theta_T1 <= 0.5, 2 * theta_T1 * (1 + 4 * theta_T1) * slope_TK, 1.0)  # e^x <= 1 + 2x up to 1
    return np.asarray(moved_TK + of_the_division * probability_TK)


def _bounded(gradient_DK: FloatArray, rounding_DK: FloatArray) -> tuple[FloatArray, float]:
    """The gradient, and a bound of the true one's norm; the norms round too (step 8)."""
    slack = 1 + 2 * (gradient_DK.size + 8) * _UNIT_ROUNDOFF
    total = float(np.linalg.norm(gradient_DK)) + float(np.linalg.norm(rounding_DK))
    return gradient_DK, total * slack + _UNDERFLOW


def _gamma(terms: int) -> float:
    """Higham's gamma: the relative error of ``terms`` roundings in a row is at most this (lemma 3.1)."""
    return terms * _UNIT_ROUNDOFF / (1 - terms * _UNIT_ROUNDOFF)


def _require_one_hot(target_NK: FloatArray) -> None:
    if not (np.isin(target_NK, (0.0, 1.0)).all() and (target_NK.sum(axis=1) == 1).all()):
        raise TrainingError(
            "A cross-entropy head needs one class for each row, and some target is not one-hot.",
            remedy="use squared heads for scores; for classes, give each row exactly one",
        )
