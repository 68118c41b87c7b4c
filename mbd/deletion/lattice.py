"""Deletion from a lattice model: drop, Newton or refit. Which of them, `mbd.deletion.engine` decides.

- ``lattice-drop``: no head needs new weights. A modality left for everyone, so its blocks and heads go and the others
  already exist; or no training row held the channel: exact.
- ``lattice-newton``: statistics are downdated exactly, changed heads move from their released weights by certified
  Newton steps and take fresh noise: certified.
- ``lattice-refit``: the same statistics, recomputed from D' and solved from nothing with fresh noise. The release is
  a function of D', public constants and noise that nothing else depends on: exact. It is chosen when the Newton
  path would pass the line's budget.
- ``tower-drop``: a tower goes with the coordinates that it made, and the heads that used it are solved from nothing on
  what is left of the downdated statistics: exact, at once. Private towers that stay make any of these certified.

Source: docs/guarantees.md, Claims 2 to 5, 8 and 9.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from mbd.cohort.cohort import EVERYONE, Cohort, Pair
from mbd.cohort.modality import Modality, ModalitySet
from mbd.deletion.downdate import changed_heads, downdate, drop_blocks
from mbd.deletion.outcome import HeadMechanism, Outcome, Revocation
from mbd.deletion.towers import Touched, departed, drop_towers, touched
from mbd.errors import DeletionError
from mbd.lattice.cross_entropy import ASSUMPTIONS as ASSUMPTIONS_OF_ROWS
from mbd.lattice.fit import training_rows
from mbd.lattice.model import LatticeModel
from mbd.lattice.provenance import Provenance
from mbd.lattice.release import release_heads
from mbd.lattice.statistics import Statistics
from mbd.lattice.towers import Sharded, part_of, retired
from mbd.privacy.guarantee import Certified, Exact, Guarantee, weakest
from mbd.privacy.noise import NoiseSource

ASSUMPTIONS = (
    "The backbone and every feature constant were made from public rows alone.",
    "The noise secret stays secret: the Gaussian is ChaCha20 output under it, taken as random.",
    "Each noise number, from 129 random bits in float64, is taken as a Gaussian rounded to a grid 2^-28 of sigma.",
    "Features of withdrawn rows were computed again by the libraries and kind of processor that computed them first.",
    "Features and labels were rounded to the grid before anything else was computed from them.",
)
STATISTICS_EQUALITY = "statistics (G', c', n') = those of D' computed from scratch, bit for bit"
PUBLIC_EQUALITY = "backbone and feature constants: functions of public rows alone, the same bits as before"
UNCHANGED_EQUALITY = "heads without the revoked channels: their statistics, and so their weights, are the same bits"
REFIT_EQUALITY = "updated heads: solved from nothing on (G', c'), with fresh noise of the comparator's own scale"
UNTOUCHED_EQUALITY = "backbone and feature constants: they read nothing that is withdrawn, the same bits as before"
TOWER_EQUALITY = "sharded towers that remain: none of them read anything that is withdrawn, the same bits as before"
UNCHANGED_ROWS_EQUALITY = "heads without the revoked channels: no row that they are solved on changed, nor did they"
REFIT_ROWS_EQUALITY = (
    "updated heads: solved from nothing on the rows of D' in their order, with fresh noise of the comparator's scale"
)
TOWER_ASSUMPTIONS = (
    "Poisson draws and noise of private towers are ChaCha20 output under the noise secret, taken as random.",
    "Who left a private tower was settled without a look at the tower.",
    "The constants of a private tower's training were chosen without revocable rows.",
    "A person's gradient has the same bits whenever it is computed, and the accountant rounds as it says.",
)


@dataclass(frozen=True)
class Downdated:
    """A model whose statistics have left the revoked channels, and whose heads have not been released again yet.

    Attributes:
        kept: the model without the modalities that left for everyone; statistics and heads as they were.
        cohort: D.
        closure: what is withdrawn, and what falls with it.
        statistics: of D', bit for bit.
        changed: the heads whose statistics differ in any bit, or that have lost a tower.
        rows_touched: how many rows changed or left.
        towers: what the withdrawal does to the towers.
    """

    kept: LatticeModel
    cohort: Cohort
    closure: frozenset[Pair]
    statistics: Statistics
    changed: tuple[ModalitySet, ...]
    rows_touched: int
    towers: Touched

    @cached_property
    def after(self) -> Cohort:
        """All training rows of D'. Everyone's rows are looked at, so only a refit asks for it."""
        return training_rows(self.cohort).restrict(self.kept.layout.modalities).without(self.closure)


def downdated(model: LatticeModel, cohort: Cohort, revocation: Revocation, *, spent: Sequence[float]) -> Downdated:
    """Take the revoked channels out of the statistics, exactly, and the towers out of which they cannot be taken.

    Raises:
        DeletionError: no modality would be left.
    """
    closure = cohort.closure(revocation.pairs)
    kept = drop_for_everyone(model, frozenset(m for subject, m in closure if subject == EVERYONE))
    rows = training_rows(_concerned(cohort, closure)).restrict(kept.layout.modalities)
    after = rows.without(closure)
    towers = touched(kept, rows, after, spent=spent, heads=len(kept.layout.patterns))
    kept = replace(drop_towers(kept, towers.dropped), origins=towers.origins)
    down = downdate(kept.featurizer, kept.statistics, rows, after)
    differ = changed_heads(kept.layout, kept.statistics, down.statistics)
    if kept.policy.loss == "cross-entropy":  # equal statistics do not make equal heads: whose rows changed, changes
        differ = tuple(p for p in kept.layout.patterns if any(block <= p for block in down.fallen))
    changed = tuple(p for p in kept.layout.patterns if p in differ or p not in kept.heads)
    return Downdated(kept, cohort, closure, down.statistics, changed, down.rows_touched, towers)


def release(
    model: LatticeModel, down: Downdated, *, mechanism: HeadMechanism, noise: NoiseSource, purpose: str, salt: bytes
) -> Outcome:
    """Release the changed heads again, by this mechanism, and say what it proves.

    Raises:
        DeletionError: a refit found that the model's statistics are not those of the cohort's training rows.
        NotCertifiedError: a head's residual stayed above tau; nothing was released.
    """
    kept = down.kept
    if mechanism == "lattice-refit" and kept.featurizer.statistics(down.after) != down.statistics:
        raise DeletionError(
            "The live statistics are not those of the cohort's training rows: recomputing them gave other bits.",
            remedy="find the damaged state with `mbd certificate replay`, then train the line again from the cohort",
        )
    needs_rows = kept.policy.loss == "cross-entropy" and bool(down.changed)
    released = release_heads(
        kept.layout,
        down.statistics,
        down.changed,
        policy=model.policy,
        noise=noise,
        purpose=purpose,
        commitment=down.statistics.commitment(salt),
        start=kept.heads if mechanism == "lattice-newton" else None,
        rows=kept.featurizer.head_rows(down.after, salt=salt) if needs_rows else None,
    )
    return Outcome(
        model=replace(kept, statistics=down.statistics, salt=salt, heads={**kept.heads, **released.heads}),
        mechanism=mechanism,
        guarantee=guarantee_of(mechanism, [head.mu for head in released.heads.values()], down),
        updated=down.changed,
        unchanged=tuple(pattern for pattern in kept.layout.patterns if pattern not in down.changed),
        dropped=tuple(pattern for pattern in model.layout.patterns if pattern not in kept.layout.patterns),
        rows_touched=down.rows_touched,
        released=released,
        towers=tuple(sorted(set(model.origins) - set(kept.origins))),
    )


def drop_for_everyone(model: LatticeModel, modalities: frozenset[Modality]) -> LatticeModel:
    """The model without the blocks and heads of these modalities; no row is read.

    Raises:
        DeletionError: nothing would be left.
    """
    if not modalities:
        return model
    layout = model.layout.without(modalities)
    if not layout.blocks:
        raise DeletionError(
            "Withdrawing this for everyone would leave the model line without a single channel.",
            remedy="leave one modality, or take the line out of service: a model of nothing cannot be certified",
        )
    statistics = drop_blocks(model.statistics, model.layout, layout)
    gone = set(model.origins) - set(layout.towers)
    return replace(
        model,
        featurizer=model.featurizer.with_layout(layout),
        statistics=statistics,
        heads={pattern: model.heads[pattern] for pattern in layout.patterns},
        origins={name: origin for name, origin in model.origins.items() if name not in gone},
        retired=retired(model.retired, model.origins, gone),
        provenance={part: value for part, value in model.provenance.items() if part not in map(part_of, gone)},
    )


def _concerned(cohort: Cohort, closure: frozenset[Pair]) -> Cohort:
    """All rows in which D and D' can differ, once the blocks of modalities that left for everyone are gone.

    They are the rows of the people named; and everybody's, where a label falls with a modality that left for everyone.
    """
    if any(subject == EVERYONE and cohort.label_falls({modality}) for subject, modality in closure):
        return cohort
    return cohort.of_subjects(subject for subject, _ in closure)


def guarantee_of(mechanism: HeadMechanism, mus: Sequence[float], down: Downdated) -> Guarantee:
    """The class of the whole: public parts, statistics and unchanged heads are exact, the rest is as released.

    Args:
        mechanism: how the changed heads are released.
        mus: one for each of them.
        down: the model without the revoked channels; private towers that stay make the whole certified.
    """
    public = down.kept.provenance["backbone"] == Provenance.PUBLIC
    backbone = PUBLIC_EQUALITY if public else UNTOUCHED_EQUALITY
    towers = (TOWER_EQUALITY,) if any(isinstance(o, Sharded) for o in down.kept.origins.values()) else ()
    on_rows = down.kept.policy.loss == "cross-entropy"
    unchanged = UNCHANGED_ROWS_EQUALITY if on_rows else UNCHANGED_EQUALITY
    parts: list[Guarantee] = [Exact((backbone, STATISTICS_EQUALITY, unchanged, *towers))]
    match mechanism:
        case "lattice-drop":
            pass
        case "lattice-refit" | "tower-drop":
            parts.append(Exact((REFIT_ROWS_EQUALITY if on_rows else REFIT_EQUALITY,)))
        case "lattice-newton":
            parts += [Certified(mu, (*ASSUMPTIONS, *(ASSUMPTIONS_OF_ROWS if on_rows else ()))) for mu in mus]
    if left := departed(down.kept.origins):  # whoever asks now: the tower still remembers those who left it before
        parts.append(Certified(0.0, (*ASSUMPTIONS, *TOWER_ASSUMPTIONS), left))
    return weakest(parts)
