"""Certified removal of convex heads: objective perturbation when they are trained, a Newton step when rows leave.

Source: Guo, Goldstein, Hannun and van der Maaten 2020 (ICML), Theorems 1 and 3, Corollary 1, section 4 (linear logistic
regression). A head minimises sum_i l(w . x_i, y_i) + (lambda n / 2) ||w||^2 + b . w with b ~ N(0, sigma^2 I). Removing
rows, w moves by H^-1 Delta, Delta the removed rows' gradient and H the Hessian on what is left. The true gradient is
then at most

    beta = gamma ||X||_2 ||H^-1 Delta||_2 ||X H^-1 Delta||_2         (gamma = 1/4 for the logistic loss)

and the release is (c beta / sigma, 1.5 e^(-c^2 / 2))-removed. Corollary 1 bounds a Taylor remainder, so it holds word
for word when rows leave and others come: Delta is then the difference of both sums. A withdrawn channel is such a
change of rows. For squared loss the remainder is zero, and beta is rounding.

Legend: N rows, D coordinates, K outputs.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit

from benchmarks.peers.setting import (
    DELTA,
    EPSILON,
    FloatArray,
    Peer,
    Problem,
    Setting,
    Stopwatch,
    Unlearned,
    heads_outputs,
)
from mbd.cohort.modality import ModalitySet

SIGMA = {"classification": 0.05, "regression": 1e-3}
"""Of b, in the units of a gradient's sum; more costs accuracy, less leaves the budget for fewer removals."""

_GAMMA = 0.25
_TRAINED = 1e-9  # norm of the gradient at which training ends
_ROUNDING = 1e-9  # a generous bound of the residual of a Cholesky solve here, in the same unit


class Head(NamedTuple):
    """A trained head: weights [D, K] and the perturbation [D, K] that stays secret."""

    weights_DK: FloatArray
    noise_DK: FloatArray


def unlearn(setting: Setting) -> Unlearned:
    """Train on D, which is not counted; then one batch removal a head, or training again where the budget is passed."""
    watch, rng = Stopwatch(), np.random.default_rng([setting.seed, 11])
    kind = setting.cohort.task.kind
    sigma, loss = SIGMA[kind], _Logistic() if kind == "classification" else _Squared()
    patterns = setting.model.layout.patterns
    outputs = setting.cohort.task.outputs
    delta = DELTA / (len(patterns) * outputs)
    c = math.sqrt(2 * math.log(1.5 / delta))
    heads: dict[ModalitySet, FloatArray] = {}
    epsilon, retrained = 0.0, 0
    budget = EPSILON / (len(patterns) * outputs)
    for pattern in patterns:
        before, after = (_scaled(setting.problem(rows, pattern)) for rows in (setting.before_rows, setting.after_rows))
        trained = _train(before, loss, sigma * rng.standard_normal((before.phi_ND.shape[1], outputs)))
        with watch.running():
            released_DK = np.empty_like(trained.weights_DK)
            for k in range(outputs):
                w_D, beta = _remove(after, loss, trained, k)
                mine = c * beta / sigma
                if mine > budget:
                    fresh_DK = sigma * rng.standard_normal((len(w_D), 1))
                    one = Problem(after.phi_ND, after.target_NK[:, [k]], after.penalty_D)
                    w_D, mine = _train(one, loss, fresh_DK).weights_DK[:, 0], 0.0
                    retrained += 1
                released_DK[:, k] = w_D
                epsilon += mine
        heads[pattern] = released_DK

    featurizer = setting.model.featurizer
    scale = {p: _row_scale(len(setting.model.layout.coordinates(p))) for p in patterns}
    usable = {pattern: weights_DK * scale[pattern] for pattern, weights_DK in heads.items()}
    return Unlearned(
        lambda rows: heads_outputs(featurizer, usable, rows),
        watch.seconds,
        epsilon,
        heads=usable,
        details={"trained_again": retrained, "of": len(patterns) * outputs, "sigma": sigma},
    )


def _row_scale(width: int) -> float:
    """Features lie in [-1, 1]: divided by the root of their number, no row is longer than 1, as the paper asks."""
    return 1 / math.sqrt(width)


