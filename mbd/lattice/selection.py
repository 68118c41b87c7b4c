"""Penalties chosen on public people only. It never sees a revocable row, so the choice is a public constant.

- A channel itself ("raw") takes the penalty with which its own head, made of nothing else, has the least squared error
  on public people whom it was not fitted on (four-fold cross-validation over public training and validation people).
- An embedding takes ten times the smallest penalty among its channels. It is not chosen by error: the backbone was
  trained on the public training rows, so there the embedding looks better than it is (docs/log.md).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from mbd.cohort.cohort import Cohort, Partition, Split
from mbd.cohort.modality import Modality, parse_pattern
from mbd.errors import CohortError
from mbd.lattice.featurizer import Featurizer
from mbd.lattice.layout import INDICATOR_PENALTY, Layout
from mbd.lattice.statistics import Statistics

FloatArray = NDArray[np.float64]

PENALTIES = tuple(10.0 ** (quarter / 4) for quarter in range(2, 15))
EMBEDDING_RATIO = 10.0
FOLDS = 4


def select_penalties(
    featurizer: Featurizer, cohort: Cohort, *, on_progress: Callable[[float], None] | None = None
) -> Featurizer:
    """The same featurizer with one penalty per group, chosen on the public partition.

    Args:
        featurizer: fitted on public rows.
        cohort: anything that contains the public rows; the others are left out here.
        on_progress: called with the finished fraction.

    Raises:
        CohortError: there are fewer public people than folds.
    """
    rows = cohort.where(partition=Partition.PUBLIC)
    rows = rows.select([i for i, row in enumerate(rows.rows) if row.split is not Split.TEST])
    if len(rows.subjects) < FOLDS:
        raise CohortError(
            f"Penalties are chosen by {FOLDS}-fold cross-validation over public people, and there are "
            f"{len(rows.subjects)}.",
            remedy=f"put at least {FOLDS} people into the public partition",
        )
    layout = featurizer.layout
    raw = {}
    for done, modality in enumerate(layout.modalities, start=1):
        raw[modality] = _own_penalty(featurizer, rows, modality)
        if on_progress:
            on_progress(done / len(layout.modalities))
    penalties = {}
    for group in layout.groups:
        name, kind = group.split(".")
        smallest = min(raw[modality] for modality in parse_pattern(name))
        penalties[group] = smallest if kind == "raw" else EMBEDDING_RATIO * smallest
    return featurizer.with_layout(Layout(layout.raw_widths, layout.embedding, penalties))


def _own_penalty(featurizer: Featurizer, cohort: Cohort, modality: Modality) -> float:
    """The penalty that serves a channel's own head best on held-out public people."""
    block = next(b for b in featurizer.layout.blocks if b.channels == {modality})
    at = np.append(np.arange(block.start, block.start + block.raw), block.indicator)
    errors = np.zeros(len(PENALTIES))
    for fold in range(FOLDS):
        held_out = set(cohort.subjects[fold::FOLDS])
        rows = [i for i in range(len(cohort)) if modality in cohort.present(i)]
        fit = [i for i in rows if cohort.rows[i].subject not in held_out]
        judge = [i for i in rows if cohort.rows[i].subject in held_out]
        errors += _squared_errors(featurizer, cohort, at, fit, judge)
    best: float = PENALTIES[int(np.argmin(errors))]
    return best


def _squared_errors(
    featurizer: Featurizer, cohort: Cohort, at: NDArray[np.intp], fit: list[int], judge: list[int]
) -> FloatArray:
    """The summed squared error on ``judge`` of a ridge fitted on ``fit``, for each penalty."""
    grid = featurizer.grid
    phi_ND, label_NK = featurizer.features(cohort, fit)[:, at], featurizer.labels(cohort, fit)
    statistics = Statistics.of(grid, phi_ND, label_NK)
    gram_DD, moment_DK = statistics.normal_matrix(), statistics.right_hand_side()
    unseen_ND = featurizer.features(cohort, judge)[:, at] * 2.0**-grid.feature_bits
    target_NK = cohort.targets[judge]
    errors = []
    for penalty in PENALTIES:
        penalty_D = np.append(np.full(len(at) - 1, penalty), INDICATOR_PENALTY)
        weights_DK = cho_solve(cho_factor(gram_DD + np.diag(penalty_D), lower=True), moment_DK)
        errors.append(float(((unseen_ND @ weights_DK - target_NK) ** 2).sum()))
    return np.array(errors)
