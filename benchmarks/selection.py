"""What the lattice leaves open (sizes of the backbone, the rule that chooses penalties), chosen without test people.

    python -m benchmarks.selection ravdess
    python -m benchmarks.selection mosi

Every variant below was written down before the first run. For each seed and fold, the test people of that run are
taken out of the cohort before anything else; the revocable training people are then held out, a quarter at a time, as
if they were test people, and a variant's loss is its error on them divided by plain ridge's, averaged over availability
patterns. A run of `benchmarks.real_cohorts` uses the variant that wins among its own training people, so no test
person has a say in what judges them. Writes ``benchmarks/results/selection-<cohort>.json``.
"""

import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress
from scipy.linalg import cho_factor, cho_solve

from benchmarks.real_cohorts import FOLDS, RESULTS, SEEDS, cohorts
from benchmarks.ridge import complete_rows, ridge_predictions
from mbd.cohort.cohort import Cohort, Partition, Split
from mbd.cohort.modality import ModalitySet, parse_pattern, pattern_name
from mbd.lattice.featurizer import Featurizer
from mbd.lattice.layout import Layout
from mbd.lattice.selection import PENALTIES, held_out_errors
from mbd.lattice.statistics import Statistics
from mbd.metrics.sentiment import evaluate
from mbd.training.loop import train
from mbd.training.recipe import Recipe

FloatArray = NDArray[np.float64]

RECIPES = {
    "as shipped": Recipe(),
    "less regular": Recipe(options={"input_dropout": 0.2}, weight_decay=0.01),
    "wider": Recipe(options={"width": 64}),
}
RAW = ("own", "shared", "patterns")
"""A channel's penalty: least error of its own head; one for all channels, least error of their own heads, or of the
heads of all availability patterns (each error relative to its least)."""
STEPS = (4, 2)
"""Penalties a decade."""
RATIOS = (10.0, 1.0, 3.0, 30.0, 100.0, None)
"""An embedding's penalty over the smallest of its channels; None: the one that is best on public validation."""
QUARTERS = 4


@dataclass(frozen=True)
class Rule:
    """One way to choose penalties on public people."""

    raw: str
    step: int
    ratio: float | None


RULES = tuple(Rule(*rule) for rule in itertools.product(RAW, STEPS, RATIOS))


class Choices:
    """The penalties that each rule chooses for one backbone, on public people only."""

    def __init__(self, featurizer: Featurizer, cohort: Cohort) -> None:
        self.featurizer = featurizer
        public = cohort.where(partition=Partition.PUBLIC)
        self.rows = public.select([i for i, row in enumerate(public.rows) if row.split is not Split.TEST])
        self.known = featurizer.statistics(self.rows.where(split=Split.TRAIN))
        self.errors = {p: held_out_errors(featurizer, self.rows, p) for p in featurizer.layout.patterns}

    def featurizer_of(self, rule: Rule) -> Featurizer:
        """The featurizer with the penalties of a rule."""
        if rule.ratio is not None:
            return self._with(rule, rule.ratio)
        ratios = [ratio for ratio in RATIOS if ratio is not None]
        return min((self._with(rule, ratio) for ratio in sorted(ratios)), key=self._validation_error)

    def _with(self, rule: Rule, ratio: float) -> Featurizer:
        layout = self.featurizer.layout
        raw = {m: self._raw(rule, frozenset({m})) for m in layout.modalities}
        penalties = {}
        for group in layout.groups:
            name, kind = group.split(".")
            smallest = min(raw[m] for m in parse_pattern(name))
            penalties[group] = smallest if kind == "raw" else ratio * smallest
        return self.featurizer.with_layout(Layout(layout.raw_widths, layout.embedding, penalties))

    def _raw(self, rule: Rule, channel: ModalitySet) -> float:
        judges = {
            "own": [channel],
            "shared": [p for p in self.errors if len(p) == 1],
            "patterns": list(self.errors),
        }[rule.raw]
        stride = STEPS[0] // rule.step
        error = sum(self.errors[p] / self.errors[p].min() for p in judges)[::stride]
        return float(PENALTIES[::stride][int(np.argmin(error))])

    def _validation_error(self, featurizer: Featurizer) -> float:
        unseen = self.rows.where(split=Split.VALID)
        total = 0.0
        for pattern in featurizer.layout.patterns:
            rows = unseen.select([i for i in range(len(unseen)) if pattern <= unseen.present(i)]).restrict(pattern)
            spread = ((rows.targets - rows.targets.mean(axis=0)) ** 2).sum()
            outputs_NK = predict(featurizer, self.known, pattern, rows)
            total += float(((outputs_NK - rows.targets) ** 2).sum() / spread)
        return total


