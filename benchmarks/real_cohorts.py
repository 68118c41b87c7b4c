"""RAVDESS and MOSI, five seeds: every availability pattern beside plain ridge, then voices are withdrawn.

    python -m benchmarks.real_cohorts ravdess
    python -m benchmarks.real_cohorts mosi

Each writes ``benchmarks/results/<cohort>.json``, from which ``python -m benchmarks.readme`` makes the README's tables.
Both methods see the same training rows and features. Weights and penalties are chosen on public people; docs/log.md
says what the rule that chooses them had seen.
"""

import json
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.progress import Progress

from benchmarks.ridge import complete_rows, ridge_predictions
from certs.verification import verify
from mbd.cohort.cohort import EVERYONE, Cohort, Partition, Split
from mbd.cohort.importers.mosi import mosi
from mbd.cohort.importers.ravdess import ravdess, ravdess_fold
from mbd.cohort.modality import Modality, pattern_name
from mbd.deletion.comparator import compare, refit
from mbd.deletion.outcome import Revocation
from mbd.lattice.fit import fit_lattice
from mbd.lattice.model import load_model
from mbd.lattice.release import ReleasePolicy
from mbd.metrics.sentiment import evaluate
from mbd.privacy.noise import NoiseSource
from mbd.settings import Settings
from mbd.training import recipes
from mbd.training.loop import train
from mbd.training.recipe import Recipe
from mbd.workflow.evaluation import metrics_by_pattern
from mbd.workflow.revocation import revoke
from mbd.workflow.system import open_system, utc_now
from mbd.workflow.training import train_line

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
RESULTS = Path(__file__).with_name("results")
SEEDS, FOLDS, WITHDRAWALS = 5, 6, 5
NOISE = NoiseSource(b"a benchmark's noise is no secret")


def cohorts(name: str) -> Iterator[tuple[int, int, Cohort]]:
    """(seed, fold, cohort): six folds of actors a seed, or the official split with another draw of public videos."""
    for seed in range(SEEDS):
        if name == "mosi":
            yield seed, 0, mosi(DATA / "mosi", seed=seed)
        else:
            for fold in range(FOLDS):
                yield seed, fold, ravdess(DATA / "ravdess", **ravdess_fold(seed, fold))


def accuracy_run(cohort: Cohort, recipe: Recipe, seed: int) -> dict[str, Any]:
    """Metrics of both methods for each pattern, on the test rows that have all of its channels."""
    backbone = train(recipe, cohort, seed=seed).backbone
    model = fit_lattice(
        backbone, cohort, policy=ReleasePolicy(), noise=NOISE, purpose=f"benchmark/{seed}", salt=bytes(32)
    )
    patterns = {}
    for pattern in cohort.patterns:
        rows = complete_rows(cohort, pattern)
        patterns[pattern_name(pattern)] = {
            "rows": len(rows),
            "lattice": evaluate(rows.targets, model.predict(rows).outputs_NK, cohort.task),
            "ridge": evaluate(rows.targets, ridge_predictions(cohort, pattern, rows), cohort.task),
        }
    return {"patterns": patterns, "penalties": dict(model.layout.penalties), "rows": model.statistics.rows}


def withdrawals(cohort: Cohort, recipe: Recipe, step: Any) -> list[dict[str, Any]]:
    """Five people withdraw their voice one after the other, then everyone does, on a real deployment."""
    speakers = dict.fromkeys(
        row.subject
        for i, row in enumerate(cohort.rows)
        if (row.partition, row.split) == (Partition.REVOCABLE, Split.TRAIN) and Modality.AUDIO in cohort.present(i)
    )
    story = []
    with tempfile.TemporaryDirectory() as home, open_system(Settings(home=Path(home)), create=True) as system:
        model = train_line(system, cohort, recipe, line="benchmark", seed=0).model
        rows = cohort
        for who in [*list(speakers)[:WITHDRAWALS], EVERYONE]:
            before = metrics_by_pattern(model, cohort, system.suppressed())
            request = Revocation(frozenset({(who, Modality.AUDIO)}), "comparator")
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
                    "who": "everyone" if who == EVERYONE else f"person {len(story) + 1}",
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
    recipe: Recipe = getattr(recipes, name)()
    total = SEEDS * (1 if name == "mosi" else FOLDS)
    with Progress() as progress:
        bar = progress.add_task(f"{name}: accuracy", total=total)
        runs = []
        for seed, fold, cohort in cohorts(name):
            runs.append({"seed": seed, "fold": fold, **accuracy_run(cohort, recipe, seed)})
            progress.advance(bar)
        bar = progress.add_task(f"{name}: withdrawals", total=WITHDRAWALS + 1)
        _, _, first = next(cohorts(name))
        story = withdrawals(first, recipe, lambda: progress.advance(bar))
    environment = {"python": platform.python_version(), "torch": metadata.version("torch").partition("+")[0]}
    result = {
        "cohort": name,
        "recipe": recipe.to_json(),
        "environment": environment,
        "runs": runs,
        "withdrawals": story,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in ("ravdess", "mosi"):
        sys.exit("usage: python -m benchmarks.real_cohorts ravdess|mosi")
    main(sys.argv[1])
