"""Three worlds that differ in withdrawn channels alone end with the same bits, and a fault in any step shows."""

from dataclasses import replace

import numpy as np
import pytest

from mbd.attacks.canary import SALT, canary, make_line, small
from mbd.attacks.exactness import audit_exactness, audit_outcome
from mbd.cohort.cohort import Partition
from mbd.cohort.modality import Modality
from mbd.deletion import engine
from mbd.deletion.outcome import Revocation
from mbd.errors import AttackError
from mbd.lattice.release import ReleasePolicy
from mbd.training.recipe import Recipe

PLAIN = small(Recipe())


def test_a_swapped_world_differs_in_every_withdrawn_channel_and_nowhere_else():
    people = canary(1, voices=2)
    other = people.swapped(5)
    leaving = {subject for subject, _ in people.pairs}
    assert len(leaving) == 2
    assert other.cohort.rows == people.cohort.rows
    for modality, column in people.cohort.features.items():
        for row, mine, theirs in zip(people.cohort.rows, column, other.cohort.features[modality], strict=True):
            withdrawn = row.subject in leaving and modality is Modality.AUDIO
            assert np.array_equal(mine, theirs) != withdrawn
    assert all(
        np.array_equal(a, b)
        for m in people.cohort.modalities
        for a, b in zip(people.after.features[m], other.after.features[m], strict=True)
        if a is not None
    )


def test_labels_that_fall_are_swapped_too_and_those_of_public_people_are_not():
    people = canary(1, label_falls=True, everyone=True)
    for mine, theirs in zip(people.cohort.rows, people.swapped(5).cohort.rows, strict=True):
        assert (mine.label != theirs.label) == (mine.partition is Partition.REVOCABLE)


def test_the_canary_stands_out_as_far_as_features_go(canary_line):
    model, people = canary_line
    ((subject, _),) = people.pairs
    mine = people.cohort.of_subjects([subject])
    block = next(b for b in model.layout.blocks if b.name == "a")
    raw_NF = model.featurizer.features(mine, range(len(mine)))[:, block.raw_at]
    assert (np.abs(raw_NF[:, :-1]) == 2**11).all()  # the last column is the same in all rows, and so left out
    assert (raw_NF[:, -1] == 0).all()


@pytest.mark.parametrize(
    ("policy", "mechanism"), [(ReleasePolicy(), "lattice-newton"), (ReleasePolicy(exact_rows=10**6), "lattice-refit")]
)
def test_sound_code_holds(policy, mechanism):
    report = audit_exactness(canary(2), PLAIN, policy=policy, seed=1, target="test")
    assert (report.verdict, report.details["mechanism"]) == ("held", mechanism)
    heads = {part for part in report.details["compared"] if part.startswith("head ")}
    untouched = {"head t", "head v", "head tv"}
    assert heads == untouched if mechanism == "lattice-newton" else heads > untouched


def test_a_fault_in_the_downdate_is_found(monkeypatch):
    from mbd.deletion import downdate as module

    monkeypatch.setattr(module, "_cleared", lambda phi_ND, layout, left: phi_ND)
    report = audit_exactness(canary(2), PLAIN, policy=ReleasePolicy(), seed=1, target="test")
    assert report.verdict == "broken"
    assert any("statistics" in part for part in report.details["differing"])


def test_a_mechanism_without_an_equality_cannot_be_attacked_this_way(monkeypatch):
    monkeypatch.setattr("mbd.attacks.exactness.engine.delete", _surgical(engine.delete))
    with pytest.raises(AttackError, match="claims no equality"):
        audit_exactness(canary(2), replace(PLAIN, trains_on="everyone"), policy=ReleasePolicy(), seed=1, target="test")


def _surgical(delete):
    return lambda *args, **options: delete(*args, **options, entangled="surgical")


@pytest.fixture(scope="module")
def deletion(audit_noise):
    """(before, cohort, revocation, outcome) of a real deletion."""
    people = canary(3)
    before = make_line(people.cohort, PLAIN, policy=ReleasePolicy(), noise=audit_noise, purpose="before")
    revocation = Revocation(people.pairs, "request")
    outcome = engine.delete(
        before, people.cohort, revocation, noise=audit_noise, occasion="line/2", spent=[], salt=SALT
    )
    return before, people.cohort, revocation, outcome


def test_a_real_deletion_is_held_against_its_comparator(deletion):
    report = audit_outcome(*deletion, line="line")
    assert report.verdict == "held"
    assert report.trials > 10


@pytest.mark.parametrize("fault", ["statistics", "unchanged head", "far head", "constants"])
def test_a_real_deletion_with_a_fault_is_broken(deletion, fault):
    before, cohort, revocation, outcome = deletion
    model = outcome.model
    text, voice = frozenset({Modality.TEXT}), frozenset({Modality.AUDIO})
    match fault:
        case "statistics":
            model, expected = replace(model, statistics=before.statistics), "statistics"
        case "unchanged head":
            other = replace(model.heads[text], weights_DK=model.heads[text].weights_DK + model.heads[text].sigma)
            model, expected = replace(model, heads={**model.heads, text: other}), "head t"
        case "far head":
            far = replace(model.heads[voice], weights_DK=model.heads[voice].weights_DK + 0.1)
            model, expected = replace(model, heads={**model.heads, voice: far}), "head a"
        case "constants":
            scaling = model.featurizer.scalings["t.raw"]
            moved = replace(scaling, centre=scaling.centre + 1e-9)
            featurizer = replace(model.featurizer, scalings={**model.featurizer.scalings, "t.raw": moved})
            model, expected = replace(model, featurizer=featurizer), "constants t.raw"
    report = audit_outcome(before, cohort, revocation, replace(outcome, model=model), line="line")
    assert report.verdict == "broken"
    assert expected in report.details["differing"]


def test_a_network_made_anew_has_no_such_comparator(deletion):
    before, cohort, revocation, outcome = deletion
    with pytest.raises(AttackError, match="made a new network"):
        audit_outcome(before, cohort, revocation, replace(outcome, report={}), line="line")
