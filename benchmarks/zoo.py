"""The networks of the zoo on real people: what `mbd benchmark` does, and one withdrawal on top of each of them.

    OMP_NUM_THREADS=1 python -m benchmarks.zoo mosi [FOLDER]
    OMP_NUM_THREADS=1 python -m benchmarks.zoo wordlevel [FOLDER]
    OMP_NUM_THREADS=1 python -m benchmarks.zoo ravdess [FOLDER]

Each writes ``benchmarks/results/zoo-<cohort>.json`` and the pictures ``docs/images/zoo-<cohort>-*.svg``;
`benchmarks.readme` writes the tables into ``docs/benchmarks.md``. MOSI by its official split; its
word-level clips in five folds of videos and RAVDESS in three of actors, so that everybody is tested once at each seed.
With a folder each network's result is kept there, and an interrupted run goes on.
"""

import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from benchmarks.cohorts import DATA, RESULTS, SEEDS, size_then_order
from benchmarks.real_cohorts import speakers, withdrawals
from mbd.backbones.zoo import ZOO
from mbd.benchmark.figures import draw
from mbd.benchmark.leaderboard import Leaderboard, balance_and_cost, by_protocol, with_all_channels
from mbd.benchmark.plan import Plan, telling_protocols
from mbd.benchmark.result import Endings, Measured, Result
from mbd.benchmark.runner import run
from mbd.cohort import folder
from mbd.cohort.cohort import Cohort
from mbd.cohort.importers.mosi import WORDLEVEL_FOLDS, mosi, mosi_wordlevel
from mbd.cohort.importers.ravdess import ravdess, ravdess_fold
from mbd.hashing import json_digest
from mbd.training import recipes
from mbd.training.recipe import Recipe

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "images"
JOBS = 2


@dataclass(frozen=True)
class People:
    """Real people, how often they are dealt anew into training and test, and the recipe that we ship for them.

    Of the word-level clips three seeds, not five: sequences take longest, and ten videos say more by being dealt anew.
    """

    folds: int
    fold: Callable[[int], Cohort]
    recipe: Recipe
    seeds: int = SEEDS


PEOPLE = {
    "mosi": People(1, lambda _: mosi(DATA / "mosi", seed=0), recipes.mosi()),
    "wordlevel": People(WORDLEVEL_FOLDS, lambda n: mosi_wordlevel(DATA / "mosi", fold=n), recipes.mosi(), seeds=3),
    "ravdess": People(3, lambda n: ravdess(DATA / "ravdess", **ravdess_fold(0, n, folds=3)), recipes.ravdess()),
}


def pool(folds: Sequence[Result]) -> Result:
    """One network at one seed, on the test people of all folds; metrics are means over folds, weighted by rows."""
    first = folds[0]
    rows = [sum(fold.rows) for fold in folds]

    def mean(values: Sequence[float | None]) -> float | None:
        found = [value for value in values if value is not None]
        return statistics.fmean(found, rows) if len(found) == len(rows) else None

    def condition(name: str) -> Measured:
        each = [fold.conditions[name] for fold in folds]
        metrics = {m: mean([one.metrics.get(m) for one in each]) for m in each[0].metrics}
        return Measured(
            protocol=each[0].protocol,
            masks=json_digest([one.masks for one in each]),
            metrics={m: value for m, value in metrics.items() if value is not None},
            errors=tuple(error for one in each for error in one.errors),
        )

    shapley = {m: mean([fold.shapley.get(m) for fold in folds]) for m in first.shapley}
    return replace(
        first,
        milliseconds=statistics.median(fold.milliseconds for fold in folds),
        rows=tuple(n for fold in folds for n in fold.rows),
        conditions={name: condition(name) for name in first.conditions},
        shapley={modality: phi for modality, phi in shapley.items() if phi is not None},
        mei=mean([fold.mei for fold in folds]),
        mli=mean([fold.mli for fold in folds]),
    )


def training(fold: int, result: Result) -> dict[str, Any]:
    """One training as a line to check the tables by: its end, its error, and what was taken from whom."""
    errors = [sum(each.errors) / sum(result.rows) for each in result.conditions.values()]
    return {
        "fold": fold,
        "backbone": result.backbone,
        "seed": result.seed,
        "epochs": result.epochs,
        "kept": result.chosen_epoch + 1,
        "error": round(statistics.fmean(errors), 4),
        "masks": json_digest([each.masks for each in result.conditions.values()]),
    }


def withdrawal(cohort: Cohort, recipe: Recipe) -> dict[str, Any]:
    """One person withdraws the voice from a line on a public backbone: what is kept of it for the table."""
    (step,) = withdrawals(cohort, recipe, speakers(cohort)[:1], lambda: None)
    kept = ("mechanism", "rows", "guarantee", "statistics_equal", "weights_within_bound", "certificate")
    full = {when: step[when][max(step[when], key=size_then_order)] for when in ("before", "after")}
    return {name: step[name] for name in kept} | full


def main(name: str, kept: Path | None) -> None:
    """Run one cohort, and write its results."""
    people = PEOPLE[name]
    by_fold = []
    with tempfile.TemporaryDirectory(prefix="mbd-zoo-") as place, Progress(console=Console(stderr=True)) as progress:
        for n in range(people.folds):
            cohort = people.fold(n)
            plan = Plan(people.recipe, tuple(ZOO), people.seeds, telling_protocols(cohort))
            stored = Path(place) / f"cohort-{n}"
            folder.write(cohort, stored, key=bytes(32))
            bar = progress.add_task(f"{name}, fold {n + 1} of {people.folds}", total=1.0)
            by_fold.append(
                run(
                    plan,
                    stored,
                    out=(kept or Path(place)) / f"fold-{n}",
                    jobs=JOBS,
                    on_progress=lambda done, _, bar=bar: progress.update(bar, completed=done),
                )
            )
        board = Leaderboard([pool(folds) for folds in zip(*by_fold, strict=True)], cohort.modalities)
        for path in draw(board, Path(place)):
            shutil.copyfile(path, PICTURES / f"zoo-{name}-{path.name}")
        bar = progress.add_task(f"{name}, withdrawals", total=len(ZOO))
        first, withdrawn = people.fold(0), {}
        for backbone in ZOO:
            withdrawn[backbone] = withdrawal(first, replace(people.recipe, backbone=backbone))
            progress.advance(bar)
    trained = [result for results in by_fold for result in results]
    tables = {make.__name__: make(board) for make in (with_all_channels, by_protocol, balance_and_cost)}
    found = {
        "cohort": cohort.name,
        "seeds": people.seeds,
        "folds": people.folds,
        "metric": board.headline,
        "people": sum(len(results[0].rows) for results in by_fold),
        "endings": asdict(Endings.of(trained, people.recipe.patience)),
        **tables,
        "withdrawals": withdrawn,
        "trainings": [training(n, result) for n, results in enumerate(by_fold) for result in results],
    }
    (RESULTS / f"zoo-{name}.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or sys.argv[1] not in PEOPLE:
        sys.exit(f"usage: python -m benchmarks.zoo {'|'.join(PEOPLE)} [FOLDER]")
    main(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) == 3 else None)
