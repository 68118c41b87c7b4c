"""A small network for one modality: its features in, an embedding out. It knows no other channel and no lattice.

While it trains, a linear head predicts the label from the embedding; the head is thrown away. Constants of
standardisation come from public rows alone. Legend: B rows, E embedding width, K outputs.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mbd.backbones.base import ChannelShape, Interface
from mbd.backbones.mbd import Encoder, MbdOptions
from mbd.backbones.standardiser import Standardiser
from mbd.cohort.batch import Batch, make_batch
from mbd.cohort.cohort import Cohort
from mbd.cohort.modality import Modality, parse_modality
from mbd.errors import TrainingError
from mbd.hashing import json_digest
from mbd.training.randomness import derived_seed, own_randomness

_COLUMN = {modality: column for column, modality in enumerate(Modality)}


@dataclass(frozen=True)
class TowerRecipe:
    """Everything that shapes a tower and its ordinary training, except rows and seed.

    Attributes:
        modality: the one channel that it sees.
        width: E.
        dropout: after the hidden layer, in ordinary training.
        input_dropout: on standardised features, in ordinary training.
        epochs: passes over the rows; 0 leaves the initial weights.
        batch_size: rows a step.
        learning_rate: of AdamW; it falls to zero along a half cosine.
        weight_decay: of AdamW.
        gradient_norm: gradients are clipped to this L2 norm.
        threads: torch threads while training.
    """

    modality: str
    width: int = 32
    dropout: float = 0.3
    input_dropout: float = 0.5
    epochs: int = 20
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    gradient_norm: float = 1.0
    threads: int = 1

    def __post_init__(self) -> None:
        parse_modality(self.modality)
        counts = {name: getattr(self, name) for name in ("width", "batch_size", "threads")}
        if bad := sorted(name for name, count in counts.items() if count < 1):
            raise TrainingError(
                f"A tower's recipe needs at least one of each of: {', '.join(bad)}.",
                remedy="give positive whole numbers",
            )

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the recipe's canonical JSON."""
        return json_digest(self.to_json())


class Tower(nn.Module):
    """Features of one modality -> embedding. Rows do not mix, and no other channel is read.

    Args:
        modality: the channel.
        shape: its numbers a frame, and whether it has frames.
        outputs: K; the constants that standardise labels travel with the tower.
        recipe: its width and dropout.
    """

    def __init__(self, modality: Modality, shape: ChannelShape, outputs: int, recipe: TowerRecipe) -> None:
        super().__init__()
        self.modality = modality
        self.embedding_dim = recipe.width
        self.standardiser = Standardiser({modality: shape.dim}, outputs)
        options = MbdOptions(width=recipe.width, dropout=recipe.dropout, input_dropout=recipe.input_dropout)
        self.encoder = Encoder(shape.dim, sequence=shape.sequence, options=options)

    def forward(self, batch: Batch) -> Tensor:
        """The embedding [B,E]; zeros in rows that lack the channel."""
        present_B = batch.present[:, _COLUMN[self.modality]]
        observed_BT = batch.valid[self.modality] & present_B[:, None]
        features_BTF = self.standardiser.features(self.modality, batch.features[self.modality], observed_BT)
        embedding_BE: Tensor = torch.where(present_B[:, None], self.encoder(features_BTF, observed_BT), 0.0)
        return embedding_BE


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
        tower = Tower(modality, interface.channels[modality], interface.outputs, recipe)
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
