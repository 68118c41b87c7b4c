"""The engine: for every part of a model the best mechanism that its provenance permits, or a refusal.

A part is what one file of a model version holds; its provenance was written down when it was made. The class of the
whole is the weakest of its parts (`mbd.privacy.guarantee.weakest`), and a part without a mechanism means no deletion
and no certificate. `plan` says what `delete` would do, and changes nothing. It solves nothing itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mbd.cohort.cohort import Cohort
from mbd.cohort.modality import pattern_name
from mbd.deletion import lattice
from mbd.deletion.entangled import Remaining, delete_entangled, guarantee_class, planned_guarantee, remaining
from mbd.deletion.lattice import Downdated
from mbd.deletion.outcome import EntangledMechanism, HeadMechanism, Mechanism, Outcome, Revocation
from mbd.deletion.towers import ever_departed
from mbd.errors import NoMechanismError
from mbd.lattice.fit import training_rows
from mbd.lattice.model import LatticeModel
from mbd.lattice.provenance import ENTANGLED, LATTICE, Provenance
from mbd.lattice.towers import Private, part_of
from mbd.privacy.gaussian import compose, mu_of
from mbd.privacy.guarantee import Certified, Guarantee, epsilon_at
from mbd.privacy.noise import NoiseSource
from mbd.training.loop import OnProgress
from mbd.training.recipe import Recipe


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


def plan(
    model: LatticeModel,
    cohort: Cohort,
    revocation: Revocation,
    *,
    spent: Sequence[float],
    entangled: EntangledMechanism = "retrain",
) -> Plan:
    """What `delete` would do with the same arguments; nothing is solved, drawn or changed.

    Raises:
        NoMechanismError: a part of the model has a provenance for which there is no mechanism.
        DeletionError: see `mbd.deletion.lattice.downdated`.
    """
    require_mechanisms(model)
    if _is_entangled(model):
        rest = remaining(model, cohort, revocation)
        if _backbone_changes(model, rest):
            return _plan_of_entangled(model, rest, spent, entangled)
    down = lattice.downdated(model, cohort, revocation, spent=spent)
    mechanism = _choose(model, down, spent)
    guarantee = lattice.guarantee_of(mechanism, [model.policy.head_mu] * len(down.changed), down)
    return Plan(
        mechanism=mechanism,
        guarantee=guarantee,
        steps=tuple(_steps(model, down, mechanism)),
        rows_touched=down.rows_touched,
        rows_read=len(down.after) if _reads_all_rows(model, down, mechanism) else down.rows_touched,
        budget=_budget(model, down.kept, guarantee, spent),
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
    entangled: EntangledMechanism = "retrain",
    on_progress: OnProgress | None = None,
    checkpoint_dir: Path | None = None,
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
        entangled: what is done to a backbone that everybody's rows shaped, should the line have one.
        on_progress: told about each epoch, should a backbone be trained again.
        checkpoint_dir: where such a training goes on from when it was killed.

    Raises:
        NoMechanismError: a part of the model has a provenance for which there is no mechanism.
        DeletionError: a refit found that the model's statistics are not those of the cohort's training rows, or noisy
            fine-tuning left too little.
        NotCertifiedError: a head's residual stayed above tau; nothing was released.
    """
    require_mechanisms(model)
    purpose = f"{occasion}/{revocation.digest}"
    if _is_entangled(model) and _backbone_changes(model, remaining(model, cohort, revocation)):
        return delete_entangled(
            model,
            cohort,
            revocation,
            mechanism=entangled,
            noise=noise,
            purpose=purpose,
            salt=salt,
            on_progress=on_progress,
            checkpoint_dir=checkpoint_dir,
        )
    down = lattice.downdated(model, cohort, revocation, spent=spent)
    return lattice.release(model, down, mechanism=_choose(model, down, spent), noise=noise, purpose=purpose, salt=salt)


