"""From results to tables: means and deviations over seeds, and which differences are more than noise. It runs nothing.

Tables are made of result files and never typed. Letters: S seeds, P test people.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from mbd.backbones.zoo import ZOO
from mbd.benchmark.result import Result
from mbd.cohort.modality import Modality, pattern_name
from mbd.cohort.protocols import Protocol
from mbd.metrics.bootstrap import Interval, paired_interval
from mbd.metrics.comparison import Comparison, compare

BASELINE = "control"
"""Whom every network is held against: the same stem and training, and nothing of any paper."""

METRICS: Mapping[str, str] = {
    "mae": "MAE",
    "corr": "Corr",
    "acc2_non0": "Acc-2 Non0",
    "f1_non0": "F1 Non0",
    "acc2_has0": "Acc-2 Has0",
    "f1_has0": "F1 Has0",
    "acc7": "Acc-7",
    "acc5": "Acc-5",
    "acc3": "Acc-3",
    "accuracy": "Accuracy",
    "macro_f1": "Macro F1",
}
"""Names of metrics in tables."""

HEADLINES = ("acc2_non0", "accuracy")
"""What a table shows where there is room for one: of scores, of classes."""


@dataclass(frozen=True)
class Spread:
    """A mean over seeds and the standard deviation between them; None for a single seed."""

    mean: float
    sd: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of one number a seed."""
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)

    def __str__(self) -> str:
        return f"{self.mean:.3f}" if self.sd is None else f"{self.mean:.3f} ± {self.sd:.3f}"


