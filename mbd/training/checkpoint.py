"""A run that was killed goes on from its last whole epoch. It knows how to store a run's state, not how to make one."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mbd.backbones.tensorfile import read_tensors, write_tensors
from mbd.errors import TrainingError

KIND = "mbd-training-checkpoint/1"
NAME = "training.checkpoint"

State = dict[str, Tensor]


@dataclass(frozen=True)
class Progress:
    """A run after ``len(curve)`` epochs. Random numbers need no place here: each epoch draws its own from the seed.

    Attributes:
        weights: of the backbone now.
        best: the weights with the lowest validation score so far.
        optimiser: its tensors.
        best_epoch: index into ``curve`` of ``best``.
        curve: one JSON object an epoch.
    """

    weights: State
    best: State
    optimiser: State
    best_epoch: int
    curve: list[dict[str, Any]]


class CheckpointFile:
    """The checkpoint of one run: a single file in a folder, replaced as a whole.

    Args:
        folder: made when the first checkpoint is written.
        identity: what the run is (recipe, data, seed, versions, ranks, device); another run's checkpoint is refused.
    """

    def __init__(self, folder: Path, identity: Mapping[str, str]) -> None:
        self.path = folder / NAME
        self.identity = dict(identity)

    def write(self, progress: Progress) -> None:
        """Replace the checkpoint. Epochs lost to a crash are computed again, to the same bits."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        parts = {"weights": progress.weights, "best": progress.best, "optimiser": progress.optimiser}
        tensors = {f"{part}:{name}": tensor for part, state in parts.items() for name, tensor in state.items()}
        description = {"identity": self.identity, "best_epoch": progress.best_epoch, "curve": progress.curve}
        write_tensors(self.path, tensors, kind=KIND, description=description)

    def read(self) -> Progress | None:
        """The last checkpoint, or None when there is none.

        Raises:
            TrainingError: the file is damaged, or belongs to another recipe, data set, seed, library version,
                number of processes or device.
        """
        if not self.path.exists():
            return None
        tensors, description = read_tensors(self.path, kind=KIND)
        identity = description["identity"]
        if identity != self.identity:
            keys = sorted(key for key in {*identity, *self.identity} if identity.get(key) != self.identity.get(key))
            raise TrainingError(
                f"The training checkpoint {self.path} belongs to another run: {', '.join(keys)} differ.",
                remedy="go on with what it was begun with, or delete it (or pass resume=False) to train from the start",
            )
        parts: dict[str, State] = {"weights": {}, "best": {}, "optimiser": {}}
        for key, tensor in tensors.items():
            part, name = key.split(":", 1)
            parts[part][name] = tensor
        return Progress(**parts, best_epoch=description["best_epoch"], curve=description["curve"])

    def remove(self) -> None:
        """Forget the run: it has ended, or must start again."""
        self.path.unlink(missing_ok=True)
