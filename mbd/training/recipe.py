"""A recipe: everything that shapes a training run except the data and the seed. It knows no data and runs nothing."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from mbd.cohort.cohort import Partition
from mbd.errors import TrainingError
from mbd.hashing import json_digest
from mbd.training.tower_recipe import PrivateRecipe, ShardedRecipe, TowerRecipe

TrainsOn: TypeAlias = Literal["public", "everyone"]


@dataclass(frozen=True)
class Recipe:
    """How to train a model line's networks: a backbone, and towers beside it if there are any.

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
        trains_on: whose rows shape the backbone: ``public`` people's, who cannot withdraw, or ``everyone``'s. The
            latter entangles it: a withdrawal then means training it again, or one of the weaker ways.
        heads: what the heads on top minimise: ``squared`` errors, from exact statistics alone, or the
            ``cross-entropy`` of classes, for which every deletion reads all rows that are left.
        noisy_fine_tuning, surgical: constants of these ways to deal with a backbone that everyone shaped, where they
            differ from their defaults (`mbd.deletion`): public, and fixed before anybody asks.
        sharded: towers that see revocable people, one for each of their shards; at most one entry a modality.
        private: towers that see revocable people by differentially private training; at most one entry a modality.
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
    trains_on: TrainsOn = "public"
    heads: Literal["squared", "cross-entropy"] = "squared"
    noisy_fine_tuning: Mapping[str, int | float] = field(default_factory=dict)
    surgical: Mapping[str, int | float | str | bool] = field(default_factory=dict)
    sharded: tuple[ShardedRecipe, ...] = ()
    private: tuple[PrivateRecipe, ...] = ()

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
        if self.trains_on not in get_args(TrainsOn):
            raise TrainingError(
                f"A recipe trains its backbone on '{self.trains_on}', which is nobody's name.",
                remedy=f"use one of: {', '.join(get_args(TrainsOn))}",
            )
        for kind, towers in (("sharded", self.sharded), ("private", self.private)):
            if len({tower.modality for tower in towers}) < len(towers):
                raise TrainingError(
                    f"A recipe has two {kind} entries for one modality.", remedy=f"keep one {kind} entry a modality"
                )
        if self.trains_on == "everyone" and (self.sharded or self.private):
            raise TrainingError(
                "Towers beside a backbone that everybody shaped would forget, and the backbone would not.",
                remedy='leave the towers out, or let the backbone train on "public" rows',
            )

    @property
    def partitions(self) -> tuple[Partition, ...]:
        """Whose training rows shape the backbone."""
        return (Partition.PUBLIC,) if self.trains_on == "public" else tuple(Partition)

    @property
    def sees_revocable(self) -> bool:
        """Whether some network is trained on revocable rows."""
        return self.trains_on == "everyone" or bool(self.towers)

    @property
    def towers(self) -> tuple[ShardedRecipe | PrivateRecipe, ...]:
        """All entries for towers."""
        return (*self.sharded, *self.private)

    @property
    def tower_names(self) -> list[str]:
        """The names of all towers that the entries ask for."""
        return [name for each in self.towers for name in each.names()]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        towers = {
            "sharded": [asdict(each) for each in self.sharded],
            "private": [asdict(each) for each in self.private],
        }
        return asdict(self) | {"options": dict(self.options)} | towers

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Recipe":
        """The inverse of `to_json`."""
        sharded = tuple(ShardedRecipe(**(each | {"tower": TowerRecipe(**each["tower"])})) for each in value["sharded"])
        private = tuple(PrivateRecipe(**(each | {"start": TowerRecipe(**each["start"])})) for each in value["private"])
        return cls(**(dict(value) | {"sharded": sharded, "private": private}))

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the recipe's canonical JSON."""
        return json_digest(self.to_json())