class Leaderboard:
    """The results of one benchmark, network by network.

    Args:
        results: of every network at the same seeds, under the same conditions.
        modalities: the cohort's channels.
    """

    def __init__(self, results: Sequence[Result], modalities: Sequence[Modality]) -> None:
        ordered = sorted(results, key=lambda result: (result.backbone, result.seed))
        found = {name: list(runs) for name, runs in groupby(ordered, key=lambda result: result.backbone)}
        self.complete = f"{Protocol.FIXED}/{pattern_name(modalities)}"
        self._runs = dict(sorted(found.items(), key=lambda entry: self._mean_error(entry[1])))
        self.conditions = tuple(ordered[0].conditions)
        self.modalities = tuple(modalities)

    @property
    def backbones(self) -> tuple[str, ...]:
        """Their names, the one with the smallest mean error over all conditions first."""
        return tuple(self._runs)

    @property
    def headline(self) -> str:
        """The metric that stands for all."""
        return next(name for name in HEADLINES if name in self.metrics)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Those that every network has under every condition."""
        every = [set(each.metrics) for runs in self._runs.values() for run in runs for each in run.conditions.values()]
        return tuple(name for name in METRICS if all(name in found for found in every))

    def spread(self, backbone: str, conditions: Sequence[str], metric: str) -> Spread:
        """A metric, averaged over conditions."""
        return self._over_seeds(
            backbone, lambda run: statistics.fmean(run.conditions[name].metrics[metric] for name in conditions)
        )

    def of_protocol(self, protocol: Protocol) -> tuple[str, ...]:
        """The names of its conditions."""
        return tuple(name for name in self.conditions if name.startswith(f"{protocol}/"))

    def shapley(self, backbone: str, modality: Modality) -> Spread | None:
        """What the modality takes off the mean error of a row, where it is defined at every seed."""
        return self._defined(backbone, lambda run: run.shapley.get(modality.value))

    def mei(self, backbone: str) -> Spread | None:
        """Where it is defined at every seed."""
        return self._defined(backbone, lambda run: run.mei)

    def mli(self, backbone: str) -> Spread | None:
        """Where it is defined at every seed."""
        return self._defined(backbone, lambda run: run.mli)

    def milliseconds(self, backbone: str) -> float:
        """The median over seeds: other work on the machine only ever adds."""
        return float(statistics.median([run.milliseconds for run in self._runs[backbone]]))

    def parameters(self, backbone: str) -> int:
        """Alike at every seed."""
        return int(self._runs[backbone][0].parameters)

    def against_baseline(self, backbone: str, conditions: Sequence[str]) -> Comparison | None:
        """The difference of its errors to the baseline's, averaged over conditions.

        None for the baseline itself, without it, and where there are not two seeds and two people.
        """
        if backbone == BASELINE or BASELINE not in self._runs:
            return None
        mine, theirs = (self._errors(name, conditions) for name in (backbone, BASELINE))
        rows_SP = np.array([run.rows for run in self._runs[backbone]], dtype=np.float64)
        return None if min(rows_SP.shape) < 2 else compare(mine, theirs, rows_SP)

    def over_people(self, backbone: str, conditions: Sequence[str]) -> Interval | None:
        """The same difference with a paired bootstrap interval over people alone, for these very seeds.

        None for the baseline itself, without it, and where there are not two people.
        """
        if backbone == BASELINE or BASELINE not in self._runs:
            return None
        mine, theirs = (self._errors(name, conditions) for name in (backbone, BASELINE))
        rows_P = np.mean([run.rows for run in self._runs[backbone]], axis=0)
        return None if len(rows_P) < 2 else paired_interval((mine - theirs).mean(axis=0), rows_P)

    def _errors(self, backbone: str, conditions: Sequence[str]) -> NDArray[np.float64]:
        """[S, P], the mean over conditions."""
        every = [[run.conditions[name].errors for run in self._runs[backbone]] for name in conditions]
        return np.asarray(np.mean(every, axis=0), dtype=np.float64)

    def _mean_error(self, runs: Sequence[Result]) -> float:
        return statistics.fmean(sum(each.errors) / sum(run.rows) for run in runs for each in run.conditions.values())

    def _over_seeds(self, backbone: str, value: Callable[[Result], float]) -> Spread:
        return Spread.of([value(run) for run in self._runs[backbone]])

    def _defined(self, backbone: str, value: Callable[[Result], float | None]) -> Spread | None:
        values = [value(run) for run in self._runs[backbone]]
        found = [each for each in values if each is not None]
        return Spread.of(found) if len(found) == len(values) else None


def verdict(comparison: Comparison | None) -> str:
    """In words: whether a network errs less than the baseline, more, or no differently than chance would have it."""
    if comparison is None:
        return "-"
    if comparison.low <= 0 <= comparison.high:
        said = "beyond seeds, not people" if comparison.exceeds_seed_noise else "within noise"
    else:
        said = "better" if comparison.mean < 0 else "worse"
    return f"{comparison.mean:+.3f} [{comparison.low:+.3f}, {comparison.high:+.3f}] {said}"


Table = tuple[list[str], list[list[str]]]
"""Columns, and a row for each network."""


def with_all_channels(board: Leaderboard) -> Table:
    """Every metric where nothing is taken away."""
    columns = ["backbone", "fidelity", *(METRICS[name] for name in board.metrics)]
    rows = [
        [
            name,
            ZOO[name].fidelity,
            *(str(board.spread(name, [board.complete], metric)) for metric in board.metrics),
        ]
        for name in board.backbones
    ]
    return columns, rows


def by_protocol(board: Leaderboard) -> Table:
    """The headline metric, averaged over each protocol's conditions, and whether it is better than the baseline.

    The last column is a paired bootstrap's over people, for these very seeds.
    """

    def bootstrapped(found: Interval | None) -> str:
        return "-" if found is None else f"[{found.low:+.3f}, {found.high:+.3f}]"

    protocols = [protocol for protocol in Protocol if board.of_protocol(protocol)]
    rows = [
        [
            name,
            *(str(board.spread(name, board.of_protocol(protocol), board.headline)) for protocol in protocols),
            verdict(board.against_baseline(name, board.conditions)),
            bootstrapped(board.over_people(name, board.conditions)),
        ]
        for name in board.backbones
    ]
    return ["backbone", *protocols, f"error against {BASELINE}", "over people alone"], rows


def balance_and_cost(board: Leaderboard) -> Table:
    """How evenly modalities contribute and learn, and what an answer costs."""
    rows = []
    for name in board.backbones:
        spreads = [*(board.shapley(name, modality) for modality in board.modalities), board.mei(name), board.mli(name)]
        costs = [f"{board.parameters(name):,}", f"{board.milliseconds(name):.3f}"]
        rows.append([name, *(str(spread) if spread else "-" for spread in spreads), *costs])
    shares = [f"φ {modality.value}" for modality in board.modalities]
    return ["backbone", *shares, "MEI", "MLI", "parameters", "CPU ms a row"], rows


def by_condition(board: Leaderboard, protocol: Protocol) -> Table:
    """The headline metric under each condition of a protocol."""
    names = board.of_protocol(protocol)
    columns = ["backbone", *(name.partition("/")[2] for name in names)]
    rows = [
        [backbone, *(str(board.spread(backbone, [name], board.headline)) for name in names)]
        for backbone in board.backbones
    ]
    return columns, rows


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
