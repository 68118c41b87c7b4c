"""Selective synaptic dampening: weights that matter more to the withdrawn rows than to all rows are shrunk.

Source: Foster, Schoepf and Brintrup 2024 (AAAI), selection and dampening: I = E[(grad l)^2]; where I_f > alpha I_D,
theta <- min(lambda I_D / I_f, 1) theta.
"""

import torch

from benchmarks.peers.descent import add, batches, clone, flat, gradients, own_generator, task_loss
from benchmarks.peers.setting import Peer, Setting, Stopwatch, Unlearned, network_outputs
from benchmarks.peers.worlds import VOICE
from mbd.backbones.base import Backbone
from mbd.cohort.cohort import Cohort

ALPHA = 1.2
LAMBDA = 1.0
_BATCH = 8


def unlearn(setting: Setting) -> Unlearned:
    """Measure, compare, shrink; no training."""
    watch, network = Stopwatch(), clone(setting.network).eval()
    with watch.running(), own_generator(setting.seed):
        rows = setting.before_rows
        voices = rows.select([i for i in range(len(rows)) if VOICE in rows.present(i)])
        forget_P, all_P = (importance(network, some) for some in (setting.revoked_rows, voices))
        weights_P = flat(list(network.parameters())).detach()
        factor_P = dampening(forget_P, all_P)
        add(list(network.parameters()), (factor_P - 1) * weights_P)
    return Unlearned(
        lambda rows: network_outputs(network, rows),
        watch.seconds,
        None,
        network,
        details={"share_of_weights": float((factor_P < 1).float().mean())},
    )


def importance(network: Backbone, rows: Cohort) -> torch.Tensor:
    """The mean squared gradient of the task loss where the network hears the voice, which all rows have [P]."""
    parameters = list(network.parameters())
    total_P, count = torch.zeros(sum(p.numel() for p in parameters)), 0
    for batch in batches(rows, _BATCH, must=VOICE):
        total_P += flat(gradients(task_loss(network, batch), parameters)).square()
        count += 1
    return total_P / count


def dampening(forget_P: torch.Tensor, all_P: torch.Tensor) -> torch.Tensor:
    """What each weight is multiplied by [P]."""
    beta_P = torch.clamp(LAMBDA * all_P / torch.clamp(forget_P, min=1e-30), max=1.0)
    return torch.where(forget_P > ALPHA * all_P, beta_P, torch.ones_like(beta_P))


SSD = Peer(
    name="synaptic dampening",
    family="network",
    source="Foster, Schoepf and Brintrup 2024",
    deviations=(
        "importance is taken over batches of 8 instead of single rows",
        "all rows are masked like the withdrawn ones, to patterns with a voice: else the mask alone would be compared",
        "alpha is 1.2, not 10: withdrawn rows are a third of all, so no weight matters ten times more to them",
    ),
    unlearn=unlearn,
)