def _scaled(problem: Problem) -> Problem:
    """The same problem with short rows; the penalty stays lambda n of its own features."""
    scale = _row_scale(problem.phi_ND.shape[1])
    return Problem(problem.phi_ND * scale, problem.target_NK, problem.penalty_D * scale**2)


class _Squared:
    """1/2 (s - y)^2."""

    def slope(self, score_N: FloatArray, y_N: FloatArray) -> FloatArray:
        return score_N - y_N

    def curvature(self, score_N: FloatArray) -> FloatArray:
        return np.ones_like(score_N)

    def bound(self, x_ND: FloatArray, step_D: FloatArray) -> float:
        return _ROUNDING


class _Logistic:
    """log(1 + exp(-(2 y - 1) s)) for y in {0, 1}."""

    def slope(self, score_N: FloatArray, y_N: FloatArray) -> FloatArray:
        return np.asarray(expit(score_N) - y_N)

    def curvature(self, score_N: FloatArray) -> FloatArray:
        p_N = expit(score_N)
        return np.asarray(p_N * (1 - p_N))

    def bound(self, x_ND: FloatArray, step_D: FloatArray) -> float:
        """Corollary 1, and the rounding of what was computed."""
        longest = float(np.linalg.norm(x_ND, 2))
        return _GAMMA * longest * float(np.linalg.norm(step_D)) * float(np.linalg.norm(x_ND @ step_D)) + _ROUNDING


def gradient(problem: Problem, loss: _Squared | _Logistic, w_D: FloatArray, b_D: FloatArray, k: int) -> FloatArray:
    """Of the perturbed objective [D]."""
    slope_N = loss.slope(problem.phi_ND @ w_D, problem.target_NK[:, k])
    return problem.phi_ND.T @ slope_N + problem.penalty_D * w_D + b_D


def _hessian_solve(problem: Problem, loss: _Squared | _Logistic, w_D: FloatArray, right_D: FloatArray) -> FloatArray:
    curved_ND = problem.phi_ND * loss.curvature(problem.phi_ND @ w_D)[:, None]
    matrix_DD = problem.phi_ND.T @ curved_ND + np.diag(problem.penalty_D)
    return np.asarray(cho_solve(cho_factor(matrix_DD), right_D))


def _train(problem: Problem, loss: _Squared | _Logistic, noise_DK: FloatArray) -> Head:
    """Newton with halved steps until the gradient is negligible."""
    weights_DK = np.zeros_like(noise_DK)
    for k in range(noise_DK.shape[1]):
        w_D, b_D = weights_DK[:, k], noise_DK[:, k]
        slope_D = gradient(problem, loss, w_D, b_D, k)
        for _ in range(50):
            if np.linalg.norm(slope_D) <= _TRAINED:
                break
            step_D, share = _hessian_solve(problem, loss, w_D, slope_D), 1.0
            while share > 1e-3:
                tried_D = w_D - share * step_D
                new_D = gradient(problem, loss, tried_D, b_D, k)
                if np.linalg.norm(new_D) < np.linalg.norm(slope_D):
                    break
                share /= 2
            w_D, slope_D = tried_D, new_D
        assert np.linalg.norm(slope_D) <= 10 * _TRAINED, (
            "Newton has not converged: the bound would start from elsewhere"
        )
        weights_DK[:, k] = w_D
    return Head(weights_DK, noise_DK)


def _remove(after: Problem, loss: _Squared | _Logistic, head: Head, k: int) -> tuple[FloatArray, float]:
    """One Newton step on D' from the weights on D, and the bound of the gradient that is left."""
    w_D = head.weights_DK[:, k]
    # on D the gradient was zero, so on D' it is minus Delta
    step_D = -_hessian_solve(after, loss, w_D, gradient(after, loss, w_D, head.noise_DK[:, k], k))
    return w_D + step_D, loss.bound(after.phi_ND, step_D)


GUO = Peer(
    name="certified removal",
    family="heads",
    source="Guo et al. 2020, Theorem 3 and Corollary 1",
    deviations=(
        "classes one against the rest, delta and budget split evenly among heads and classes",
        "scores by least squares, whose remainder is zero up to rounding: the paper's remark on linear regression",
        "rows change instead of leaving; the penalties are our line's",
    ),
    unlearn=unlearn,
)
