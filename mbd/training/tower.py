"""Ordinary training of a unimodal tower. It knows no other channel and no lattice.

While it trains, a linear head predicts the label from the embedding; the head is thrown away. Constants of
standardisation come from public rows alone. Legend: B rows, K outputs.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mbd.backbones.base import Interface
from mbd.backbones.tower import Tower, TowerShape
from mbd.cohort.batch import Batch, make_batch
from mbd.cohort.cohort import Cohort
from mbd.cohort.modality import parse_modality
from mbd.errors import TrainingError
from mbd.training.randomness import derived_seed, own_randomness
from mbd.training.tower_recipe import TowerRecipe


class HeadedTower(nn.Module):
    """A tower and the linear head it trains under."""

    def __init__(self, tower: Tower, outputs: int) -> None:
        super().__init__()
        self.tower = tower
        self.head = nn.Linear(tower.embedding_dim, outputs)

    def loss(self, batch: Batch) -> Tensor:
        """The mean over rows and outputs of the squared error in standard units."""
        error_BK: Tensor = self.head(self.tower(batch)) - self.tower.standardiser.target(batch.target)
        return error_BK.square().mean()


def train_tower(recipe: TowerRecipe, rows: Cohort, seed: int, *, public: Cohort) -> Tower:
    """A tower trained, without any privacy, on these rows: a function of them, of ``public``, the recipe and the seed.

    Args:
        recipe: what to train, and how.
        rows: all are read, but only their one channel and their labels; rows without it are left out.
        seed: of initial weights, order and dropout.
        public: rows that nobody can revoke; standardisation comes from them alone.

    Returns:
        The tower, in evaluation mode.

    Raises:
        TrainingError: the cohort has no such channel, or no row of ``rows`` has it, or no row of ``public``.
    """
    return train_headed(recipe, rows, seed, public=public).tower


def train_headed(recipe: TowerRecipe, rows: Cohort, seed: int, *, public: Cohort) -> HeadedTower:
    """`train_tower` with the head still on, for training that goes on from here."""
    training, constants = only_channel(rows, recipe.modality), only_channel(public, recipe.modality)
    for part, what in ((training, "train the tower on"), (constants, "take public constants from")):
        if not len(part):
            raise TrainingError(
                f"Cohort '{rows.name}' has no rows with {recipe.modality} to {what}.",
                remedy="train towers for channels that some rows have, or drop this tower",
            )
    with own_randomness(recipe.threads):
        torch.manual_seed(derived_seed(seed, f"tower weights {recipe.modality}"))
        modality = parse_modality(recipe.modality)
        interface = Interface.of(constants)
        shape = TowerShape(
            modality=modality,
            channel=interface.channels[modality],
            outputs=interface.outputs,
            width=recipe.width,
            dropout=recipe.dropout,
            input_dropout=recipe.input_dropout,
        )
        tower = Tower(shape)
        tower.standardiser.fit(constants)
        headed = HeadedTower(tower, interface.outputs)
        _optimise(headed, training, recipe, seed)
    return headed.eval()


def only_channel(rows: Cohort, modality: str) -> Cohort:
    """The rows that have the channel, with nothing else of them but their labels.

    Raises:
        TrainingError: the cohort does not declare the channel.
    """
    channel = parse_modality(modality)
    if channel not in rows.channels:
        raise TrainingError(
            f"Cohort '{rows.name}' has no channel {modality}.",
            remedy=f"train towers for: {', '.join(m.value for m in rows.modalities)}",
        )
    return rows.restrict([channel])


def _optimise(headed: HeadedTower, rows: Cohort, recipe: TowerRecipe, seed: int) -> None:
    optimiser = torch.optim.AdamW(headed.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    steps = -(-len(rows) // recipe.batch_size) * recipe.epochs
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=max(steps, 1))
    headed.train()
    for epoch in range(recipe.epochs):
        torch.manual_seed(derived_seed(seed, epoch))
        order: Sequence[int] = torch.randperm(len(rows)).tolist()
        for start in range(0, len(order), recipe.batch_size):
            loss = headed.loss(make_batch(rows, order[start : start + recipe.batch_size]))
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(headed.parameters(), recipe.gradient_norm, error_if_nonfinite=True)
            optimiser.step()
            optimiser.zero_grad()
            schedule.step()
