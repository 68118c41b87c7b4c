"""RAVDESS and MOSI, five seeds: every availability pattern beside plain ridge, then voices are withdrawn.

    python -m benchmarks.real_cohorts ravdess
    python -m benchmarks.real_cohorts mosi

Each writes ``benchmarks/results/<cohort>.json``, from which ``python -m benchmarks.readme`` makes the README's tables.
All methods see the same training rows and features. Weights and penalties are chosen on public people, and what chooses
them on held-out training people (`benchmarks.selection`): over all runs, or by each run for itself.
"""

import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from benchmarks.cohorts import RESULTS, cohorts, runs
from benchmarks.ridge import complete_rows, ridge_predictions
from benchmarks.selection import chosen
from certs.verification import verify
from mbd.cohort.cohort import EVERYONE, Cohort, Partition, Split
from mbd.cohort.modality import Modality, pattern_name
from mbd.deletion.comparator import compare, refit
from mbd.deletion.outcome import Revocation
from mbd.lattice.fit import fit_lattice
from mbd.lattice.model import load_model
from mbd.lattice.release import ReleasePolicy
from mbd.lattice.selection import PenaltyRule
from mbd.metrics.sentiment import evaluate
from mbd.privacy.noise import NoiseSource
from mbd.settings import Settings
from mbd.training import recipes
from mbd.training.loop import train
from mbd.training.recipe import Recipe
from mbd.workflow.evaluation import metrics_by_pattern
from mbd.workflow.office import utc_now
from mbd.workflow.revocation import revoke
from mbd.workflow.system import open_system
from mbd.workflow.training import train_line

FloatArray = NDArray[np.float64]

WITHDRAWALS = 5
NOISE = NoiseSource(b"a benchmark's noise is no secret")


def accuracy_run(name: str, cohort: Cohort, seed: int, variant: tuple[Recipe, PenaltyRule]) -> dict[str, Any]:
    """Metrics for each pattern on the test rows that have all of its channels.

    ``lattice`` is what `mbd train` does unasked, ``run by run`` the variant that this run's own training people chose.
    """
    variants = {"lattice": (shipped(name), PenaltyRule()), "run by run": variant}
    distinct = {recipe.digest: recipe for recipe, _ in variants.values()}
    backbones = {digest: train(recipe, cohort, seed=seed).backbone for digest, recipe in distinct.items()}
    models = {
        method: fit_lattice(
            backbones[recipe.digest],
            cohort,
            policy=ReleasePolicy(),
            noise=NOISE,
            purpose=f"benchmark/{seed}",
            salt=bytes(32),
            rule=rule,
        )
        for method, (recipe, rule) in variants.items()
    }
    patterns = {}
    for pattern in cohort.patterns:
        rows = complete_rows(cohort, pattern)
        outputs = {"ridge": ridge_predictions(cohort, pattern, rows)}
        outputs |= {method: model.predict(rows).outputs_NK for method, model in models.items()}
        patterns[pattern_name(pattern)] = {
            "rows": len(rows),
            "people": people_of(cohort, rows, outputs),
            **{method: evaluate(rows.targets, found_NK, cohort.task) for method, found_NK in outputs.items()},
        }
    return {
        "patterns": patterns,
        "penalties": {method: dict(model.layout.penalties) for method, model in models.items()},
        "rule": asdict(variant[1]),
        "recipe": variant[0].digest,
        "rows": models["lattice"].statistics.rows,
    }


def people_of(cohort: Cohort, rows: Cohort, outputs: dict[str, FloatArray]) -> dict[str, list[float]]:
    """Of each person tested: a number in place of the name, the rows, and each method's summed error."""
    number = {subject: n for n, subject in enumerate(sorted(cohort.subjects))}
    mine = [list(rows.rows_of[subject]) for subject in rows.subjects]
    errors = {method: row_errors(rows, found_NK) for method, found_NK in outputs.items()}
    return {
        "number": [number[subject] for subject in rows.subjects],
        "rows": [len(at) for at in mine],
        **{method: [round(float(error_N[at].sum()), 6) for at in mine] for method, error_N in errors.items()},
    }


