"""Train the heads of a new model line on top of a public backbone. It chooses every constant on public rows."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from mbd.backbones.base import Backbone
from mbd.cohort.cohort import Cohort, Partition, Split, Task
from mbd.cohort.piecewise import PiecewiseCohort
from mbd.lattice.featurizer import Featurizer
from mbd.lattice.layout import INDICATOR_PENALTY
from mbd.lattice.model import LatticeModel
from mbd.lattice.release import ReleasePolicy, release_heads
from mbd.lattice.selection import PenaltyRule, select_penalties
from mbd.lattice.statistics import Statistics
from mbd.privacy.noise import NoiseSource


def training_rows(cohort: Cohort) -> Cohort:
    """The rows that statistics are made of: the split ``train``, public and revocable."""
    return cohort.where(split=Split.TRAIN)


def sum_pieces(featurizer: Featurizer, task: Task, pieces: Iterable[Cohort]) -> Statistics:
    """The statistics of the training rows of all pieces; zero for no piece at all.

    Raises:
        ExactnessError: the sums could reach 2^53; checked before each sum.
    """
    total = Statistics.zero(featurizer.grid, featurizer.layout.width, task.outputs)
    for piece in pieces:
        total += featurizer.statistics(training_rows(piece))
    return total


def fit_lattice(
    backbone: Backbone,
    cohort: PiecewiseCohort,
    *,
    policy: ReleasePolicy,
    noise: NoiseSource,
    purpose: str,
    salt: bytes,
    rule: PenaltyRule | None = None,
    indicator_penalty: float = INDICATOR_PENALTY,
    on_progress: Callable[[float], None] | None = None,
) -> LatticeModel:
    """Constants and penalties from public rows, exact statistics of all training rows, released heads.

    Args:
        backbone: trained on the public partition of this cohort.
        cohort: all splits; test rows count nowhere. Its public rows are held in memory, the others pass in pieces.
        policy: the line's public constants; ``heads`` is set here.
        noise: the committed stream.
        purpose: binds the noise to this occasion.
        salt: 32 fresh random bytes, for the statistics' commitment.
        rule: how penalties are chosen; None is the rule that we ship.
        indicator_penalty: see `Layout`.
        on_progress: called with the finished fraction.
    """
    task, public = cohort.head.task, cohort.where(partition=Partition.PUBLIC)
    featurizer = select_penalties(
        Featurizer.fit(backbone, training_rows(public)), public, rule=rule, on_progress=on_progress
    )
    featurizer = featurizer.with_layout(replace(featurizer.layout, indicator_penalty=indicator_penalty))
    statistics = sum_pieces(featurizer, task, cohort.pieces())
    patterns = featurizer.layout.patterns
    policy = replace(policy, heads=len(patterns))
    released = release_heads(
        featurizer.layout,
        statistics,
        patterns,
        policy=policy,
        noise=noise,
        purpose=purpose,
        commitment=statistics.commitment(salt),
    )
    return LatticeModel(task, featurizer, statistics, salt, released.heads, policy)