def require_mechanisms(model: LatticeModel) -> None:
    """Fail closed: every part that the model has must have a provenance for which there is a mechanism."""
    expected = ENTANGLED if _is_entangled(model) else LATTICE
    expected = expected | {part_of(name): origin.provenance.value for name, origin in model.origins.items()}
    for part, wanted in expected.items():
        found = model.provenance.get(part)
        if found != wanted:
            known = "none on record" if found is None else f"'{found}'"
            raise NoMechanismError(
                f"The {part} of this model must be {wanted} for a deletion to prove anything, and its provenance "
                f"is {known}.",
                remedy="train a new line with `mbd train`: what it trains has a provenance on record",
            )
    towers = {part_of(name) for name in model.featurizer.towers}
    if extra := sorted((set(model.provenance) | towers) - set(expected)):
        raise NoMechanismError(
            f"This model has parts for which there is no mechanism: {', '.join(extra)}.",
            remedy="use the version of this program that made it, or train a new line with `mbd train`",
        )


def _is_entangled(model: LatticeModel) -> bool:
    return model.provenance.get("backbone") == Provenance.ENTANGLED


def _backbone_changes(model: LatticeModel, rest: Remaining) -> bool:
    """Whether a backbone that everybody shaped saw anything that is withdrawn."""
    return bool(rest.rows_touched) or rest.cohort.modalities != model.layout.modalities


def _reads_all_rows(model: LatticeModel, down: Downdated, mechanism: HeadMechanism) -> bool:
    return mechanism == "lattice-refit" or (model.policy.loss == "cross-entropy" and bool(down.changed))


def _choose(model: LatticeModel, down: Downdated, spent: Sequence[float]) -> HeadMechanism:
    if not down.changed:
        return "lattice-drop"
    if down.towers.dropped:
        return "tower-drop"
    if _few_rows(model, down) or not _fits_budget(model, down, spent):
        return "lattice-refit"
    return "lattice-newton"


def _few_rows(model: LatticeModel, down: Downdated) -> bool:
    """Whether the line's policy lets a deletion read every row again, which proves more and spends nothing."""
    return down.statistics.rows <= model.policy.exact_rows


def _fits_budget(model: LatticeModel, down: Downdated, spent: Sequence[float]) -> bool:
    policy = model.policy
    mus = [*spent, *[policy.head_mu] * len(down.changed)]
    if accounts := ever_departed(down.kept.origins, down.kept.retired):
        return epsilon_at(policy.delta, mus, accounts) <= policy.budget_epsilon
    return compose(mus) <= mu_of(policy.budget_epsilon, policy.delta)


def _steps(model: LatticeModel, down: Downdated, mechanism: HeadMechanism) -> list[Step]:
    origin = model.provenance
    public = "It was made from people who cannot revoke."
    if _is_entangled(model):
        public = "No training row held what is withdrawn."
    steps = [Step(part, origin[part], "kept", None, "exact", 0, public) for part in ("backbone", "constants")]
    steps += [_tower_step(name, model, down) for name in model.origins]
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
            why = "Its statistics change." if pattern in down.kept.heads else "It used a tower that goes."
            steps.append(Step(part, made, "released again", mechanism, proves, width, why))
        else:
            steps.append(Step(part, made, "kept", None, "exact", 0, "Its statistics are the same bits."))
    return steps


def _tower_step(name: str, model: LatticeModel, down: Downdated) -> Step:
    """What becomes of one tower."""
    part, made = part_of(name), model.origins[name].provenance.value
    now = down.kept.origins.get(name)
    if name in down.towers.dropped:
        why = "Somebody who trained it withdraws its channel; it comes back trained without them."
        if isinstance(model.origins[name], Private):
            why = "With this person gone its account would pass the line's budget; it comes back trained anew."
        return Step(part, made, "dropped", "tower-drop", "exact", 0, why)
    if now is None:
        return Step(part, made, "dropped", "lattice-drop", "exact", 0, "Its modality leaves for everyone.")
    if isinstance(now, Private) and now.departed:
        why = f"Its differential privacy covers the {now.departed} people who have left it."
        return Step(part, made, "kept", None, "certified", 0, why)
    return Step(part, made, "kept", None, "exact", 0, "Nobody who trained it withdraws its channel.")


