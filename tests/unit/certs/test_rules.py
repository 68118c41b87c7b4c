"""Step 7 on statements that are unusual and true. The lies are in certs/vectors/invalid-v1.json."""

import json

import pytest

from certs.errors import Code, VerificationError
from certs.vectors import make
from certs.verification import verify

P = "/predicate"


def test_a_person_in_no_training_row_leaves_the_heads_as_they_are(reissue, trusted_root, at):
    """The channel leaves the cohort; the statistics never held it, and the certificate says so."""
    untouched = {
        f"{P}/request/scope/kind": "subject-modality",
        f"{P}/subjectCommitments": ["11" * 32],
        f"{P}/dataset": make._dataset(everybody=False).model_dump(mode="json", by_alias=True),
        f"{P}/statistics/digestAfter": make.digest_of("statistics 2"),
        f"{P}/statistics/untouched": ["audio"],
        f"{P}/procedure/unchanged": ["t", "v", "tv", "a", "ta", "av", "tav"],
        f"{P}/procedure/dropped": [],
    }
    verify(reissue("exact", untouched), trusted_root, at=at)
    for lie, code in (
        ({f"{P}/statistics/untouched": []}, Code.STATISTICS_INVALID),
        ({f"{P}/statistics/digestAfter": "11" * 32}, Code.STATISTICS_INVALID),
        ({f"{P}/statistics/digestAfter": "11" * 32, f"{P}/procedure/dropped": ["a"]}, Code.PROCEDURE_INVALID),
    ):
        _refused(code, reissue("exact", untouched | lie), trusted_root, at)


@pytest.mark.parametrize("head", ["a", "ta", "av", "tav"])
def test_a_head_that_saw_the_withdrawn_channel_cannot_stay(head, reissue, trusted_root, at):
    others = [other for other in ("a", "ta", "av", "tav") if other != head]
    changes = {f"{P}/procedure/unchanged": ["t", "v", "tv", head], f"{P}/procedure/dropped": others}
    _refused(Code.PROCEDURE_INVALID, reissue("exact", changes), trusted_root, at)


def test_a_head_of_a_modality_that_nobody_has_left_cannot_be_solved_anew(reissue, trusted_root, at):
    everybody = make._dataset(everybody=True).model_dump(mode="json", by_alias=True)
    changes = {
        f"{P}/request/scope/kind": "modality",
        f"{P}/subjectCommitments": [],
        f"{P}/dataset": everybody,
    }
    _refused(Code.PROCEDURE_INVALID, reissue("certified", changes), trusted_root, at)


def test_heads_without_the_modality_may_be_solved_anew(reissue, trusted_root, at, golden):
    """A row that leaves altogether changes heads of other modalities too."""
    changes = {
        f"{P}/procedure/updated/0/head": "t",
        f"{P}/procedure/unchanged": ["v", "tv"],
        f"{P}/procedure/dropped": ["a"],
    }
    verify(reissue("certified", changes), trusted_root, at=at)


def test_any_mechanism_may_claim_less_than_it_proves(reissue, trusted_root, at):
    report = {"measurements": [{"attack": "membership", "statistic": "auc", "low": 0.4, "high": 0.6}]}
    for base in ("certified", "exact"):
        changed = reissue(base, {f"{P}/guarantee": {"class": "empirical", "report": report}})
        verify(changed, trusted_root, at=at)


def test_a_refit_is_exact_or_certified(reissue, trusted_root, at):
    refit = {f"{P}/procedure/mechanism": "lattice-refit"}
    verify(reissue("certified", refit), trusted_root, at=at)
    verify(reissue("certified", refit | {f"{P}/guarantee": _exact()}), trusted_root, at=at)


def test_a_drop_is_not_certified(reissue, trusted_root, at, golden):
    guarantee = json.loads(golden("certified.statement.json"))["predicate"]["guarantee"]
    _refused(Code.CLASS_NOT_ALLOWED, reissue("exact", {f"{P}/guarantee": guarantee}), trusted_root, at)


def test_rounding_is_forgiven_and_nothing_more(reissue, trusted_root, at):
    for factor, holds in ((1 - 1e-10, True), (1 - 1e-8, False), (1 + 1e-10, True)):
        changes = {f"{P}/guarantee/mu": 0.016 * factor, f"{P}/guarantee/muSeries": [0.012, 0.016 * factor]}
        changed = reissue("certified", changes)
        if holds:
            verify(changed, trusted_root, at=at)
        else:
            _refused(Code.MU_UNDERSTATED, changed, trusted_root, at)


def test_a_more_cautious_claim_is_allowed(reissue, trusted_root, at):
    changes = {
        f"{P}/guarantee/mu": 0.018,
        f"{P}/guarantee/muSeries": [0.012, 0.018],
        f"{P}/guarantee/muTotal": 0.03,
        f"{P}/guarantee/totalCurve": [{"epsilon": 3.0, "delta": 1e-9}],
        f"{P}/audit": {"attack": "distinguishing", "statistic": "mu", "low": 0.017, "high": 0.5},
    }
    verify(reissue("certified", changes), trusted_root, at=at)


def test_several_people_are_committed_to_and_proven_absent_one_by_one(reissue, trusted_root, at):
    people = {f"{P}/request/scope/kind": "several", f"{P}/subjectCommitments": ["11" * 32, "22" * 32]}
    _refused(Code.SCOPE_INVALID, reissue("certified", people), trusted_root, at)


def _exact():
    return {"class": "exact", "equalities": ["updated heads are solved from nothing on D'"]}


def _refused(code, certificate, trusted_root, at):
    with pytest.raises(VerificationError) as failure:
        verify(certificate, trusted_root, at=at)
    assert (failure.value.step, failure.value.code) == (7, code)
