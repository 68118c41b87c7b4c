"""Unlearning of features by influence: a step along the difference of two gradients, plain or by the inverse Hessian.

Source: Warnecke, Pirch, Wressnegger and Rieck 2023 (NDSS), first- and second-order updates, with Z the withdrawn rows
as they were and Z' the same rows without the channel: theta - tau (grad L(Z') - grad L(Z)), and H^-1 in place of tau.
Gradients are sums over rows; H is the Hessian of the sum over all training rows.
"""

from functools import partial

import torch
from torch import Tensor

from benchmarks.peers.descent import add, clone, flat, gradients, own_generator, task_loss
from benchmarks.peers.setting import Peer, Setting, Stopwatch, Unlearned, network_outputs
from mbd.backbones.base import Backbone
from mbd.cohort.batch import Batch, make_batch
from mbd.cohort.cohort import Cohort

RATE = {"regression": 2e-4, "classification": 3e-3}
"""tau by task: with 3e-3 the network for scores falls apart, with 2e-4 the one for classes hardly moves."""

DAMPING = 2.0
ITERATIONS = 12
_HESSIAN_ROWS = 256


def unlearn(setting: Setting, *, second: bool) -> Unlearned:
    """One step, of the first or the second order."""
    watch, network = Stopwatch(), clone(setting.network).eval()
    with watch.running(), own_generator(setting.seed):
        parameters = list(network.parameters())
        revoked = setting.revoked_rows
        changed = {row.clip for row in revoked.rows}
        kept = setting.after_rows.select([i for i, row in enumerate(setting.after_rows.rows) if row.clip in changed])
        difference_P = _sum_of_gradients(network, kept) - _sum_of_gradients(network, revoked)
        details = {}
        if second:
            rows = setting.before_rows
            some = make_batch(rows, torch.randperm(len(rows))[:_HESSIAN_ROWS].tolist())
            product = partial(hessian_product, network, some)
            right_P = difference_P / len(rows)
            step_P = conjugate_gradients(product, right_P)
            details["residual"] = float((product(step_P) - right_P).norm() / right_P.norm())
        else:
            step_P = RATE[setting.cohort.task.kind] * difference_P
        add(parameters, -step_P)
    return Unlearned(
        lambda rows: network_outputs(network, rows),
        watch.seconds,
        None,
        network,
        details=details | {"step_norm": float(step_P.norm())},
    )


def _sum_of_gradients(network: Backbone, rows: Cohort) -> Tensor:
    parameters = list(network.parameters())
    if not len(rows):
        return torch.zeros(sum(p.numel() for p in parameters))
    batch = make_batch(rows, range(len(rows)))
    return len(rows) * flat(gradients(task_loss(network, batch), parameters))


def hessian_product(network: Backbone, batch: Batch, vector_P: Tensor) -> Tensor:
    """(H + damping I) v [P], H of the mean task loss over these rows."""
    parameters = list(network.parameters())
    first_P = flat(gradients(task_loss(network, batch), parameters, graph=True))
    return flat(gradients(first_P @ vector_P, parameters)) + DAMPING * vector_P


def conjugate_gradients(product: partial[Tensor], right_P: Tensor) -> Tensor:
    """An approximate solution of A x = b; it stops where A turns out not to be positive along its direction."""
    x_P, residual_P = torch.zeros_like(right_P), right_P.clone()
    direction_P, square = residual_P.clone(), residual_P @ residual_P
    for _ in range(ITERATIONS):
        image_P = product(direction_P)
        curvature = direction_P @ image_P
        if curvature <= 0:
            break
        x_P = x_P + square / curvature * direction_P
        residual_P = residual_P - square / curvature * image_P
        before, square = square, residual_P @ residual_P
        direction_P = residual_P + square / before * direction_P
    return x_P


_DEVIATIONS = (
    "the paper proves a bound for strongly convex losses with noise; on this network there is none, and no noise",
    "a row that keeps no channel leaves the second sum",
)

WARNECKE_FIRST = Peer(
    name="influence, first order",
    family="network",
    source="Warnecke et al. 2023, the first-order update",
    deviations=(*_DEVIATIONS, "tau is ours, one for each kind of task"),
    unlearn=partial(unlearn, second=False),
)

WARNECKE_SECOND = Peer(
    name="influence, second order",
    family="network",
    source="Warnecke et al. 2023, the second-order update",
    deviations=(
        *_DEVIATIONS,
        "conjugate gradients on a Hessian over 256 rows with 2 on its diagonal, in place of LiSSA",
        "2, since the network is not convex: with 1 the solution stopped short of the equations on MOSI",
    ),
    unlearn=partial(unlearn, second=True),
)
