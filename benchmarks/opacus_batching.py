"""Whether a row's per-sample gradient by Opacus depends on the other rows of its batch, in its last bits.

python -m benchmarks.opacus_batching

On synthetic people, a tower without dropout, one thread. See docs/decisions/0009.
"""

import warnings

import torch
from torch import Tensor, nn

from mbd.cohort.batch import Batch, make_batch
from mbd.cohort.cohort import Cohort, Partition, Split
from mbd.cohort.synthetic import Subjects, synthetic_cohort
from mbd.training.tower import HeadedTower, only_channel, train_headed
from mbd.training.tower_recipe import TowerRecipe

PAIRS = ((1, 2), (1, 6), (1, 30), (2, 7), (5, 29), (6, 30))


class Prediction(nn.Module):
    """A headed tower as Opacus wants it: rows in, predictions out."""

    def __init__(self, headed: HeadedTower) -> None:
        super().__init__()
        self.headed = headed

    def forward(self, batch: Batch) -> Tensor:
        """The predictions [B,K], in standard units."""
        prediction: Tensor = self.headed.head(self.headed.tower(batch))
        return prediction


def compare(*, sequence: bool) -> None:
    """For each pair, the gradients of the first rows alone and beside others."""
    from opacus.grad_sample import GradSampleModule  # noqa: PLC0415 - after its warnings are silenced

    cohort = synthetic_cohort(subjects=Subjects(4, 2, 6, 2), clips=6, sequence=sequence)
    public = cohort.where(partition=Partition.PUBLIC, split=Split.TRAIN)
    recipe = TowerRecipe("audio", epochs=1, dropout=0.0, input_dropout=0.0)
    headed = train_headed(recipe, public, 0, public=public)
    rows = only_channel(cohort.where(partition=Partition.REVOCABLE, split=Split.TRAIN), "audio")
    network = GradSampleModule(Prediction(headed), strict=False, loss_reduction="sum").train()
    for few, many in PAIRS:
        alone, beside = (gradients(network, headed, rows, count) for count in (few, many))
        pairs = [(a, b[:few]) for a, b in zip(alone, beside, strict=True)]
        moved, largest = sum(int((a != b).sum()) for a, b in pairs), max(float((a - b).abs().max()) for a, b in pairs)
        kind, total = "sequences" if sequence else "vectors", sum(a.numel() for a, _ in pairs)
        print(
            f"{kind}: {few} rows alone and among {many}: {moved:,} of {total:,} numbers differ, at most {largest:.1e}"
        )


def gradients(network: nn.Module, headed: HeadedTower, rows: Cohort, count: int) -> list[Tensor]:
    """Per-sample gradients of the squared error of the first rows."""
    for parameter in network.parameters():
        parameter.grad = parameter.grad_sample = None
    batch = make_batch(rows, range(count))
    error_BK = network(batch) - headed.tower.standardiser.target(batch.target)
    torch.autograd.backward(error_BK.square().mean(dim=1).sum())
    found = [getattr(parameter, "grad_sample", None) for parameter in network.parameters()]
    return [gradient.clone() for gradient in found if gradient is not None]


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # Opacus and what it imports warn about their own futures
    torch.set_num_threads(1)
    compare(sequence=False)
    compare(sequence=True)
