"""The engine: what a plan says is what a deletion does, and what has no mechanism is refused first."""

import dataclasses

import pytest

from mbd.cohort.cohort import EVERYONE, Split
from mbd.cohort.modality import Modality, pattern_name
from mbd.deletion.engine import delete, plan
from mbd.deletion.outcome import Revocation
from mbd.errors import NoMechanismError
from mbd.lattice.model import load_model, save_model
from mbd.lattice.provenance import LATTICE, Provenance
from mbd.privacy.gaussian import epsilon_of, mu_of
from mbd.privacy.guarantee import Certified, Exact
from mbd.privacy.noise import NoiseSource

AUDIO, TEXT = Modality.AUDIO, Modality.TEXT


def revocation(*pairs):
    return Revocation(frozenset(pairs), "ab" * 32)


def deleted(model, cohort, asked, spent=()):
    noise = NoiseSource(b"n" * 32)
    return delete(model, cohort, asked, noise=noise, occasion="line/2", spent=spent, salt=b"t" * 32)


def by_action(steps):
    heads = [step for step in steps if step.part.startswith("head ")]
    return {
        action: [step.part.removeprefix("head ") for step in heads if step.action == action]
        for action in ("released again", "kept", "dropped")
    }


@pytest.mark.parametrize("budget", ["new", "used up"])
@pytest.mark.parametrize("who", ["someone", "everyone", "a tester"])
def test_the_plan_is_what_delete_does(model, cohort, someone, who, budget):
    tester = next(row.subject for row in cohort.rows if row.split is Split.TEST)
    asked = revocation(({"someone": someone, "everyone": EVERYONE, "a tester": tester}[who], AUDIO))
    policy = model.policy
    spent = [] if budget == "new" else [mu_of(policy.budget_epsilon, policy.delta)]
    planned, outcome = plan(model, cohort, asked, spent=spent), deleted(model, cohort, asked, spent)
    assert planned.mechanism == outcome.mechanism
    assert planned.rows_touched == outcome.rows_touched
    assert type(planned.guarantee) is type(outcome.guarantee)
    names = {
        "released again": [pattern_name(p) for p in outcome.updated],
        "kept": [pattern_name(p) for p in outcome.unchanged],
        "dropped": [pattern_name(p) for p in outcome.dropped],
    }
    assert by_action(planned.steps) == names
    if isinstance(outcome.guarantee, Certified):
        assert planned.guarantee == outcome.guarantee
        assert planned.budget.this == epsilon_of(outcome.guarantee.mu, policy.delta)
    else:
        assert planned.budget.after == planned.budget.spent


def test_the_class_of_the_whole_is_the_weakest_of_its_steps(model, cohort, someone):
    certified = plan(model, cohort, revocation((someone, AUDIO)), spent=[])
    assert {step.guarantee for step in certified.steps} == {"exact", "certified"}
    assert isinstance(certified.guarantee, Certified)
    dropped = plan(model, cohort, revocation((EVERYONE, AUDIO)), spent=[])
    assert {step.guarantee for step in dropped.steps} == {"exact"}
    assert isinstance(dropped.guarantee, Exact)


def test_an_exhausted_budget_is_planned_as_an_exact_refit_that_reads_every_row(model, cohort, someone):
    spent = [mu_of(model.policy.budget_epsilon, model.policy.delta)]
    planned = plan(model, cohort, revocation((someone, AUDIO)), spent=spent)
    assert planned.mechanism == "lattice-refit"
    assert planned.rows_read > planned.rows_touched
    (other,) = planned.alternatives
    assert (other.mechanism, other.guarantee) == ("lattice-newton", "certified")
    assert "budget" in other.reason


def test_up_to_the_rows_that_the_policy_names_every_deletion_is_an_exact_refit(model, cohort, someone):
    asked = revocation((someone, TEXT))
    remaining = deleted(model, cohort, asked).model.statistics.rows

    def under(exact_rows):
        line = dataclasses.replace(model, policy=dataclasses.replace(model.policy, exact_rows=exact_rows))
        planned, outcome = plan(line, cohort, asked, spent=[]), deleted(line, cohort, asked)
        assert planned.mechanism == outcome.mechanism
        return planned, outcome

    assert under(remaining - 1)[1].mechanism == "lattice-newton"
    planned, outcome = under(remaining)
    assert outcome.mechanism == "lattice-refit"
    assert isinstance(outcome.guarantee, Exact)
    assert planned.budget.this == 0
    (other,) = planned.alternatives
    assert (other.guarantee, other.reason) == ("certified", "It proves less.")


@pytest.mark.parametrize("part", list(LATTICE))
@pytest.mark.parametrize("provenance", [None, "entangled", "private", "hearsay"])
def test_a_part_without_a_mechanism_is_refused_by_plan_and_delete(model, cohort, someone, part, provenance):
    known = {name: value for name, value in model.provenance.items() if name != part}
    odd = dataclasses.replace(model, provenance=known if provenance is None else {**known, part: provenance})
    asked = revocation((someone, AUDIO))
    named = "constants" if (part, provenance) == ("backbone", "entangled") else part  # whose constants are not public
    for attempt in (lambda: plan(odd, cohort, asked, spent=[]), lambda: deleted(odd, cohort, asked)):
        with pytest.raises(NoMechanismError, match=named) as refused:
            attempt()
        assert "train a new line" in refused.value.remedy


def test_an_unheard_of_part_is_refused(model, cohort, someone):
    odd = dataclasses.replace(model, provenance={**model.provenance, "adapter": Provenance.ENTANGLED.value})
    with pytest.raises(NoMechanismError, match="adapter"):
        plan(odd, cohort, revocation((someone, AUDIO)), spent=[])


def test_provenance_is_kept_with_the_model(model, tmp_path):
    odd = dataclasses.replace(model, provenance={**model.provenance, "backbone": "entangled"})
    save_model(odd, tmp_path / "model", cohort_root="0" * 64)
    assert load_model(tmp_path / "model").provenance == odd.provenance
    assert model.provenance == LATTICE
