"""What is kept of one network's training and testing: numbers, and nobody's name. It measures nothing."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Measured:
    """A network under one condition.

    Attributes:
        protocol: whose condition it is.
        masks: SHA-256 of what was taken from which rows; alike for all networks at one seed.
        metrics: of all test rows.
        errors: summed over the rows of each test person, in the cohort's order: absolute errors of scores, or how many
            classes were wrong.
    """

    protocol: str
    masks: str
    metrics: Mapping[str, float]
    errors: tuple[float, ...]


@dataclass(frozen=True)
class Result:
    """One network, trained and tested.

    Attributes:
        source: SHA-256 of the file that the network is written in.
        parameters: how many numbers were learnt.
        milliseconds: CPU time of an answer, a row in a batch of 32 by one thread.
        epochs: that were run; ``chosen_epoch`` is the one whose weights were kept, by validation loss.
        rows: how many test rows each test person has.
        conditions: by ``protocol/name``.
        shapley: what each modality takes off the mean error of a row; empty where no test row has all channels.
        mei: see `mbd.metrics.balance`; None where it is not defined.
        mli: likewise.
    """

    backbone: str
    seed: int
    source: str
    parameters: int
    milliseconds: float
    epochs: int
    chosen_epoch: int
    rows: tuple[int, ...]
    conditions: Mapping[str, Measured]
    shapley: Mapping[str, float]
    mei: float | None
    mli: float | None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        conditions = {
            name: Measured(**{**each, "errors": tuple(each["errors"])}) for name, each in value["conditions"].items()
        }
        return cls(**{**value, "conditions": conditions, "rows": tuple(value["rows"])})


@dataclass(frozen=True)
class Endings:
    """How trainings ended, and which weights they kept.

    Attributes:
        trainings: how many.
        unfinished: of each network, how many reached the recipe's most epochs before its patience was over.
        kept: the median of the epochs whose weights were kept, counted from 1.
        first: how many kept those of the first epoch.
    """

    trainings: int
    unfinished: Mapping[str, int]
    kept: float
    first: int

    @classmethod
    def of(cls, results: Sequence[Result], patience: int) -> Self:
        """Of these."""
        late = Counter(result.backbone for result in results if result.epochs - 1 - result.chosen_epoch < patience)
        kept = [result.chosen_epoch + 1 for result in results]
        return cls(len(kept), dict(sorted(late.items())), float(statistics.median(kept)), kept.count(1))

    def __str__(self) -> str:
        late = sum(self.unfinished.values())
        names = ", ".join(f"{name} {count}" for name, count in self.unfinished.items())
        return (
            f"{self.trainings - late} of {self.trainings} trainings ended by patience, {late} at the most epochs"
            f"{f' ({names})' if names else ''}. The epoch that was kept is number {self.kept:g} in the median, and the "
            f"first one in {self.first}."
        )
