"""What the lattice leaves open (sizes of the backbone, the rule that chooses penalties), chosen without test people.

    python -m benchmarks.selection ravdess
    python -m benchmarks.selection mosi
    python -m benchmarks.selection summary

Every variant below was written down before it was judged: 108 before the first run, and twelve more (a tolerance) when
those had shown that a weak channel is shrunk too much (docs/log.md). For each seed and fold, the test people of that
run are taken out of the cohort before anything else; the revocable training people are then held out, a quarter at a
time, as if they were test people, and a variant's loss is its error on them divided by plain ridge's, averaged over
availability patterns. What we ship is the best over all runs of both cohorts (``summary``). `benchmarks.real_cohorts`
shows beside it the variant that wins among each run's own training people, where nobody whom the run is tested on has
a say. Writes ``benchmarks/results/selection-<cohort>.json``.
"""

import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.cohorts import RESULTS, cohorts, runs
from benchmarks.ridge import complete_rows, ridge_predictions
from mbd.cohort.cohort import Cohort, Partition, Split
from mbd.cohort.modality import pattern_name
from mbd.lattice.featurizer import Featurizer
from mbd.lattice.selection import PenaltyRule, PublicErrors, predict_without_noise
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
RULES = tuple(
    PenaltyRule(raw, step, ratio, tolerance=0.0)
    for raw in ("own", "shared", "patterns")
    for step in (4, 2)
    for ratio in (10.0, 1.0, 3.0, 30.0, 100.0, None)
) + tuple(PenaltyRule(tolerance=tolerance) for tolerance in (0.005, 0.01, 0.02, 0.03))
QUARTERS = 4


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
        public = PublicErrors(featurizer, inner[0])
        ours = {pattern: np.zeros(len(RULES)) for pattern in ridge}
        seen: dict[tuple[int, tuple[float, ...]], Mapping[str, float]] = {}
        statistics = [featurizer.statistics(part.where(split=Split.TRAIN)) for part in inner]
        for k, rule in enumerate(RULES):
            chosen = public.choose(rule)
            for n, part in enumerate(inner):
                key = (n, tuple(chosen.layout.penalties.values()))
                if key not in seen:
                    seen[key] = _errors(chosen, statistics[n], part)
                for pattern, error in seen[key].items():
                    ours[pattern][k] += error
        table[name] = {pattern: np.round(errors / ridge[pattern], 6).tolist() for pattern, errors in ours.items()}
        step()
    return table


def _errors(featurizer: Featurizer, statistics: Statistics, part: Cohort) -> dict[str, float]:
    errors = {}
    for pattern in part.patterns:
        rows = complete_rows(part, pattern)
        errors[pattern_name(pattern)] = _error(rows, predict_without_noise(featurizer, statistics, pattern, rows))
    return errors


def _error(rows: Cohort, predictions: FloatArray) -> float:
    """The summed error of the table's first metric: wrong clips, or absolute errors."""
    metrics = evaluate(rows.targets, predictions, rows.task)
    return len(rows) * (1.0 - metrics["accuracy"] if "accuracy" in metrics else metrics["mae"])


def winner(table: Mapping[str, Mapping[str, Sequence[float]]]) -> tuple[str, PenaltyRule]:
    """The recipe and rule with the least loss, averaged over patterns; the first of equals."""
    scores = {name: np.mean([np.asarray(row) for row in rows.values()], axis=0) for name, rows in table.items()}
    name = min(scores, key=lambda n: scores[n].min())
    return name, RULES[int(np.argmin(scores[name]))]


def chosen(name: str) -> dict[tuple[int, int], tuple[Recipe, PenaltyRule]]:
    """The variant that each run (seed, fold) uses: the winner among its own training people."""
    result = json.loads((RESULTS / f"selection-{name}.json").read_text())
    return {
        (run["seed"], run["fold"]): (RECIPES[run["winner"][0]], PenaltyRule(**run["winner"][1]))
        for run in result["runs"]
    }


def main(name: str) -> None:
    """Run one cohort and write every loss."""
    found = []
    with Progress() as progress:
        bar = progress.add_task(f"{name}: variants", total=runs(name) * len(RECIPES))
        for seed, fold, cohort in cohorts(name):
            table = losses(cohort, seed, lambda: progress.advance(bar))
            recipe, rule = winner(table)
            found.append({"seed": seed, "fold": fold, "losses": table, "winner": [recipe, asdict(rule)]})
    result = {"cohort": name, "rules": [asdict(rule) for rule in RULES], "runs": found}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"selection-{name}.json").write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


def summary(best: int = 5) -> None:
    """The best variants over all runs of both cohorts, which is how the shipped one was chosen, and of each cohort."""
    pooled: dict[str, FloatArray] = {}
    for name in ("ravdess", "mosi"):
        result = json.loads((RESULTS / f"selection-{name}.json").read_text())
        for recipe in RECIPES:
            loss = np.mean([list(run["losses"][recipe].values()) for run in result["runs"]], axis=(0, 1))
            for rule, value in zip(RULES, loss, strict=True):
                variant = f"{recipe}, {rule.raw}, {rule.step} a decade, ratio {rule.ratio or 'by validation'}"
                variant += f", tolerance {rule.tolerance}" if rule.tolerance else ""
                pooled[variant] = np.append(pooled.get(variant, np.zeros(0)), value)
    table = Table("variant", "RAVDESS", "MOSI", "both", title="Error on held-out training people over ridge's")
    chosen_by = [lambda pair: pair.mean(), lambda pair: pair[0], lambda pair: pair[1]]
    shown = dict.fromkeys(v for key in chosen_by for v in sorted(pooled, key=lambda v: key(pooled[v]))[:best])
    for variant in shown:
        table.add_row(variant, *(f"{value:.4f}" for value in (*pooled[variant], pooled[variant].mean())))
    Console().print(table)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in ("ravdess", "mosi", "summary"):
        sys.exit("usage: python -m benchmarks.selection ravdess|mosi|summary")
    summary() if sys.argv[1] == "summary" else main(sys.argv[1])
