"""Cross-entropy heads beside squared heads on RAVDESS validation people; test people are taken out first.

    OMP_NUM_THREADS=1 python -m benchmarks.cross_entropy

Both heads see the same features and the same training rows, without noise. The penalties are those that the line
chooses for squared heads, times each of `FACTORS`, which were written down before the first run (never under 1).
Writes ``benchmarks/results/cross-entropy-ravdess.json``.
"""

import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from rich.progress import track

from benchmarks.cohorts import DATA, FOLDS, RESULTS
from mbd.cohort.cohort import Cohort, Partition, Split
from mbd.cohort.importers.ravdess import ravdess, ravdess_fold
from mbd.cohort.modality import ModalitySet, pattern_name
from mbd.lattice.cross_entropy import solve_cross_entropy
from mbd.lattice.featurizer import Featurizer
from mbd.lattice.fit import training_rows
from mbd.lattice.selection import select_penalties
from mbd.lattice.solve import solve
from mbd.training import recipes
from mbd.training.loop import train

SEEDS = 3
FACTORS = (1.0, 0.3, 0.1, 0.03, 0.01)
TAU = 1e-6


def runs() -> Iterator[tuple[int, int, Cohort]]:
    """(seed, fold, cohort without its test people)."""
    for seed in range(SEEDS):
        for fold in range(FOLDS):
            cohort = ravdess(DATA / "ravdess", **ravdess_fold(seed, fold))
            yield seed, fold, cohort.select([i for i, row in enumerate(cohort.rows) if row.split is not Split.TEST])


def heads(featurizer: Featurizer, cohort: Cohort, pattern: ModalitySet) -> dict[str, Any]:
    """Accuracy on validation people and seconds of the solve, for each kind of head of one pattern."""
    unit = 2.0**-featurizer.grid.feature_bits
    at = featurizer.layout.coordinates(pattern)
    known, valid = training_rows(cohort), cohort.where(split=Split.VALID)
    valid = valid.select([i for i in range(len(valid)) if pattern <= valid.present(i)]).restrict(pattern)
    phi_ND, target_NK = featurizer.features(known, range(len(known)))[:, at] * unit, known.targets
    unseen_ND, truth_N = featurizer.features(valid, range(len(valid)))[:, at] * unit, valid.targets.argmax(axis=1)

    def measure(solver: Any, penalty_D: Any) -> dict[str, Any]:
        started = time.perf_counter()
        solution = solver(penalty_D)
        seconds = time.perf_counter() - started
        right = float(((unseen_ND @ solution.weights_DK).argmax(axis=1) == truth_N).mean())
        return {"accuracy": right, "seconds": seconds, "residual_bound": solution.residual_bound}

    penalty_D = featurizer.layout.penalty_D[at]
    result: dict[str, Any] = {"coordinates": len(at), "rows": len(phi_ND), "judged": len(truth_N)}
    result["squared"] = measure(
        lambda penalty_D: solve(phi_ND.T @ phi_ND + np.diag(penalty_D), phi_ND.T @ target_NK, tau=TAU), penalty_D
    )
    for factor in FACTORS:
        result[f"cross-entropy x{factor:g}"] = measure(
            lambda penalty_D: solve_cross_entropy(phi_ND, target_NK, penalty_D, tau=TAU),
            np.maximum(1.0, factor * penalty_D),
        )
    return result


def main() -> None:
    """Measure, write, and print the means."""
    results = []
    for seed, fold, cohort in track(list(runs()), description="RAVDESS validation"):
        backbone = train(recipes.ravdess(), cohort, seed=seed).backbone
        public = cohort.where(partition=Partition.PUBLIC, split=Split.TRAIN)
        featurizer = select_penalties(Featurizer.fit(backbone, public), cohort)
        patterns = {pattern_name(p): heads(featurizer, cohort, p) for p in featurizer.layout.patterns}
        results.append({"seed": seed, "fold": fold, "patterns": patterns})
    (RESULTS / "cross-entropy-ravdess.json").write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    for pattern in results[0]["patterns"]:
        for kind in ("squared", *(f"cross-entropy x{factor:g}" for factor in FACTORS)):
            found = [run["patterns"][pattern][kind] for run in results]
            accuracy, seconds = ([one[name] for one in found] for name in ("accuracy", "seconds"))
            print(f"{pattern:3} {kind:20} accuracy {np.mean(accuracy):.3f}, {np.median(seconds):.2f} s a solve")


if __name__ == "__main__":
    main()
