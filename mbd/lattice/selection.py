"""Penalties chosen on public rows only. It never sees a revocable row, so the choice is a public constant.

Coordinate descent over the groups of the layout: heads are fitted on public training rows and judged on public
validation rows, by the squared error averaged over all availability patterns.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from mbd.cohort.cohort import Cohort, Partition, Split
from mbd.errors import CohortError
from mbd.lattice.featurizer import Featurizer
from mbd.lattice.layout import Layout

FloatArray = NDArray[np.float64]

PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
_START = 10.0
_SWEEPS = 2


def select_penalties(
    featurizer: Featurizer, cohort: Cohort, *, on_progress: Callable[[float], None] | None = None
) -> Featurizer:
    """The same featurizer with one penalty per group, chosen on the public partition.

    Args:
        featurizer: fitted on public rows.
        cohort: anything that contains the public rows; the others are left out here.
        on_progress: called with the finished fraction.

    Raises:
        CohortError: there are no public training or validation rows.
    """
    train = cohort.where(partition=Partition.PUBLIC, split=Split.TRAIN)
    valid = cohort.where(partition=Partition.PUBLIC, split=Split.VALID)
    if not len(train) or not len(valid):
        raise CohortError(
            "Penalties are chosen on public rows, and there are none for training or for validation.",
            remedy="put some subjects into the public partition, in the splits train and valid",
        )
    judge = _Judge(featurizer, train, valid)
    penalties = dict.fromkeys(featurizer.layout.groups, _START)
    best = judge.error(penalties)
    trials = _SWEEPS * len(penalties)
    for trial in range(trials):
        group = featurizer.layout.groups[trial % len(penalties)]
        for value in PENALTIES:
            candidate = penalties | {group: value}
            error = judge.error(candidate)
            if error < best:
                best, penalties = error, candidate
        if on_progress:
            on_progress((trial + 1) / trials)
    layout = featurizer.layout
    return featurizer.with_layout(Layout(layout.raw_widths, layout.embedding, penalties))


class _Judge:
    """Validation error of penalties; everything that does not depend on them is computed once."""

    def __init__(self, featurizer: Featurizer, train: Cohort, valid: Cohort) -> None:
        self.layout = featurizer.layout
        statistics = featurizer.statistics(train)
        self.gram_DD = statistics.normal_matrix()
        self.moment_DK = statistics.right_hand_side()
        rows = [i for i in range(len(valid)) if valid.present(i)]
        self.phi_ND = featurizer.features(valid, rows) * 2.0**-featurizer.grid.feature_bits
        self.target_NK = valid.targets[rows]
        self.available = [valid.present(i) for i in rows]

    def error(self, penalties: Mapping[str, float]) -> float:
        """Squared error, averaged over the patterns that some validation row can show."""
        layout = Layout(self.layout.raw_widths, self.layout.embedding, dict(penalties))
        errors = []
        for pattern in layout.patterns:
            seen = np.array([pattern <= available for available in self.available])
            if seen.any():
                errors.append(self._error_of(layout.penalty_D, layout.coordinates(pattern), seen))
        return float(np.mean(errors))

    def _error_of(self, penalty_D: FloatArray, at: NDArray[np.intp], seen: NDArray[np.bool_]) -> float:
        matrix_DD = self.gram_DD[np.ix_(at, at)] + np.diag(penalty_D[at])
        weights_DK = cho_solve(cho_factor(matrix_DD, lower=True), self.moment_DK[at])
        residual_NK = self.phi_ND[np.ix_(seen, at)] @ weights_DK - self.target_NK[seen]
        return float((residual_NK**2).sum(axis=1).mean())
