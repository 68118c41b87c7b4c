"""Train the heads of a new model line on top of a public backbone. It chooses every constant on public rows."""

from collections.abc import Callable
from dataclasses import replace

from mbd.backbones.base import Backbone
from mbd.cohort.cohort import Cohort, Partition, Split
from mbd.lattice.featurizer import Featurizer
from mbd.lattice.layout import INDICATOR_PENALTY
from mbd.lattice.model import LatticeModel
from mbd.lattice.release import ReleasePolicy, release_heads
from mbd.lattice.selection import PenaltyRule, select_penalties
from mbd.privacy.noise import NoiseSource


def training_rows(cohort: Cohort) -> Cohort:
    """The rows that statistics are made of: the split ``train``, public and revocable."""
    return cohort.where(split=Split.TRAIN)


def fit_lattice(
    backbone: Backbone,
    cohort: Cohort,
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
        cohort: all splits; test rows are not read.
        policy: the line's public constants; ``heads`` is set here.
        noise: the committed stream.
        purpose: binds the noise to this occasion.
        salt: 32 fresh random bytes, for the statistics' commitment.
        rule: how penalties are chosen; None is the rule that we ship.
        indicator_penalty: see `Layout`.
        on_progress: called with the finished fraction.
    """
    public = cohort.where(partition=Partition.PUBLIC, split=Split.TRAIN)
    featurizer = select_penalties(Featurizer.fit(backbone, public), cohort, rule=rule, on_progress=on_progress)
    featurizer = featurizer.with_layout(replace(featurizer.layout, indicator_penalty=indicator_penalty))
    statistics = featurizer.statistics(training_rows(cohort))
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
    return LatticeModel(cohort.task, featurizer, statistics, salt, released.heads, policy)
