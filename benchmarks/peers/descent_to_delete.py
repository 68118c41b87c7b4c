"""Descent to delete: projected gradient descent from the old weights on what is left, then Gaussian noise.

Source: Neel, Roth and Sharifi-Malvajerdi 2021 (ALT), perturbed gradient descent for strongly convex, smooth losses. A
step of size 2 / (m + M) brings any two points closer by gamma = (M - m) / (M + m). Weights stay in a ball of radius R,
so after I steps they are within r = 2 R gamma^I of the minimiser, whatever the start; so are those of whoever trained
on D' alone, and both are released with N(0, sigma^2 I). Two means at most 2 r apart need sigma = 2 r / mu.

Legend: D coordinates, K outputs.
"""

import math

import numpy as np

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
from mbd.privacy.gaussian import mu_of

ITERATIONS = 15_000
RADIUS = 5.0


def unlearn(setting: Setting) -> Unlearned:
    """Descend from where the heads were on D; training on D before the request is not counted."""
    watch, rng = Stopwatch(), np.random.default_rng([setting.seed, 12])
    patterns = setting.model.layout.patterns
    mu = mu_of(EPSILON, DELTA) / math.sqrt(len(patterns))
    heads: dict[ModalitySet, FloatArray] = {}
    sigmas = {}
    for pattern in patterns:
        before, after = (setting.problem(rows, pattern) for rows in (setting.before_rows, setting.after_rows))
        gram_DD = before.phi_ND.T @ before.phi_ND + np.diag(before.penalty_D)
        start_DK = np.linalg.solve(gram_DD, before.phi_ND.T @ before.target_NK)
        with watch.running():
            weights_DK, distance = descend(after, start_DK)
            sigma = 2 * distance / mu
            heads[pattern] = weights_DK + sigma * rng.standard_normal(weights_DK.shape)
        sigmas["".join(sorted(m.value[0] for m in pattern))] = sigma
    featurizer = setting.model.featurizer
    return Unlearned(
        lambda rows: heads_outputs(featurizer, heads, rows),
        watch.seconds,
        EPSILON,
        heads=heads,
        details={"sigma": sigmas, "iterations": ITERATIONS},
    )


def descend(problem: Problem, start_DK: FloatArray) -> tuple[FloatArray, float]:
    """`ITERATIONS` projected steps on squared loss; the weights, and how far the minimiser can be."""
    gram_DD = problem.phi_ND.T @ problem.phi_ND + np.diag(problem.penalty_D)
    moment_DK = problem.phi_ND.T @ problem.target_NK
    least, most = float(problem.penalty_D.min()), float(np.linalg.eigvalsh(gram_DD)[-1])
    weights_DK = _into_the_ball(start_DK)
    for _ in range(ITERATIONS):
        weights_DK = weights_DK - 2 / (least + most) * (gram_DD @ weights_DK - moment_DK)
        weights_DK = _into_the_ball(weights_DK)
    return weights_DK, 2 * RADIUS * ((most - least) / (most + least)) ** ITERATIONS


def _into_the_ball(weights_DK: FloatArray) -> FloatArray:
    return np.asarray(weights_DK * (RADIUS / max(RADIUS, float(np.linalg.norm(weights_DK)))))


DESCENT_TO_DELETE = Peer(
    name="descent to delete",
    family="heads",
    source="Neel, Roth and Sharifi-Malvajerdi 2021, perturbed gradient descent",
    deviations=(
        "sigma by the exact curve of the Gaussian",
        "the start is anywhere in the ball, not a row's influence away: so any request is covered, and I is larger",
        "M is the largest eigenvalue on D', which depends on rows; the paper takes a public bound",
        "the ball's radius is ours; on it the minimiser over the ball is what is approached",
    ),
    unlearn=unlearn,
)
