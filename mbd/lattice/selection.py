"""Penalties chosen on public people only. It never sees a revocable row, so the choice is a public constant.

- A channel itself ("raw") takes the penalty with which its own head, made of nothing else, has the least squared error
  on public people whom it was not fitted on (four-fold cross-validation over public training and validation people).
- An embedding takes ten times the smallest penalty among its channels. It is not chosen by error: the backbone was
  trained on the public training rows, so there the embedding looks better than it is (docs/log.md).
"""

from collections.abc import Callable, Collection

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
        raw[modality] = PENALTIES[int(np.argmin(held_out_errors(featurizer, rows, {modality})))]
        if on_progress:
            on_progress(done / len(layout.modalities))
    penalties = {}
    for group in layout.groups:
        name, kind = group.split(".")
        smallest = min(raw[modality] for modality in parse_pattern(name))
        penalties[group] = smallest if kind == "raw" else EMBEDDING_RATIO * smallest
    return featurizer.with_layout(Layout(layout.raw_widths, layout.embedding, penalties))


def held_out_errors(featurizer: Featurizer, cohort: Cohort, channels: Collection[Modality]) -> FloatArray:
    """The squared error that the channels themselves, without an embedding, make on people they were not fitted on.

    Returns:
        float64 [len(PENALTIES)]: summed over `FOLDS` folds of people, for each penalty that all of them share.
    """
    blocks = [b for b in featurizer.layout.blocks if len(b.channels) == 1 and b.channels <= set(channels)]
    at = np.concatenate([np.append(np.arange(b.start, b.start + b.raw), b.indicator) for b in blocks])
    free = np.isin(at, [b.indicator for b in blocks])
    rows = [i for i in range(len(cohort)) if cohort.present(i).issuperset(channels)]
    phi_ND, label_NK = featurizer.features(cohort, rows)[:, at], featurizer.labels(cohort, rows)
    errors = np.zeros(len(PENALTIES))
    for fold in range(FOLDS):
        held_out = set(cohort.subjects[fold::FOLDS])
        judged_N = np.array([cohort.rows[i].subject in held_out for i in rows])
        known = Statistics.of(featurizer.grid, phi_ND[~judged_N], label_NK[~judged_N])
        unseen_ND = phi_ND[judged_N] * 2.0**-featurizer.grid.feature_bits
        target_NK = cohort.targets[rows][judged_N]
        for k, penalty in enumerate(PENALTIES):
            matrix_DD = known.normal_matrix() + np.diag(np.where(free, INDICATOR_PENALTY, penalty))
            weights_DK = cho_solve(cho_factor(matrix_DD, lower=True), known.right_hand_side())
            errors[k] += ((unseen_ND @ weights_DK - target_NK) ** 2).sum()
    return errors
