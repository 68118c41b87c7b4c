"""How fast a model learns again what was withdrawn, beside a model that never knew it.

A model that only hides what it knew needs fewer steps. It knows no certificate, and draws no noise.
Source: Golatkar, Achille and Soatto 2020, section 6 (relearn time).
Legend: N rows, D coordinates, K outputs.
"""

import copy
import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from mbd.attacks.bounds import mean_interval
from mbd.attacks.report import Estimate, Report
from mbd.backbones.base import Backbone
from mbd.cohort.batch import make_batch
from mbd.cohort.cohort import Cohort
from mbd.errors import AttackError

FloatArray = NDArray[np.float64]

_FASTER = 0.99

MOST_STEPS = 2000
"""Whoever has not learnt it by then is said to need as many."""


def network_loss(network: Backbone, rows: Cohort) -> float:
    """The mean task loss of a network on rows with all the channels that they have."""
    network.eval()
    with torch.no_grad():
        batch = make_batch(rows, range(len(rows)))
        return network.losses(network(batch), batch)["task"].item()


def relearn_network(network: Backbone, rows: Cohort, *, target: float, rate: float, most: int = MOST_STEPS) -> float:
    """Gradient steps on the withdrawn rows until their mean loss is at most ``target``; fractions by interpolation.

    Full batches, dropout off: the count is a function of the network and the rows.

    Args:
        network: stays as it is; a copy learns.
        rows: what was withdrawn, with the withdrawn channels.
        target: the loss that the model had before the deletion.
        rate: of plain gradient descent.
        most: see `MOST_STEPS`.
    """
    learner = copy.deepcopy(network).eval()
    batch = make_batch(rows, range(len(rows)))
    optimiser = torch.optim.SGD(learner.parameters(), lr=rate)

    def step() -> float:
        optimiser.zero_grad()
        loss = learner.losses(learner(batch), batch)["task"]
        torch.autograd.backward(loss)
        optimiser.step()
        return loss.item()

    return _steps_until(step, target, most)


def relearn_head(
    weights_DK: FloatArray, phi_ND: FloatArray, target_NK: FloatArray, *, target: float, most: int = MOST_STEPS
) -> float:
    """The same for a linear head with squared loss; the rate is one over the loss's curvature.

    Args:
        weights_DK: released weights.
        phi_ND: features of the withdrawn rows as they were.
        target_NK: their labels.
        target: the mean squared error that the head had before the deletion.
        most: see `MOST_STEPS`.
    """
    curvature = float(np.linalg.eigvalsh(phi_ND.T @ phi_ND)[-1])
    if not curvature > 0:
        raise AttackError("The withdrawn rows have no features to learn again.", remedy="choose rows with the channel")
    learner_DK = weights_DK.copy()

    def step() -> float:
        nonlocal learner_DK
        error_NK = phi_ND @ learner_DK - target_NK
        learner_DK = learner_DK - phi_ND.T @ error_NK / curvature
        return float(np.square(error_NK).mean())

    return _steps_until(step, target, most)


def head_loss(weights_DK: FloatArray, phi_ND: FloatArray, target_NK: FloatArray) -> float:
    """The mean squared error of a head."""
    return float(np.square(phi_ND @ weights_DK - target_NK).mean())


def compare_relearning(
    unlearned: Sequence[float], never: Sequence[float], *, target: str, seed: int, confidence: float = 0.95
) -> Report:
    """Steps of unlearned models against those of models that never knew, in pairs of one world each.

    The verdict is ``held`` when the interval of the mean ratio over worlds (of its logarithm) reaches .99: no faster. A
    certified deletion may differ from never having known, by less than that.

    Raises:
        AttackError: fewer than three pairs.
    """
    if len(unlearned) != len(never) or len(never) < 3:
        raise AttackError(
            f"{len(unlearned)} and {len(never)} models are too few to compare.", remedy="give at least three pairs"
        )
    started = time.process_time()
    ratio_W = np.log((np.asarray(unlearned) + 1) / (np.asarray(never) + 1))
    low, high = np.exp(mean_interval(ratio_W, confidence))
    return Report(
        attack="relearning",
        target=target,
        question="Does the model learn again what was withdrawn faster than one that never knew it?",
        verdict="held" if high >= _FASTER else "broken",
        estimates=(
            Estimate(
                "steps over steps of never-exposed models",
                math.exp(ratio_W.mean()),
                float(low),
                float(high),
                confidence,
            ),
        ),
        claim=1.0,
        trials=len(ratio_W),
        seed=seed,
        seconds=time.process_time() - started,
        details={"unlearned": [float(x) for x in unlearned], "never": [float(x) for x in never]},
    )


def _steps_until(step: Callable[[], float], target: float, most: int) -> float:
    """Call ``step``, which returns the loss before it moves, until that loss is at most the target."""
    before = math.inf
    for number in range(most + 1):
        loss = step()
        if loss <= target:
            if not math.isfinite(before):
                return 0.0
            return number - 1 + (before - target) / (before - loss)
        before = loss
    return float(most)
