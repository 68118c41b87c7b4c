"""Gradient ascent on the withdrawn rows, until the network does as badly on them as on people it never saw.

Source: Thudi et al. 2022 and Golatkar et al. 2020 (NegGrad): theta <- theta + eta grad L(D_f).
"""

import torch

from benchmarks.peers.descent import add, batches, clone, flat, gradients, own_generator, task_loss
from benchmarks.peers.setting import Peer, Setting, Stopwatch, Unlearned, network_outputs
from benchmarks.peers.worlds import VOICE
from mbd.attacks.relearning import network_loss
from mbd.training.data import public_rows

RATE = 0.02
MOST_STEPS = 60


def unlearn(setting: Setting) -> Unlearned:
    """Ascend on the rows as they were, seen with the withdrawn channel."""
    watch, network = Stopwatch(), clone(setting.network).eval()
    steps = 0
    with watch.running(), own_generator(setting.seed):
        _, unseen = public_rows(setting.cohort)
        goal = network_loss(network, unseen)
        parameters = list(network.parameters())
        while steps < MOST_STEPS and network_loss(network, setting.revoked_rows) < goal:
            for batch in batches(setting.revoked_rows, setting.recipe.batch_size, must=VOICE):
                gradient_P = flat(gradients(task_loss(network, batch), parameters))
                add(parameters, RATE * gradient_P / torch.clamp(gradient_P.norm(), min=1.0))
                steps += 1
    return Unlearned(
        lambda rows: network_outputs(network, rows), watch.seconds, None, network, details={"steps": steps}
    )


GRADIENT_ASCENT = Peer(
    name="gradient ascent",
    family="network",
    source="Thudi et al. 2022; Golatkar et al. 2020 (NegGrad)",
    deviations=(
        "gradients are clipped to norm 1",
        "it stops where the loss on withdrawn rows reaches that on public people, the papers after so many epochs",
    ),
    unlearn=unlearn,
)
