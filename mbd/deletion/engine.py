"""The engine: for every part of a model the best mechanism that its provenance permits, or a refusal.

A part is what one file of a model version holds; its provenance was written down when it was made. The class of the
whole is the weakest of its parts (`mbd.privacy.guarantee.weakest`), and a part without a mechanism means no deletion
and no certificate. `plan` says what `delete` would do, and changes nothing. It solves nothing itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mbd.cohort.cohort import Cohort
from mbd.cohort.modality import pattern_name
from mbd.deletion import lattice
from mbd.deletion.lattice import Downdated
from mbd.deletion.outcome import Mechanism, Outcome, Revocation
from mbd.errors import NoMechanismError
from mbd.lattice.model import LatticeModel
from mbd.lattice.provenance import LATTICE
from mbd.privacy.gaussian import compose, epsilon_of, mu_of
from mbd.privacy.guarantee import Certified, Guarantee
from mbd.privacy.noise import NoiseSource


@dataclass(frozen=True)
class Step:
    """What becomes of one part of a model.

    Attributes:
        part: ``backbone``, ``constants``, ``statistics``, or ``head ta``.
        provenance: where its numbers come from.
        action: ``kept``, ``downdated``, ``released again`` or ``dropped``.
        mechanism: what does it; None where nothing has to be done.
        guarantee: the class that the part has afterwards.
        coordinates: how many the part has per output, where they are solved again.
        reason: why, in a sentence.
    """

    part: str
    provenance: str
    action: str
    mechanism: Mechanism | None
    guarantee: str
    coordinates: int
    reason: str


@dataclass(frozen=True)
class Alternative:
    """Another way to do the same, and why it is not taken."""

    mechanism: Mechanism
    guarantee: str
    rows_read: int
    reason: str


@dataclass(frozen=True)
class Budget:
    """Epsilon at ``delta`` of everything certified on the line: so far, of this deletion, after it, and allowed."""

    delta: float
    spent: float
    this: float
    after: float
    allowed: float


@dataclass(frozen=True)
class Plan:
    """What a deletion would do.

    Attributes:
        mechanism: of the whole.
        guarantee: of the whole: the weakest of the steps'.
        steps: one for each part, heads one by one.
        rows_touched: rows whose features are taken out of the statistics.
        rows_read: rows that have to be read for it.
        budget: what it costs; ``this`` is 0 where no budget is touched.
        alternatives: what else the provenances permit.
    """

    mechanism: Mechanism
    guarantee: Guarantee
    steps: tuple[Step, ...]
    rows_touched: int
    rows_read: int
    budget: Budget
    alternatives: tuple[Alternative, ...]


def plan(model: LatticeModel, cohort: Cohort, revocation: Revocation, *, spent: Sequence[float]) -> Plan:
    """What `delete` would do with the same arguments; nothing is solved, drawn or changed.

    Raises:
        NoMechanismError: a part of the model has a provenance for which there is no mechanism.
        DeletionError: see `mbd.deletion.lattice.downdated`.
    """
    require_mechanisms(model)
    down = lattice.downdated(model, cohort, revocation)
    mechanism = _choose(model, down, spent)
    guarantee = lattice.guarantee_of(mechanism, [model.policy.head_mu] * len(down.changed))
    return Plan(
        mechanism=mechanism,
        guarantee=guarantee,
        steps=tuple(_steps(model, down, mechanism)),
        rows_touched=down.rows_touched,
        rows_read=len(down.after) if mechanism == "lattice-refit" else down.rows_touched,
        budget=_budget(model, guarantee, spent),
        alternatives=_alternatives(model, down, mechanism, spent),
    )


def delete(
    model: LatticeModel,
    cohort: Cohort,
    revocation: Revocation,
    *,
    noise: NoiseSource,
    occasion: str,
    spent: Sequence[float],
    salt: bytes,
) -> Outcome:
    """Remove the revoked channels' influence from a model, by the best mechanism that its provenances permit.

    Args:
        model: the live version.
        cohort: D; its training rows are those whose statistics the model holds.
        revocation: what is withdrawn. Pairs that touch no training row change nothing: that is a result too.
        noise: the committed stream.
        occasion: the model line and the version to come; binds the noise to them.
        spent: mu of every certified deletion of this line so far.
        salt: 32 fresh random bytes, for the new version's commitment to its statistics.

    Raises:
        NoMechanismError: a part of the model has a provenance for which there is no mechanism.
        DeletionError: a refit found that the model's statistics are not those of the cohort's training rows.
        NotCertifiedError: a head's residual stayed above tau; nothing was released.
    """
    require_mechanisms(model)
    down = lattice.downdated(model, cohort, revocation)
    purpose = f"{occasion}/{revocation.digest}"
    return lattice.release(model, down, mechanism=_choose(model, down, spent), noise=noise, purpose=purpose, salt=salt)


def require_mechanisms(model: LatticeModel) -> None:
    """Fail closed: every part that the model has must have a provenance for which there is a mechanism."""
    for part, expected in LATTICE.items():
        found = model.provenance.get(part)
        if found != expected:
            known = "none on record" if found is None else f"'{found}'"
            raise NoMechanismError(
                f"The {part} of this model must be {expected} for a deletion to prove anything, and its provenance "
                f"is {known}.",
                remedy="train a new line with `mbd train`: its backbone sees public people alone",
            )
    if extra := sorted(set(model.provenance) - set(LATTICE)):
        raise NoMechanismError(
            f"This model has parts for which there is no mechanism: {', '.join(extra)}.",
            remedy="use the version of this program that made it, or train a new line with `mbd train`",
        )


def _choose(model: LatticeModel, down: Downdated, spent: Sequence[float]) -> Mechanism:
    if not down.changed:
        return "lattice-drop"
    if _few_rows(model, down) or not _fits_budget(model, down, spent):
        return "lattice-refit"
    return "lattice-newton"


def _few_rows(model: LatticeModel, down: Downdated) -> bool:
    """Whether the line's policy lets a deletion read every row again, which proves more and spends nothing."""
    return down.statistics.rows <= model.policy.exact_rows


