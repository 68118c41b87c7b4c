"""Deletion from a line whose backbone everybody's rows shaped: the backbone first, then statistics and heads from D'.

- ``retrain``: the same recipe and seed on D': exact, and as dear as training.
- ``noisy-fine-tuning``: certified, or refused where the noise leaves too little.
- ``surgical``: the published update of the MBD paper: empirical, never an epsilon.

Whatever the backbone becomes, constants of its embeddings, statistics and heads are made anew from it and D', with
fresh noise: what they prove together is what the backbone proves. Source: docs/guarantees.md, Claims 6 and 7.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from mbd.backbones.base import Backbone
from mbd.cohort.cohort import EVERYONE, Cohort
from mbd.deletion.noisy_finetuning import ASSUMPTIONS, NoisyFineTuning, fine_tune
from mbd.deletion.outcome import EntangledMechanism, Outcome, Revocation
from mbd.deletion.retrain import RETRAIN_EQUALITY, SELECTION_EQUALITY, retrain
from mbd.deletion.surgical import Surgical, operate
from mbd.errors import DeletionError
from mbd.lattice.fit import Line, fit_lattice, training_rows
from mbd.lattice.model import LatticeModel
from mbd.lattice.release import Released
from mbd.privacy.gaussian import mu_of
from mbd.privacy.guarantee import Certified, Empirical, Exact, Guarantee, weakest
from mbd.privacy.noise import NoiseSource
from mbd.training.loop import OnProgress
from mbd.training.recipe import Recipe

_Options = TypeVar("_Options", NoisyFineTuning, Surgical)

STAGE_TWO_EQUALITY = (
    "constants of embeddings, statistics and heads: made from D' and the backbone from the start, with fresh noise"
)


@dataclass(frozen=True)
class Remaining:
    """D', as an entangled line trains on it.

    Attributes:
        cohort: without the revoked channels; a modality that left for everyone is nobody's, public people's neither.
        rows_touched: training rows that lost a channel or left.
    """

    cohort: Cohort
    rows_touched: int


def remaining(model: LatticeModel, cohort: Cohort, revocation: Revocation) -> Remaining:
    """D' and how much of the training rows it lacks.

    Raises:
        DeletionError: no modality would be left.
    """
    closure = cohort.closure(revocation.pairs)
    everyones = {modality for subject, modality in closure if subject == EVERYONE}
    left = [modality for modality in model.layout.modalities if modality not in everyones]
    if not left:
        raise DeletionError(
            "Withdrawing this for everyone would leave the model line without a single channel.",
            remedy="leave one modality, or take the line out of service: a model of nothing cannot be certified",
        )
    after = cohort.without(closure).restrict(left)
    kept = {row.clip: after.present(i) for i, row in enumerate(after.rows)}
    train = training_rows(cohort.restrict(model.layout.modalities))
    touched = sum(kept.get(row.clip) != train.present(i) for i, row in enumerate(train.rows))
    return Remaining(after, touched)


def delete_entangled(
    model: LatticeModel,
    cohort: Cohort,
    revocation: Revocation,
    *,
    mechanism: EntangledMechanism,
    noise: NoiseSource,
    purpose: str,
    salt: bytes,
    on_progress: OnProgress | None = None,
    checkpoint_dir: Path | None = None,
) -> Outcome:
    """Make the backbone forget by this mechanism, and everything above it anew.

    Args:
        model: the live version; its backbone is entangled.
        cohort: D.
        revocation: what is withdrawn.
        mechanism: one of the three.
        noise: the committed stream.
        purpose: names request, model line and version to come; binds the noise to them.
        salt: 32 fresh random bytes, of the new version.
        on_progress: told about each epoch of a retraining.
        checkpoint_dir: where a killed retraining goes on from.

    Raises:
        DeletionError: noisy fine-tuning left too little, or the surgical update has nothing to measure.
        TrainingError: D' has no rows to train or select on.
    """
    rest = remaining(model, cohort, revocation)
    recipe = Recipe.from_json(model.recipe)
    backbone: Backbone
    guarantee: Guarantee
    report: Mapping[str, Any]
    match mechanism:
        case "retrain":
            made = retrain(recipe, rest.cohort, seed=model.seed, on_progress=on_progress, checkpoint_dir=checkpoint_dir)
            backbone, guarantee, report = made.backbone, made.guarantee, made.transcript.to_json()
        case "noisy-fine-tuning":
            backbone, guarantee, report = fine_tune(
                model.featurizer.backbone,
                rest.cohort,
                noise=noise,
                purpose=purpose,
                seed=model.seed,
                options=fine_tuning_options(recipe),
            )
        case "surgical":
            backbone, guarantee, report = operate(
                model.featurizer.backbone,
                cohort,
                cohort.closure(revocation.pairs),
                noise=noise,
                purpose=purpose,
                options=surgical_options(recipe),
            )
    after = fit_lattice(
        backbone,
        rest.cohort,
        policy=model.policy,
        noise=noise,
        purpose=purpose,
        salt=salt,
        indicator_penalty=model.layout.indicator_penalty,
        line=Line(entangled=True, recipe=model.recipe, seed=model.seed),
    )
    above = Exact((STAGE_TWO_EQUALITY,))
    return Outcome(
        model=after,
        mechanism=mechanism,
        guarantee=weakest([guarantee, above]) if isinstance(guarantee, Exact | Certified) else guarantee,
        updated=after.layout.patterns,
        unchanged=(),
        dropped=tuple(pattern for pattern in model.layout.patterns if pattern not in after.layout.patterns),
        rows_touched=rest.rows_touched,
        released=Released(heads=after.heads),
        report=report,
    )


def fine_tuning_options(recipe: Recipe) -> NoisyFineTuning | None:
    """The line's constants of noisy fine-tuning, or None where the defaults hold.

    Raises:
        DeletionError: a name that is none of them, or an impossible value.
    """
    return _options(NoisyFineTuning, recipe.noisy_fine_tuning, "noisy_fine_tuning")


def surgical_options(recipe: Recipe) -> Surgical | None:
    """The line's constants of the surgical update, likewise."""
    return _options(Surgical, recipe.surgical, "surgical")


def _options(kind: type[_Options], given: Mapping[str, Any], table: str) -> _Options | None:
    names = [field.name for field in fields(kind)]
    unknown = sorted(set(given) - set(names))
    try:
        made = TypeAdapter(kind).validate_python(dict(given)) if not unknown else None
    except ValidationError as error:
        unknown = ["; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())]
        made = None
    if made is None:
        raise DeletionError(
            f"The recipe's table {table} is not one: {', '.join(unknown)}.",
            remedy=f"use only {', '.join(names)}, each with a value of its type",
        )
    return made if given else None


def planned_guarantee(mechanism: EntangledMechanism, recipe: Recipe) -> Guarantee:
    """What a mechanism gives when it is not refused; what the surgical update measures is not known beforehand."""
    match mechanism:
        case "retrain":
            return Exact((RETRAIN_EQUALITY, SELECTION_EQUALITY, STAGE_TWO_EQUALITY))
        case "noisy-fine-tuning":
            options = fine_tuning_options(recipe) or NoisyFineTuning()
            return Certified(mu_of(options.epsilon, options.delta), ASSUMPTIONS)
        case "surgical":
            return Empirical({})


def guarantee_class(mechanism: EntangledMechanism) -> str:
    """The class that a mechanism gives when it is not refused."""
    return str(planned_guarantee(mechanism, Recipe()).name)
