"""Certified unlearning of a whole network by noisy fine-tuning, with our sound account of its noise.

Source: Koloskova et al. 2025 (ICML), gradient clipping (`mbd.deletion.noisy_finetuning`: claim and proof in
docs/mechanisms/noisy_finetuning.md).
"""

from functools import partial

from benchmarks.peers.descent import own_generator
from benchmarks.peers.setting import DELTA, EPSILON, Peer, Setting, Stopwatch, Unlearned, network_outputs
from mbd.backbones.base import Interface
from mbd.backbones.zoo import build
from mbd.deletion.noisy_finetuning import NoisyFineTuning, fine_tune
from mbd.privacy.gaussian import mu_of

LOOSE = 8.0
_SIGMA = 0.1  # about the size of fresh weights: the start's bound follows from it, and from epsilon
_UNLIMITED = 1e12


def unlearn(setting: Setting, *, epsilon: float) -> Unlearned:
    """Drown the start around fresh weights, then train on D'."""
    watch = Stopwatch()
    with own_generator(setting.seed + 1):
        fresh = build(setting.recipe.backbone, Interface.of(setting.cohort), setting.recipe.options).eval()
    bound = _SIGMA * mu_of(epsilon, DELTA) / 2
    options = NoisyFineTuning(
        epsilon=epsilon, delta=DELTA, start_bound=bound, rate=bound / 100, largest_loss=_UNLIMITED
    )
    with watch.running():
        done = fine_tune(
            setting.network,
            setting.after,
            noise=setting.noise,
            purpose=f"benchmark/{epsilon}",
            seed=setting.seed,
            centre=fresh,
            options=options,
        )
    network = done.backbone
    return Unlearned(lambda rows: network_outputs(network, rows), watch.seconds, epsilon, network)


_DEVIATIONS = (
    "lambda is 0, the ball lies around fresh weights, and steps without noise follow the noisy ones",
    "the exact curve of the Gaussian instead of a Renyi conversion",
)

KOLOSKOVA = Peer(
    name="noisy fine-tuning",
    family="network",
    source="Koloskova et al. 2025, gradient clipping",
    deviations=_DEVIATIONS,
    unlearn=partial(unlearn, epsilon=EPSILON),
)

KOLOSKOVA_LOOSE = Peer(
    name="noisy fine-tuning, loose",
    family="network",
    source="Koloskova et al. 2025, gradient clipping",
    deviations=_DEVIATIONS,
    unlearn=partial(unlearn, epsilon=LOOSE),
)
