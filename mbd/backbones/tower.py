"""A small network for one modality: its features in, an embedding out. It knows no other channel and no lattice.

Legend: B rows, T frames, F features a frame, E embedding width.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mbd.backbones.base import ChannelShape
from mbd.backbones.standardiser import Standardiser
from mbd.backbones.stem import Encoder, StemOptions
from mbd.backbones.tensorfile import read_tensors, write_tensors
from mbd.cohort.batch import Batch
from mbd.cohort.modality import COLUMN, Modality, parse_modality
from mbd.errors import TrainingError

KIND = "mbd-tower/1"
_BESIDE = "beside."


@dataclass(frozen=True)
class TowerShape:
    """What has to be known to build a tower again.

    Attributes:
        modality: the one channel that it sees.
        channel: its numbers a frame, and whether it has frames.
        outputs: K; the constants that standardise labels travel with the tower.
        width: E.
        dropout: after the hidden layer, in ordinary training.
        input_dropout: on standardised features, in ordinary training.
    """

    modality: Modality
    channel: ChannelShape
    outputs: int
    width: int
    dropout: float
    input_dropout: float


class Tower(nn.Module):
    """Features of one modality -> embedding. Rows do not mix, and no other channel is read."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.shape = shape
        self.modality = shape.modality
        self.embedding_dim = shape.width
        self.standardiser = Standardiser({shape.modality: shape.channel.dim}, shape.outputs)
        options = StemOptions(width=shape.width, dropout=shape.dropout, input_dropout=shape.input_dropout)
        self.encoder = Encoder(shape.channel.dim, sequence=shape.channel.sequence, options=options)

    def forward(self, batch: Batch) -> Tensor:
        """The embedding [B,E]; zeros in rows that lack the channel."""
        present_B = batch.present[:, COLUMN[self.modality]]
        observed_BT = batch.observed[self.modality] & present_B[:, None]
        features_BTF = self.standardiser.features(self.modality, batch.features[self.modality], observed_BT)
        embedding_BE: Tensor = torch.where(present_B[:, None], self.encoder(features_BTF, observed_BT), 0.0)
        return embedding_BE


def save_tower(tower: Tower, path: Path, *, beside: Mapping[str, Tensor]) -> None:
    """Write a tower, whole or not at all, and other tensors ``beside`` it under names of their own.

    A tower is a function of revocable rows, so random bytes belong beside it: without them the file's digest, which
    certificates name, would confirm a guess at those rows.
    """
    description = asdict(tower.shape) | {"modality": tower.modality.value}
    named = {f"{_BESIDE}{name}": tensor for name, tensor in beside.items()}
    write_tensors(path, {**tower.state_dict(), **named}, kind=KIND, description=description)


def load_tower(path: Path) -> tuple[Tower, dict[str, Tensor]]:
    """The tower that `save_tower` wrote, bit for bit, in evaluation mode, and what stood beside it.

    Raises:
        TrainingError: the file is not there, or is not such a file.
    """
    tensors, said = read_tensors(path, kind=KIND)
    beside = {name.removeprefix(_BESIDE): tensors.pop(name) for name in list(tensors) if name.startswith(_BESIDE)}
    try:
        described: dict[str, Any] = {**said, "modality": parse_modality(said["modality"])}
        shape = TowerShape(**(described | {"channel": ChannelShape(**said["channel"])}))
        with torch.random.fork_rng(devices=[]):  # the initial weights are overwritten: draw them at nobody's expense
            tower = Tower(shape)
        tower.load_state_dict(tensors, assign=True)
    except (KeyError, TypeError, RuntimeError) as error:
        raise TrainingError(
            f"{path} does not hold the tower that it describes ({error}).",
            remedy="restore it from a backup, or drop the tower and let it be trained again",
        ) from error
    return tower.eval(), beside
