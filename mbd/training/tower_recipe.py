"""Recipes of unimodal towers: everything that shapes one except rows, seeds and secrets. They run nothing."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from mbd.cohort.modality import Modality, parse_modality
from mbd.errors import TrainingError
from mbd.hashing import json_digest
from mbd.privacy.accounting import Run


@dataclass(frozen=True)
class TowerRecipe:
    """A tower and its ordinary training.

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


@dataclass(frozen=True)
class ShardedRecipe:
    """One tower for each shard of the revocable people, so that a withdrawal touches one shard of its modality alone.

    Attributes:
        tower: how each of them is trained; standardisation comes from public rows.
        shards: how many. A person's shard is a keyed hash of the name.
    """

    tower: TowerRecipe
    shards: int = 4

    def __post_init__(self) -> None:
        if self.shards < 1:
            raise TrainingError("Towers need at least one shard.", remedy="give a positive number of shards")

    @property
    def modality(self) -> Modality:
        """The one channel that the towers see."""
        return parse_modality(self.tower.modality)

    def names(self) -> tuple[str, ...]:
        """The towers' names, shard by shard: ``a.shard0``, ``a.shard1``, ..."""
        return tuple(f"{self.modality.value[0]}.shard{shard}" for shard in range(self.shards))


@dataclass(frozen=True)
class PrivateRecipe:
    """A private tower. All of it is public, and fixed beforehand.

    Attributes:
        start: the network, and its ordinary training on public rows that the private steps go on from (dropout is off
            in private steps: its masks would depend on who else is in the step).
        rate: q, the probability that a subject is in a step.
        noise_multiplier: sigma, the noise's standard deviation over ``clip``.
        steps: T.
        subjects: the public number that, times ``rate``, a step's sum is divided by. Fix it by design (a nominal size
            of the cohort); the comparator keeps it, whoever left.
        learning_rate: of plain gradient descent.
        clip: C, the L2 norm that one person's gradient is clipped to.
        momentum: of the same.
        delta: that the transcript states epsilon at.
    """

    start: TowerRecipe
    rate: float
    noise_multiplier: float
    steps: int
    subjects: int
    learning_rate: float
    clip: float = 1.0
    momentum: float = 0.9
    delta: float = 1e-9

    def __post_init__(self) -> None:
        _ = self.run  # refuses an impossible rate, noise or number of steps
        if self.subjects < 1 or not 0 < self.clip < math.inf or self.learning_rate <= 0 or not 0 <= self.momentum < 1:
            raise TrainingError(
                "A private recipe needs a positive number of subjects, norm and learning rate, and a momentum below 1.",
                remedy="see the attributes of PrivateRecipe",
            )

    @property
    def modality(self) -> Modality:
        """The one channel that the tower sees."""
        return parse_modality(self.start.modality)

    def names(self) -> tuple[str]:
        """The tower's name: ``a.private``."""
        return (f"{self.modality.value[0]}.private",)

    @property
    def run(self) -> Run:
        """What the accountant has to know."""
        return Run(self.rate, self.noise_multiplier, self.steps)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the recipe's canonical JSON."""
        return json_digest(self.to_json())
