"""Fine-tuning on what is left: the network goes on training on D' and is left to forget by itself."""

import torch

from benchmarks.peers.descent import all_losses, batches, clone, own_generator
from benchmarks.peers.setting import Peer, Setting, Stopwatch, Unlearned, network_outputs

EPOCHS = 4
RATE = 3e-3


def unlearn(setting: Setting) -> Unlearned:
    """Some epochs of AdamW on D'."""
    watch, network = Stopwatch(), clone(setting.network)
    with watch.running(), own_generator(setting.seed):
        network.train()
        optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=setting.recipe.weight_decay)
        for _ in range(EPOCHS):
            for batch in batches(setting.after_rows, setting.recipe.batch_size):
                optimiser.zero_grad()
                torch.autograd.backward(all_losses(network, batch))
                torch.nn.utils.clip_grad_norm_(network.parameters(), setting.recipe.gradient_norm)
                optimiser.step()
    network.eval()
    return Unlearned(lambda rows: network_outputs(network, rows), watch.seconds, None, network)


FINE_TUNING = Peer(
    name="fine-tuning",
    family="network",
    source="Warnecke et al. 2023 and Golatkar et al. 2020 use it as the simplest baseline",
    deviations=("rate and epochs are ours: a fifth of a training",),
    unlearn=unlearn,
)
