"""Train the heads of a new model line on top of a public backbone. It chooses every constant on public rows."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mbd.backbones.base import Backbone
from mbd.cohort.cohort import Cohort, Partition, Split, Task
from mbd.cohort.piecewise import PiecewiseCohort
from mbd.errors import TrainingError
from mbd.lattice.featurizer import Featurizer
from mbd.lattice.layout import INDICATOR_PENALTY
from mbd.lattice.model import LatticeModel
from mbd.lattice.provenance import ENTANGLED, LATTICE
from mbd.lattice.release import ReleasePolicy, release_heads
from mbd.lattice.selection import PenaltyRule, select_penalties
from mbd.lattice.statistics import Statistics
from mbd.lattice.towers import Trained, part_of
from mbd.privacy.noise import NoiseSource


@dataclass(frozen=True)
class Line:
    """What a model line's networks are, beside the weights of its backbone.

    Attributes:
        entangled: whether revocable rows shaped the backbone.
        towers: networks of one channel each, by name.
        recipe: of all of them, as JSON.
        seed: of their training.
        shard_key: the secret that puts people into shards.
    """

    entangled: bool = False
    towers: Mapping[str, Trained] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    shard_key: bytes = field(default=b"", repr=False)

    @property
    def provenance(self) -> dict[str, str]:
        """Where the numbers of each part of the line's models come from."""
        towers = {part_of(name): made.origin.provenance.value for name, made in self.towers.items()}
        return (ENTANGLED if self.entangled else LATTICE) | towers


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
    line: Line | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> LatticeModel:
    """Constants and penalties from public rows, exact statistics of all training rows, released heads.

    Args:
        backbone: trained on this cohort, on its public partition alone unless ``line`` says otherwise.
        cohort: all splits; test rows count nowhere. Its public rows are held in memory, the others pass in pieces.
        policy: the line's public constants; ``heads`` is set here.
        noise: the committed stream.
        purpose: binds the noise to this occasion.
        salt: 32 fresh random bytes, for the statistics' commitment.
        rule: how penalties are chosen; None is the rule that we ship.
        indicator_penalty: see `Layout`.
        line: what else the line has, and how its networks were made; None is a public backbone and no towers.
        on_progress: called with the finished fraction.

    Raises:
        TrainingError: cross-entropy heads for labels that are not classes.
        CohortError: too few public people, or none with some combination of channels.
        NotCertifiedError: a head's residual stayed above tau; nothing was released.
    """
    line = line or Line()
    task, public = cohort.head.task, cohort.where(partition=Partition.PUBLIC)
    if policy.loss == "cross-entropy" and task.kind != "classification":
        raise TrainingError(
            "Cross-entropy heads predict classes, and this cohort's labels are scores.",
            remedy='leave `heads = "squared"` in the recipe',
        )
    known = training_rows(public)
    featurizer = select_penalties(Featurizer.fit(backbone, known), public, rule=rule, on_progress=on_progress)
    featurizer = featurizer.with_layout(replace(featurizer.layout, indicator_penalty=indicator_penalty))
    if line.towers:
        featurizer = featurizer.with_towers({name: made.tower for name, made in line.towers.items()}, known)
    statistics = sum_pieces(featurizer, task, cohort.pieces())
    patterns = featurizer.layout.patterns
    policy = replace(policy, heads=len(patterns))
    rows = featurizer.head_rows(cohort.where(split=Split.TRAIN), salt=salt) if policy.loss == "cross-entropy" else None
    released = release_heads(
        featurizer.layout,
        statistics,
        patterns,
        policy=policy,
        noise=noise,
        purpose=purpose,
        commitment=statistics.commitment(salt),
        rows=rows,
    )
    return LatticeModel(
        task,
        featurizer,
        statistics,
        salt,
        released.heads,
        policy,
        provenance=line.provenance,
        origins={name: made.origin for name, made in line.towers.items()},
        recipe=line.recipe,
        seed=line.seed,
        shard_key=line.shard_key,
    )