def _fits_budget(model: LatticeModel, down: Downdated, spent: Sequence[float]) -> bool:
    policy = model.policy
    after_this = compose([*spent, *[policy.head_mu] * len(down.changed)])
    return after_this <= mu_of(policy.budget_epsilon, policy.delta)


def _steps(model: LatticeModel, down: Downdated, mechanism: Mechanism) -> list[Step]:
    origin = model.provenance
    public = "It was made from people who cannot revoke."
    steps = [Step(part, origin[part], "kept", None, "exact", 0, public) for part in ("backbone", "constants")]
    if down.rows_touched or down.kept.layout != model.layout:
        same = "Integers: the same bits as a recomputation without what is withdrawn."
        steps.append(Step("statistics", origin["statistics"], "downdated", None, "exact", 0, same))
    else:
        none = "No training row held what is withdrawn."
        steps.append(Step("statistics", origin["statistics"], "kept", None, "exact", 0, none))
    for pattern in model.layout.patterns:
        part, made = f"head {pattern_name(pattern)}", origin["heads"]
        if pattern not in down.kept.layout.patterns:
            steps.append(Step(part, made, "dropped", "lattice-drop", "exact", 0, "Its modality leaves for everyone."))
        elif pattern in down.changed:
            proves = "certified" if mechanism == "lattice-newton" else "exact"
            width = len(down.kept.layout.coordinates(pattern))
            steps.append(Step(part, made, "released again", mechanism, proves, width, "Its statistics change."))
        else:
            steps.append(Step(part, made, "kept", None, "exact", 0, "Its statistics are the same bits."))
    return steps


def _alternatives(
    model: LatticeModel, down: Downdated, mechanism: Mechanism, spent: Sequence[float]
) -> tuple[Alternative, ...]:
    if mechanism == "lattice-newton":
        reason = "It reads every row again; it is taken when the line's budget is used up, or on up to MBD_EXACT_ROWS."
        return (Alternative("lattice-refit", "exact", len(down.after), reason),)
    if mechanism == "lattice-refit":
        reason = "It proves less." if _fits_budget(model, down, spent) else "It would pass the line's budget."
        return (Alternative("lattice-newton", "certified", down.rows_touched, reason),)
    return ()


def _budget(model: LatticeModel, guarantee: Guarantee, spent: Sequence[float]) -> Budget:
    policy = model.policy
    this = [guarantee.mu] if isinstance(guarantee, Certified) else []
    return Budget(
        delta=policy.delta,
        spent=epsilon_of(compose(spent), policy.delta),
        this=epsilon_of(compose(this), policy.delta),
        after=epsilon_of(compose([*spent, *this]), policy.delta),
        allowed=policy.budget_epsilon,
    )