def predict(featurizer: Featurizer, statistics: Statistics, pattern: ModalitySet, rows: Cohort) -> FloatArray:
    """Outputs [N, K] of one pattern's head, without noise."""
    at = featurizer.layout.coordinates(pattern)
    matrix_DD = statistics.normal_matrix()[np.ix_(at, at)] + np.diag(featurizer.layout.penalty_D[at])
    weights_DK = cho_solve(cho_factor(matrix_DD, lower=True), statistics.right_hand_side()[at])
    phi_ND = featurizer.features(rows, range(len(rows)))[:, at] * 2.0**-featurizer.grid.feature_bits
    return np.asarray(phi_ND @ weights_DK)


def quarters(cohort: Cohort) -> Iterator[Cohort]:
    """The cohort without its test people, with a quarter of the revocable training people in their place."""
    rest = cohort.select([i for i, row in enumerate(cohort.rows) if row.split is not Split.TEST])
    people = [s for s in rest.subjects if s in {r.subject for r in rest.rows if r.partition is Partition.REVOCABLE}]
    for quarter in range(QUARTERS):
        held_out = set(people[quarter::QUARTERS])
        rows = tuple(replace(r, split=Split.TEST) if r.subject in held_out else r for r in rest.rows)
        yield replace(rest, rows=rows)


def losses(cohort: Cohort, seed: int, step: Any) -> dict[str, dict[str, list[float]]]:
    """For each recipe and pattern, one loss a rule: error on held-out training people over plain ridge's."""
    inner = list(quarters(cohort))
    ridge: dict[str, float] = {}
    for part, pattern in itertools.product(inner, cohort.patterns):
        rows = complete_rows(part, pattern)
        error = _error(rows, ridge_predictions(part, pattern, rows))
        ridge[pattern_name(pattern)] = ridge.get(pattern_name(pattern), 0.0) + error
    table = {}
    for name, recipe in RECIPES.items():
        backbone = train(recipe, inner[0], seed=seed).backbone
        featurizer = Featurizer.fit(backbone, inner[0].where(partition=Partition.PUBLIC, split=Split.TRAIN))
        choices = Choices(featurizer, inner[0])
        ours = {pattern: np.zeros(len(RULES)) for pattern in ridge}
        seen: dict[tuple[int, tuple[float, ...]], Mapping[str, float]] = {}
        statistics = [featurizer.statistics(part.where(split=Split.TRAIN)) for part in inner]
        for k, rule in enumerate(RULES):
            chosen = choices.featurizer_of(rule)
            for n, part in enumerate(inner):
                key = (n, tuple(chosen.layout.penalties.values()))
                if key not in seen:
                    seen[key] = _errors(chosen, statistics[n], part)
                for pattern, error in seen[key].items():
                    ours[pattern][k] += error
        table[name] = {pattern: (errors / ridge[pattern]).tolist() for pattern, errors in ours.items()}
        step()
    return table


def _errors(featurizer: Featurizer, statistics: Statistics, part: Cohort) -> dict[str, float]:
    errors = {}
    for pattern in part.patterns:
        rows = complete_rows(part, pattern)
        errors[pattern_name(pattern)] = _error(rows, predict(featurizer, statistics, pattern, rows))
    return errors


def _error(rows: Cohort, predictions: FloatArray) -> float:
    """The summed error of the table's first metric: wrong clips, or absolute errors."""
    metrics = evaluate(rows.targets, predictions, rows.task)
    return len(rows) * (1.0 - metrics["accuracy"] if "accuracy" in metrics else metrics["mae"])


def winner(table: Mapping[str, Mapping[str, Sequence[float]]]) -> tuple[str, Rule]:
    """The recipe and rule with the least loss, averaged over patterns; the first of equals."""
    scores = {name: np.mean([np.asarray(row) for row in rows.values()], axis=0) for name, rows in table.items()}
    name = min(scores, key=lambda n: scores[n].min())
    return name, RULES[int(np.argmin(scores[name]))]


def main(name: str) -> None:
    """Run one cohort and write every loss."""
    total = SEEDS * (1 if name == "mosi" else FOLDS) * len(RECIPES)
    runs = []
    with Progress() as progress:
        bar = progress.add_task(f"{name}: variants", total=total)
        for seed, fold, cohort in cohorts(name):
            table = losses(cohort, seed, lambda: progress.advance(bar))
            recipe, rule = winner(table)
            runs.append({"seed": seed, "fold": fold, "losses": table, "winner": [recipe, asdict(rule)]})
    result = {"cohort": name, "rules": [asdict(rule) for rule in RULES], "runs": runs}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"selection-{name}.json").write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in ("ravdess", "mosi"):
        sys.exit("usage: python -m benchmarks.selection ravdess|mosi")
    main(sys.argv[1])