def _plan_of_entangled(
    model: LatticeModel, rest: Remaining, spent: Sequence[float], mechanism: EntangledMechanism
) -> Plan:
    """The backbone by this mechanism, and everything above it anew."""
    proves = guarantee_class(mechanism)
    made = {part: model.provenance[part] for part in ENTANGLED}
    what = {"retrain": "trained again", "noisy-fine-tuning": "fine-tuned", "surgical": "operated on"}[mechanism]
    above = "Made from D' and the backbone, from the start."
    steps = [
        Step("backbone", made["backbone"], what, mechanism, proves, 0, "Everybody's rows shaped it."),
        Step("constants", made["constants"], "made anew", mechanism, proves, 0, above),
        Step("statistics", made["statistics"], "made anew", mechanism, proves, 0, above),
    ]
    for pattern in model.layout.patterns:
        width = len(model.layout.coordinates(pattern))
        step = Step(f"head {pattern_name(pattern)}", made["heads"], "released again", mechanism, proves, width, above)
        if not pattern <= frozenset(rest.cohort.modalities):
            step = replace(step, action="dropped", coordinates=0, reason="Its modality leaves for everyone.")
        steps.append(step)
    guarantee = planned_guarantee(mechanism, Recipe.from_json(model.recipe))
    return Plan(
        mechanism=mechanism,
        guarantee=guarantee,
        steps=tuple(steps),
        rows_touched=rest.rows_touched,
        rows_read=len(training_rows(rest.cohort)),
        budget=_budget(model, model, guarantee, spent),
        alternatives=tuple(
            Alternative(other, guarantee_class(other), len(training_rows(rest.cohort)), why)
            for other, why in _INSTEAD.items()
            if other != mechanism
        ),
    )


_INSTEAD: dict[EntangledMechanism, str] = {
    "retrain": "It costs as much as training. MBD_ENTANGLED=retrain takes it.",
    "noisy-fine-tuning": "It is refused where the noise leaves too little. MBD_ENTANGLED=noisy-fine-tuning takes it.",
    "surgical": "It proves nothing: the certificate has no epsilon. MBD_ENTANGLED=surgical takes it.",
}


def _alternatives(
    model: LatticeModel, down: Downdated, mechanism: HeadMechanism, spent: Sequence[float]
) -> tuple[Alternative, ...]:
    mus = [model.policy.head_mu] * len(down.changed)
    if mechanism == "lattice-newton":
        proves = lattice.guarantee_of("lattice-refit", mus, down).name
        reason = "It reads every row again; it is taken when the line's budget is used up, or on up to MBD_EXACT_ROWS."
        return (Alternative("lattice-refit", proves, len(down.after), reason),)
    if mechanism == "lattice-refit":
        reason = "It proves less." if _fits_budget(model, down, spent) else "It would pass the line's budget."
        return (Alternative("lattice-newton", "certified", down.rows_touched, reason),)
    return ()


def _budget(model: LatticeModel, kept: LatticeModel, guarantee: Guarantee, spent: Sequence[float]) -> Budget:
    policy = model.policy
    this = guarantee if isinstance(guarantee, Certified) else None
    return Budget(
        delta=policy.delta,
        spent=epsilon_at(policy.delta, spent, ever_departed(model.origins, model.retired)),
        this=epsilon_at(policy.delta, [this.mu], this.departed) if this else 0.0,
        after=epsilon_at(policy.delta, [*spent, this.mu] if this else spent, ever_departed(kept.origins, kept.retired)),
        allowed=policy.budget_epsilon,
    )
