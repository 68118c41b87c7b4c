"""What a benchmark compares, and the identity by which an interrupted one goes on. It runs nothing."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from mbd.backbones.zoo import ZOO
from mbd.cohort.cohort import Cohort, Partition, Split
from mbd.cohort.protocols import Condition, Protocol, all_conditions
from mbd.errors import BenchmarkError
from mbd.hashing import file_digest, json_digest
from mbd.training.data import data_digest, public_rows, training_rows
from mbd.training.loop import versions
from mbd.training.recipe import Recipe


@dataclass(frozen=True)
class Unit:
    """One network to train and to test: what a process does, and what is kept or done again."""

    backbone: str
    seed: int

    @property
    def name(self) -> str:
        """As a file's name."""
        return f"{self.backbone}-seed{self.seed}"


@dataclass(frozen=True)
class Plan:
    """A benchmark.

    Attributes:
        recipe: of all networks, but for the backbone's name: the same loop, epochs and rates for everybody.
        backbones: names of the zoo.
        seeds: how many times each is trained, with seeds from 0 on.
        protocols: in which ways channels are lost.
    """

    recipe: Recipe
    backbones: tuple[str, ...]
    seeds: int
    protocols: tuple[Protocol, ...]

    def __post_init__(self) -> None:
        _require_known("backbone", self.backbones, tuple(ZOO))
        _require_known("protocol", self.protocols, tuple(Protocol))
        if self.seeds < 1:
            raise BenchmarkError("A benchmark needs at least one seed.", remedy="give --seeds 1 or more")
        if self.recipe.options or self.recipe.towers:
            raise BenchmarkError(
                "The recipe has options of one backbone, or towers: the others could not be trained by it.",
                remedy="leave out options and towers; every backbone has its defaults",
            )

    @property
    def units(self) -> tuple[Unit, ...]:
        """Everything there is to train, seed by seed, so that an interrupted benchmark has whole seeds."""
        return tuple(Unit(name, seed) for seed, name in product(range(self.seeds), self.backbones))

    def conditions(self, cohort: Cohort) -> tuple[Condition, ...]:
        """What is done to the test rows of a cohort, one after the other."""
        return tuple(each for each in all_conditions(cohort.modalities) if each.protocol in self.protocols)

    def recipe_of(self, backbone: str) -> Recipe:
        """The recipe of one network: trained on everybody's training rows, and deleted from by nobody."""
        return replace(self.recipe, backbone=backbone, trains_on="everyone")


def telling_protocols(cohort: Cohort) -> tuple[Protocol, ...]:
    """All of them; for vectors alone not those of frames, which then say what those of channels say."""
    frames = any(channel.kind == "sequence" for channel in cohort.channels.values())
    return tuple(each for each in Protocol if frames or each not in (Protocol.FRAMES, Protocol.SPANS))


def require_rows(cohort: Cohort) -> None:
    """Pass a cohort that has rows to train, to choose and to test on.

    Raises:
        BenchmarkError: it has no test rows.
        TrainingError: it has no public rows to train or to choose on.
    """
    public_rows(cohort)
    if not len(cohort.where(split=Split.TEST)):
        raise BenchmarkError("The cohort has no test rows.", remedy="give some subjects the split 'test'")


def identity(plan: Plan, cohort: Cohort) -> dict[str, Any]:
    """What a unit's result depends on, besides the unit: results of another identity are not mixed with these."""
    _, selection = public_rows(cohort)
    return {
        "recipe": plan.recipe_of("every backbone").digest,
        "data": data_digest(training_rows(cohort, tuple(Partition)), selection),
        "test": data_digest(cohort.where(split=Split.TEST), selection),
        "clips": json_digest([row.clip for row in cohort.rows]),  # masks and contexts follow from them
        "protocols": list(plan.protocols),
        "versions": versions(),
    }


def source_of(backbone: str) -> str:
    """SHA-256 of the file that a network is written in: after it was changed, old results are not its own."""
    return file_digest(Path(inspect.getfile(ZOO[backbone])))


def _require_known(what: str, names: Sequence[str], known: Sequence[str]) -> None:
    unknown = [name for name in names if name not in known]
    if unknown or not names or len(set(names)) < len(names):
        said = f"There is no {what} '{unknown[0]}'." if unknown else f"Name every {what} once, and at least one."
        raise BenchmarkError(said, remedy=f"use some of: {', '.join(known)}")
