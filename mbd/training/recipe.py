"""A recipe: everything that shapes a training run except the data and the seed. It knows no data and runs nothing."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mbd.errors import TrainingError
from mbd.hashing import json_digest


@dataclass(frozen=True)
class Recipe:
    """How to train a backbone.

    Attributes:
        backbone: its name in the zoo.
        options: the backbone's sizes and loss weights, where they differ from its defaults.
        epochs: at most this many passes over the public training rows.
        batch_size: rows a step.
        learning_rate: of AdamW, for groups without a rate of their own; it falls to zero along a half cosine.
        weight_decay: of AdamW.
        gradient_norm: gradients are clipped to this L2 norm.
        patience: stop after so many epochs without a better validation loss.
        threads: torch threads while training; sums split differently give other last bits, so it belongs here.
    """

    backbone: str = "mbd"
    options: Mapping[str, int | float] = field(default_factory=dict)
    epochs: int = 60
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    gradient_norm: float = 1.0
    patience: int = 15
    threads: int = 1

    def __post_init__(self) -> None:
        counts = {name: getattr(self, name) for name in ("epochs", "batch_size", "patience", "threads")}
        if bad := sorted(name for name, count in counts.items() if count < 1):
            raise TrainingError(
                f"A recipe needs at least one of each of: {', '.join(bad)}.",
                remedy="give positive whole numbers",
            )
        if not (self.learning_rate > 0 and self.gradient_norm > 0 and self.weight_decay >= 0):
            raise TrainingError(
                "A recipe needs a learning rate and a gradient norm above 0, and no negative weight decay.",
                remedy="compare with the recipes in mbd/training/recipes.py",
            )

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self) | {"options": dict(self.options)}

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the recipe's canonical JSON."""
        return json_digest(self.to_json())
