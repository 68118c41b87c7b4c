"""What each mechanism for an entangled network costs, on the synthetic cohort: python -m benchmarks.entangled.

One synthetic person withdraws their voice. The loss is the mean task loss over availability patterns on public
validation rows, in units of the labels' variance. It writes no file.
"""

import torch

from mbd.backbones.base import Backbone, Interface
from mbd.backbones.zoo import build
from mbd.cohort.cohort import Cohort, Partition
from mbd.cohort.modality import Modality
from mbd.cohort.synthetic import synthetic_cohort
from mbd.deletion.noisy_finetuning import NoisyFineTuning, fine_tune
from mbd.deletion.retrain import retrain
from mbd.deletion.surgical import Surgical, operate
from mbd.privacy.gaussian import mu_of
from mbd.privacy.noise import NoiseSource
from mbd.training.data import public_rows
from mbd.training.loop import train, validation_losses
from mbd.training.recipe import Recipe

RECIPE = Recipe(epochs=20, batch_size=64, options={"width": 8, "property_width": 8})
NOISE = NoiseSource(b"a benchmark, nobody's own secret")
SIGMA = 0.1  # about the size of fresh weights: the start's bound follows from it, and from epsilon
UNLIMITED = 1e12


def main() -> None:
    """Print one line a variant."""
    cohort = synthetic_cohort()
    subject = next(row.subject for row in cohort.rows if row.partition is Partition.REVOCABLE)
    pairs = frozenset({(subject, Modality.AUDIO)})
    after = cohort.without(pairs)
    before = train(RECIPE, cohort, seed=0, partitions=tuple(Partition)).backbone
    print(f"before {_loss(before, cohort):.3f}")
    print(f"retrain {_loss(retrain(RECIPE, after, seed=0).backbone, cohort):.3f}")
    for options in (Surgical(), Surgical(corrected=True)):
        operated = operate(before, cohort, pairs, noise=NOISE, purpose="benchmark", options=options)
        measured = operated.report["modalities"]["audio"]
        numbers = " ".join(f"{name} {value}" for name, value in measured.items() if name != "removed")
        print(f"surgical {operated.report['variant']} {_loss(operated.backbone, cohort):.3f}; {numbers}")
    torch.manual_seed(5)
    fresh = build("mbd", Interface.of(cohort), RECIPE.options).eval()
    _noisy("fresh weights, hardly any noise", fresh, after, fresh, NoisyFineTuning(start_bound=1e-6))
    for epsilon in (1.0, 8.0, 64.0):
        bound = SIGMA * mu_of(epsilon, 1e-9) / 2
        for name, centre in (("around zero", None), ("around fresh weights", fresh)):
            _noisy(name, before, after, centre, NoisyFineTuning(epsilon=epsilon, start_bound=bound))


def _noisy(name: str, start: Backbone, after: Cohort, centre: Backbone | None, constants: NoisyFineTuning) -> None:
    losses = []
    for finishing in (0, constants.finishing_steps):
        options = NoisyFineTuning(
            epsilon=constants.epsilon,
            start_bound=constants.start_bound,
            rate=constants.start_bound / 100,
            finishing_steps=finishing,
            largest_loss=UNLIMITED,
        )
        tuned = fine_tune(start, after, noise=NOISE, purpose="benchmark", seed=1, centre=centre, options=options)
        losses.append(tuned.report["public_validation_loss"])
    print(
        f"noisy, {name}, epsilon {constants.epsilon:g}, C0 {constants.start_bound:.3g}: {losses[0]:.3f} at once, "
        f"{losses[1]:.3f} after {constants.finishing_steps} steps without noise"
    )


def _loss(backbone: Backbone, cohort: Cohort) -> float:
    losses = validation_losses(backbone, public_rows(cohort)[1])
    return sum(losses.values()) / len(losses)


if __name__ == "__main__":
    main()