def row_errors(rows: Cohort, outputs_NK: FloatArray) -> FloatArray:
    """The first metric of the tables, row by row [N]: 1 for a wrong class, or the absolute error."""
    if rows.task.kind == "classification":
        return np.asarray(outputs_NK.argmax(axis=1) != rows.targets.argmax(axis=1), dtype=np.float64)
    return np.abs(outputs_NK - rows.targets)[:, 0]


def shipped(name: str) -> Recipe:
    """The recipe that we ship for a cohort."""
    recipe: Recipe = getattr(recipes, name)()
    return recipe


def speakers(cohort: Cohort) -> list[str]:
    """Whose voice heads know, and can be withdrawn."""
    return list(
        dict.fromkeys(
            row.subject
            for i, row in enumerate(cohort.rows)
            if (row.partition, row.split) == (Partition.REVOCABLE, Split.TRAIN) and Modality.AUDIO in cohort.present(i)
        )
    )


def withdrawals(cohort: Cohort, recipe: Recipe, who: Sequence[str], step: Callable[[], None]) -> list[dict[str, Any]]:
    """People withdraw their voice one after the other, on a real deployment: what was done, proved and left."""
    story = []
    with tempfile.TemporaryDirectory() as home, open_system(Settings(home=Path(home)), create=True) as system:
        model = train_line(system, cohort, recipe, line="benchmark", seed=0).model
        rows = cohort
        for person in who:
            before = metrics_by_pattern(model, cohort, system.suppressed())
            request = Revocation(frozenset({(person, Modality.AUDIO)}), "comparator")
            started = time.perf_counter()
            reference = refit(model, rows, request)
            refit_seconds = time.perf_counter() - started
            (result,) = revoke(system, request.pairs)
            rows = rows.without(request.pairs)
            model = load_model(system.model_folder("benchmark", result.version))
            verified = verify(result.bundle.read_bytes(), system.trusted_root_path.read_bytes(), at=utc_now())
            guarantee = verified.statement.predicate.guarantee.model_dump(mode="json", by_alias=True)
            story.append(
                {
                    "who": "everyone" if person == EVERYONE else f"person {len(story) + 1}",
                    "mechanism": result.outcome.mechanism if result.outcome else None,
                    "rows": result.outcome.rows_touched if result.outcome else None,
                    "guarantee": guarantee,
                    "statistics_equal": model.statistics == reference.statistics,
                    "weights_within_bound": all(d.distance <= d.bound for d in compare(model, reference).values()),
                    "certificate": verified.verdict,
                    "deletion_seconds": result.deletion_seconds,
                    "refit_seconds": refit_seconds,
                    "before": before,
                    "after": metrics_by_pattern(model, cohort, system.suppressed()),
                }
            )
            step()
    return story


def main(name: str) -> None:
    """Run one cohort and write its results."""
    variants = chosen(name)
    with Progress() as progress:
        bar = progress.add_task(f"{name}: accuracy", total=runs(name))
        found = []
        for seed, fold, cohort in cohorts(name):
            run = accuracy_run(name, cohort, seed, variants[seed, fold])
            found.append({"seed": seed, "fold": fold, **run})
            progress.advance(bar)
        bar = progress.add_task(f"{name}: withdrawals", total=WITHDRAWALS + 1)
        _, _, first = next(cohorts(name))
        who = [*speakers(first)[:WITHDRAWALS], EVERYONE]
        story = withdrawals(first, shipped(name), who, lambda: progress.advance(bar))
    environment = {"python": platform.python_version(), "torch": metadata.version("torch").partition("+")[0]}
    result = {
        "cohort": name,
        "shipped": shipped(name).to_json(),
        "environment": environment,
        "runs": found,
        "withdrawals": story,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in ("ravdess", "mosi"):
        sys.exit("usage: python -m benchmarks.real_cohorts ravdess|mosi")
    main(sys.argv[1])
