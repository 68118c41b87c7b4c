"""Penalties: chosen on public people alone, by the rule that was asked for."""

import dataclasses

import numpy as np
import pytest

from mbd.cohort.cohort import Partition, Split
from mbd.cohort.modality import Modality, parse_pattern
from mbd.errors import CohortError
from mbd.lattice.selection import PENALTIES, RATIOS, PenaltyRule, PublicErrors, held_out_errors, select_penalties

RULES = [
    PenaltyRule(raw, step, ratio) for raw in ("own", "shared", "patterns") for step in (4, 2) for ratio in (3, None)
]


@pytest.fixture(scope="module")
def cohort(random_cohort):
    return random_cohort(1, subjects=12, clips=5)


@pytest.fixture(scope="module")
def featurizer(cohort, fit_small):
    return fit_small(cohort).featurizer


@pytest.fixture(scope="module")
def errors(featurizer, cohort):
    return PublicErrors(featurizer, cohort)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_rule_chooses_from_its_grid_and_keeps_its_ratio(errors, rule):
    penalties = errors.choose(rule).layout.penalties
    raw = {name: penalty for name, penalty in penalties.items() if name.endswith(".raw")}
    assert set(raw.values()) <= set(PENALTIES[:: 4 // rule.step])
    if rule.raw != "own":
        assert len(set(raw.values())) == 1
    ratios = {
        penalty / min(raw[f"{m[0]}.raw"] for m in parse_pattern(name.split(".")[0]))
        for name, penalty in penalties.items()
        if name.endswith(".learned")
    }
    assert len(ratios) == 1
    (ratio,) = ratios
    assert ratio in ({3.0} if rule.ratio else set(RATIOS))


def test_an_own_penalty_is_the_one_with_the_least_error_on_held_out_people(errors, featurizer, cohort):
    public = cohort.where(partition=Partition.PUBLIC)
    rows = public.select([i for i, row in enumerate(public.rows) if row.split is not Split.TEST])
    penalties = errors.choose(PenaltyRule("own", 4, 10.0, tolerance=0.0)).layout.penalties
    for modality in Modality:
        measured = held_out_errors(featurizer, rows, {modality})
        assert penalties[f"{modality[0]}.raw"] == PENALTIES[int(np.argmin(measured))]


@pytest.mark.parametrize("tolerance", [0.005, 0.05, 0.5])
def test_with_a_tolerance_the_smallest_penalty_that_is_nearly_as_good_is_taken(errors, featurizer, cohort, tolerance):
    penalties = errors.choose(PenaltyRule(tolerance=tolerance)).layout.penalties
    for modality in Modality:
        measured = errors.raw(frozenset({modality}))
        good = [p for p, error in zip(PENALTIES, measured, strict=True) if error <= measured.min() * (1 + tolerance)]
        assert penalties[f"{modality[0]}.raw"] == min(good)


def test_revocable_and_test_people_have_no_say(errors, featurizer, cohort):
    """Their labels turned around: the same penalties."""
    rows = tuple(
        dataclasses.replace(row, label=-float(row.label))
        if row.partition is Partition.REVOCABLE or row.split is Split.TEST
        else row
        for row in cohort.rows
    )
    assert rows != cohort.rows
    other = PublicErrors(featurizer, dataclasses.replace(cohort, rows=rows))
    for rule in RULES:
        assert other.choose(rule).layout.penalties == errors.choose(rule).layout.penalties


def test_labels_that_follow_the_text_give_it_a_smaller_penalty_than_labels_that_follow_nothing(featurizer, cohort):
    rng = np.random.default_rng(0)

    def penalty(label_of):
        rows = tuple(dataclasses.replace(row, label=label_of(i)) for i, row in enumerate(cohort.rows))
        chosen = select_penalties(featurizer, dataclasses.replace(cohort, rows=rows), rule=PenaltyRule("own", 4, 10.0))
        return chosen.layout.penalties["t.raw"]

    def follows_text(i):
        text = cohort.features[Modality.TEXT][i]
        return 0.0 if text is None else float(np.clip(np.sum(text) / 2, -3, 3))

    assert penalty(follows_text) < penalty(lambda i: float(rng.uniform(-3, 3)))


def test_fewer_public_people_than_folds_are_refused(featurizer, cohort):
    people = dict.fromkeys(row.subject for row in cohort.rows if row.partition is Partition.PUBLIC)
    few = set(list(people)[:3])
    with pytest.raises(CohortError, match=r"4-fold .* there are 3"):
        PublicErrors(featurizer, cohort.select([i for i, row in enumerate(cohort.rows) if row.subject in few]))
