"""Penalties chosen on public people only. It never sees a revocable row, so the choice is a public constant.

- A channel itself ("raw") takes the smallest penalty whose squared error, on public people whom a head was not fitted
  on, is at most a hundredth above the least (four-fold cross-validation over public training and validation people).
- An embedding takes a multiple of the smallest penalty among its channels. The backbone was trained on the public
  training rows, so there the embedding looks better than it is: its penalty is not chosen by error on them.

Legend: N rows, D coordinates, K outputs.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from mbd.cohort.cohort import Cohort, Partition, Split
from mbd.cohort.modality import Modality, ModalitySet, parse_pattern
from mbd.errors import CohortError
from mbd.lattice.featurizer import Featurizer
from mbd.lattice.layout import INDICATOR_PENALTY
from mbd.lattice.statistics import Statistics

FloatArray = NDArray[np.float64]

PENALTIES = tuple(10.0 ** (quarter / 4) for quarter in range(2, 15))
RATIOS = (1.0, 3.0, 10.0, 30.0, 100.0)
FOLDS = 4


@dataclass(frozen=True)
class PenaltyRule:
    """How penalties are chosen from errors on public people. `benchmarks.selection` found the default (docs/log.md).

    Attributes:
        raw: whose errors count for a channel itself: of its ``own`` head; of every channel's own head, for one penalty
            that all channels ``share``; or of the heads of all availability ``patterns``, for one penalty likewise.
            Where several count, each is relative to its least.
        step: penalties a decade, 4 or 2.
        ratio: an embedding's penalty over the smallest of its channels; None takes the one of `RATIOS` that is best on
            public validation people.
        tolerance: a channel takes the smallest penalty whose error is at most this fraction above the least: heads are
            fitted on more rows than penalties are chosen on, and more rows need less shrinking.
    """

    raw: Literal["own", "shared", "patterns"] = "own"
    step: Literal[4, 2] = 4
    ratio: float | None = 10.0
    tolerance: float = 0.01


class PublicErrors:
    """What every rule judges by, for one featurizer.

    Args:
        featurizer: fitted on public rows.
        cohort: anything that contains the public rows; the others are left out here.
        on_progress: called with the finished fraction.

    Raises:
        CohortError: there are fewer public people than folds.
    """

    def __init__(
        self, featurizer: Featurizer, cohort: Cohort, *, on_progress: Callable[[float], None] | None = None
    ) -> None:
        public = cohort.where(partition=Partition.PUBLIC)
        rows = public.select([i for i, row in enumerate(public.rows) if row.split is not Split.TEST])
        if len(rows.subjects) < FOLDS:
            raise CohortError(
                f"Penalties are chosen by {FOLDS}-fold cross-validation over public people, and there are "
                f"{len(rows.subjects)}.",
                remedy=f"put at least {FOLDS} people into the public partition",
            )
        self.featurizer = featurizer
        self.rows = rows
        self._raw: dict[ModalitySet, FloatArray] = {}
        modalities = featurizer.layout.modalities
        for done, modality in enumerate(modalities, start=1):
            self.raw(frozenset({modality}))
            if on_progress:
                on_progress(done / len(modalities))

    def raw(self, pattern: ModalitySet) -> FloatArray:
        """`held_out_errors` of a pattern's channels, measured once."""
        if pattern not in self._raw:
            self._raw[pattern] = held_out_errors(self.featurizer, self.rows, pattern)
        return self._raw[pattern]

    @cached_property
    def known(self) -> Statistics:
        """The statistics of the public training rows."""
        return self.featurizer.statistics(self.rows.where(split=Split.TRAIN))

    def choose(self, rule: PenaltyRule) -> Featurizer:
        """The same featurizer with one penalty per group."""
        if rule.ratio is not None:
            return self._with(rule, rule.ratio)
        return min((self._with(rule, ratio) for ratio in RATIOS), key=self._validation_error)

    def _with(self, rule: PenaltyRule, ratio: float) -> Featurizer:
        layout = self.featurizer.layout
        raw = {modality: self._raw_penalty(rule, modality) for modality in layout.modalities}
        penalties = {}
        for group in layout.groups:
            name, kind = group.split(".")
            smallest = min(raw[modality] for modality in parse_pattern(name))
            penalties[group] = smallest if kind == "raw" else ratio * smallest
        return self.featurizer.with_layout(replace(layout, penalties=penalties))

    def _raw_penalty(self, rule: PenaltyRule, modality: Modality) -> float:
        judges: Sequence[ModalitySet] = {
            "own": [frozenset({modality})],
            "shared": [frozenset({each}) for each in self.featurizer.layout.modalities],
            "patterns": self.featurizer.layout.patterns,
        }[rule.raw]
        stride = 4 // rule.step
        error = np.asarray(sum(self.raw(pattern) / self.raw(pattern).min() for pattern in judges))[::stride]
        return float(PENALTIES[::stride][int(np.argmax(error <= error.min() * (1 + rule.tolerance)))])

    def _validation_error(self, featurizer: Featurizer) -> float:
        """Squared error on public validation people over their spread, summed over the patterns that they have."""
        unseen, total = self.rows.where(split=Split.VALID), 0.0
        for pattern in featurizer.layout.patterns:
            having = [i for i in range(len(unseen)) if pattern <= unseen.present(i)]
            rows = unseen.select(having).restrict(pattern)
            spread = ((rows.targets - rows.targets.mean(axis=0)) ** 2).sum() if having else 0.0
            if spread:
                outputs_NK = predict_without_noise(featurizer, self.known, pattern, rows)
                total += float(((outputs_NK - rows.targets) ** 2).sum() / spread)
        return total


def select_penalties(
    featurizer: Featurizer,
    cohort: Cohort,
    *,
    rule: PenaltyRule | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> Featurizer:
    """The same featurizer with one penalty per group, chosen on the public partition; see `PublicErrors`."""
    return PublicErrors(featurizer, cohort, on_progress=on_progress).choose(rule or PenaltyRule())


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


def predict_without_noise(
    featurizer: Featurizer, statistics: Statistics, pattern: ModalitySet, rows: Cohort
) -> FloatArray:
    """Outputs [N, K] of one pattern's head before any noise: for choosing on public people, never for release."""
    at = featurizer.layout.coordinates(pattern)
    matrix_DD = statistics.normal_matrix()[np.ix_(at, at)] + np.diag(featurizer.layout.penalty_D[at])
    weights_DK = cho_solve(cho_factor(matrix_DD, lower=True), statistics.right_hand_side()[at])
    return np.asarray(featurizer.head_inputs(rows, range(len(rows)), pattern) @ weights_DK)
