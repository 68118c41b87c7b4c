"""SalUn: only weights that the withdrawn rows pull at are moved, by random labels on these rows.

Source: Fan et al. 2024 (ICLR), saliency mask and objective: m_S = 1(|grad L_f(theta)| >= gamma), gamma the median;
minimise E_f[l(theta; x, y')] + alpha E_r[l(theta; x, y)] over the masked weights, y' a label of somebody else.
"""

from dataclasses import replace

import torch

from benchmarks.peers.descent import all_losses, batches, clone, flat, gradients, own_generator
from benchmarks.peers.setting import Peer, Setting, Stopwatch, Unlearned, network_outputs
from benchmarks.peers.worlds import VOICE

EPOCHS = 6
RATE = 5e-4
ALPHA = 1.0


def unlearn(setting: Setting) -> Unlearned:
    """Mask, then descend on random labels and on what is left."""
    watch, network = Stopwatch(), clone(setting.network)
    with watch.running(), own_generator(setting.seed):
        parameters = list(network.parameters())
        network.eval()
        pull_P = torch.zeros(sum(p.numel() for p in parameters))
        for withdrawn in batches(setting.revoked_rows, setting.recipe.batch_size, must=VOICE):
            pull_P += flat(gradients(all_losses(network, withdrawn), parameters))
        mask_P = (pull_P.abs() > pull_P.abs().median()).float()
        masks = [m.view_as(p) for m, p in zip(mask_P.split([p.numel() for p in parameters]), parameters, strict=True)]
        optimiser = torch.optim.Adam(parameters, lr=RATE)
        network.train()
        for _ in range(EPOCHS):
            retain = batches(setting.after_rows, setting.recipe.batch_size)
            for wrong in batches(setting.revoked_rows, setting.recipe.batch_size, must=VOICE):
                shuffled = replace(wrong, target=wrong.target[torch.randperm(len(wrong.target))])
                kept = next(retain, None)
                loss = all_losses(network, shuffled)
                loss = loss if kept is None else loss + ALPHA * all_losses(network, kept)
                optimiser.zero_grad()
                torch.autograd.backward(loss)
                for parameter, mask in zip(parameters, masks, strict=True):
                    if parameter.grad is not None:
                        parameter.grad *= mask
                optimiser.step()
    network.eval()
    return Unlearned(
        lambda rows: network_outputs(network, rows),
        watch.seconds,
        None,
        network,
        details={"share_of_weights": float(mask_P.mean())},
    )


SALUN = Peer(
    name="SalUn",
    family="network",
    source="Fan et al. 2024",
    deviations=(
        "the mask is of all losses, so that generators have one, over the withdrawn rows at patterns with a voice",
        "a random label is that of another withdrawn row, as scores have no classes",
        "epochs and rate are ours; a pass over withdrawn rows meets as many batches of D'",
    ),
    unlearn=unlearn,
)
