"""Step 7 on statements that are unusual and true. The lies are in certs/vectors/invalid-v1.json."""

import json
from itertools import product

import pytest

from certs import rules
from certs.errors import CertificateError, Code, VerificationError
from certs.payload import from_payload
from certs.vectors import make
from certs.verification import verify

P = "/predicate"
HEADS = ["t", "a", "v", "ta", "tv", "av", "tav"]


def test_a_person_in_no_training_row_leaves_the_heads_as_they_are(reissue, trusted_root, at):
    """The channel leaves the cohort; the statistics never held it, and the certificate says so."""
    untouched = _about(make.PEOPLE[1], "audio") | {
        f"{P}/request/scope/kind": "subject-modality",
        f"{P}/statistics/untouched": ["audio"],
        f"{P}/procedure/unchanged": ["t", "v", "tv", "a", "ta", "av", "tav"],
        f"{P}/procedure/dropped": [],
        "/subject/1/digest/sha256": make.digest_of("heads 2"),
    }
    verify(reissue("exact", untouched), trusted_root, at=at)
    for lie, code in (
        ({f"{P}/statistics/untouched": []}, Code.PROCEDURE_INVALID),
        ({f"{P}/statistics/digestAfter": make.digest_of("statistics 2")}, Code.STATISTICS_INVALID),
        ({"/subject/1/digest/sha256": make.digest_of("heads 3")}, Code.MODEL_IDENTITY),
    ):
        _refused(code, reissue("exact", untouched | lie), trusted_root, at)


@pytest.mark.parametrize("head", ["a", "ta", "av", "tav"])
def test_a_head_that_saw_the_withdrawn_channel_cannot_stay(head, reissue, trusted_root, at):
    others = [other for other in ("a", "ta", "av", "tav") if other != head]
    changes = {f"{P}/procedure/unchanged": ["t", "v", "tv", head], f"{P}/procedure/dropped": others}
    _refused(Code.PROCEDURE_INVALID, reissue("exact", changes), trusted_root, at)


def test_a_head_of_a_modality_that_nobody_has_left_cannot_be_solved_anew(reissue, trusted_root, at):
    changes = _about(None, "audio") | {f"{P}/request/scope/kind": "modality"}
    _refused(Code.PROCEDURE_INVALID, reissue("certified", changes), trusted_root, at)


def test_a_modality_whose_heads_are_not_listed_at_all_is_noticed_when_it_was_touched(reissue, trusted_root, at):
    hidden = {f"{P}/procedure/dropped": [], "/subject/1/digest/sha256": make.digest_of("heads 2")}
    _refused(Code.PROCEDURE_INVALID, reissue("exact", hidden), trusted_root, at)
    verify(reissue("exact", hidden | {f"{P}/statistics/untouched": ["audio"]}), trusted_root, at=at)


def test_lists_of_heads_are_accepted_exactly_when_they_are_those_of_two_lattices(golden):
    """All 4^7 ways to list seven heads, against the definition: modalities before, some of them after, every set."""
    predicate = from_payload(golden("empirical.statement.json")).predicate
    solved = predicate.procedure.updated[0]
    nothing_touched = predicate.statistics.model_copy(update={"untouched": ("audio",)})
    lattices = [{head for head in HEADS if set(head) <= set(letters)} for letters in HEADS]
    for places in product(("updated", "unchanged", "dropped", None), repeat=len(HEADS)):
        lists = {name: [h for h, at in zip(HEADS, places, strict=True) if at == name] for name in set(places) - {None}}
        after = {*lists.get("updated", ()), *lists.get("unchanged", ())}
        procedure = predicate.procedure.model_copy(
            update={
                "mechanism": "lattice-refit" if lists.get("updated") else "lattice-drop",
                "updated": tuple(solved.model_copy(update={"head": head}) for head in lists.get("updated", ())),
                "unchanged": tuple(lists.get("unchanged", ())),
                "dropped": tuple(lists.get("dropped", ())),
            }
        )
        changed = predicate.model_copy(update={"procedure": procedure, "statistics": nothing_touched})
        expected = after in lattices and after | {*lists.get("dropped", ())} in lattices
        assert _holds(rules._check_heads, changed) == expected, lists


def test_heads_without_the_modality_may_be_solved_anew(reissue, trusted_root, at, golden):
    """A row that leaves altogether changes heads of other modalities too."""
    changes = {
        f"{P}/procedure/mechanism": "lattice-refit",
        f"{P}/procedure/updated": [_solved(head) for head in ("t", "a", "ta", "tv", "av", "tav")],
        f"{P}/procedure/unchanged": ["v"],
        f"{P}/guarantee": _exact(),
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


def test_a_drop_is_not_certified_without_a_private_tower(reissue, trusted_root, at, golden):
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
    first, second, third = make.PEOPLE
    several = {f"{P}/request/scope/kind": "several"}
    both = several | _absent((first, "audio"), (second, "audio"))
    verify(reissue("certified", both | _committed(first, second)), trusted_root, at=at)
    verify(reissue("certified", both | _committed(second, first)), trusted_root, at=at)
    for people in ((first,), (first, third), (first, second, third), ()):
        _refused(Code.SCOPE_INVALID, reissue("certified", both | _committed(*people)), trusted_root, at)
    other = several | _absent((first, "audio"), (second, "vision")) | _committed(first, second)
    _refused(Code.SCOPE_INVALID, reissue("certified", other), trusted_root, at)


def test_everything_of_a_person_is_absent_in_all_three_modalities(reissue, trusted_root, at):
    """The request may name fewer: vision was never there, so no training row held it."""
    person = make.PEOPLE[1]
    modalities = ("text", "audio", "vision")
    everything = _committed(person) | {
        f"{P}/request/scope": {"kind": "subject", "modalities": ["text", "audio"]},
        f"{P}/statistics/untouched": ["vision"],
        f"{P}/statistics/rowsAfter": 2,
        f"{P}/procedure/unchanged": ["v"],
        f"{P}/procedure/updated": [_solved(head) for head in ("t", "a", "ta", "tv", "av", "tav")],
        f"{P}/guarantee": _exact(),
        f"{P}/procedure/mechanism": "lattice-refit",
    }
    all_three = everything | _absent(*((person, modality) for modality in modalities))
    verify(reissue("certified", all_three), trusted_root, at=at)
    two = everything | _absent((person, "text"), (person, "audio")) | {f"{P}/statistics/untouched": []}
    _refused(Code.SCOPE_INVALID, reissue("certified", two), trusted_root, at)
    of_all = everything | _absent((person, "text"), (person, "audio"), (None, "vision"))
    _refused(Code.SCOPE_INVALID, reissue("certified", of_all), trusted_root, at)


def test_sums_stay_below_the_first_integer_that_float64_may_round(reissue, trusted_root, at):
    for limit, holds in ((2**41 - 1, True), (2**41, False)):
        limits = {f"{P}/statistics/rowsAfter": 2, f"{P}/statistics/labelLimit": limit}
        changed = reissue("certified", limits)
        if holds:
            verify(changed, trusted_root, at=at)
        else:
            _refused(Code.STATISTICS_INVALID, changed, trusted_root, at)


def test_the_file_of_heads_is_compared_only_where_both_models_name_it(reissue, trusted_root, at):
    same = {"/subject/1/digest/sha256": make.digest_of("heads 2")}
    _refused(Code.MODEL_IDENTITY, reissue("certified", same), trusted_root, at)
    verify(reissue("certified", same | {"/subject/1/name": "other.safetensors"}), trusted_root, at=at)


def _about(person, modality):
    return _absent((person, modality)) | _committed(*([person] if person else []))


def _absent(*gone):
    return {f"{P}/dataset": make.dataset(gone).model_dump(mode="json", by_alias=True)}


def _committed(*people):
    return {f"{P}/subjectCommitments": list(people)}


def _solved(head):
    return {"head": head, "coordinates": 64, "sensitivity": 2e-6, "sigma": 2.5e-4, "mu": 0.008}


def _holds(rule, predicate):
    try:
        rule(predicate)
    except CertificateError as error:
        assert error.code is Code.PROCEDURE_INVALID
        return False
    return True


def _exact():
    return {"class": "exact", "equalities": ["updated heads are solved from nothing on D'"]}


def _refused(code, certificate, trusted_root, at):
    with pytest.raises(VerificationError) as failure:
        verify(certificate, trusted_root, at=at)
    assert (failure.value.step, failure.value.code) == (7, code)


@pytest.mark.parametrize("mechanism", ["lattice-newton", "lattice-refit"])
def test_heads_that_used_a_dropped_tower_can_only_be_solved_from_nothing(mechanism, reissue, trusted_root, at):
    """Their old weights belong to coordinates that are no more: only tower-drop leaves them behind."""
    _refused(Code.PROCEDURE_INVALID, reissue("towers", {f"{P}/procedure/mechanism": mechanism}), trusted_root, at)


@pytest.mark.parametrize(
    "lie",
    [
        {f"{P}/procedure/towers": []},
        {f"{P}/procedure/towers/1/action": "kept"},
        {f"{P}/procedure/towers/0/provenance": "sharded"},
        {f"{P}/procedure/towers/2/name": "a.shard7"},
    ],
    ids=str,
)
def test_a_list_of_towers_that_is_not_the_models_is_refused(lie, reissue, trusted_root, at):
    _refused(Code.PROCEDURE_INVALID, reissue("towers", lie), trusted_root, at)


def test_a_private_tower_that_saw_the_withdrawn_cannot_stay_without_its_account(reissue, trusted_root, at):
    exact = {f"{P}/guarantee": {"class": "exact", "equalities": ["everything"]}}
    _refused(Code.CLASS_NOT_ALLOWED, reissue("towers", exact), trusted_root, at)
    no_account = {f"{P}/guarantee/departed": [], f"{P}/guarantee/mu": 0.1, f"{P}/guarantee/muSeries": [0.1]}
    _refused(Code.CLASS_NOT_ALLOWED, reissue("towers", no_account), trusted_root, at)
    of_another = {f"{P}/guarantee/departed/0/tower": "v.private"}
    _refused(Code.CLASS_NOT_ALLOWED, reissue("towers", of_another), trusted_root, at)


@pytest.mark.parametrize("mechanism", ["retrain", "noisy-fine-tuning", "surgical"])
def test_what_is_done_to_an_entangled_backbone_is_not_done_to_a_public_one(mechanism, reissue, trusted_root, at):
    _refused(Code.PROCEDURE_INVALID, reissue("certified", {f"{P}/procedure/mechanism": mechanism}), trusted_root, at)


def test_noisy_fine_tuning_cannot_be_exact_nor_cheaper_than_its_account(reissue, golden, trusted_root, at):
    verify(golden("fine-tuned.sigstore.json"), trusted_root, at=at)
    for changes, code in (
        ({f"{P}/guarantee": {"class": "exact", "equalities": ["everything"]}}, Code.CLASS_NOT_ALLOWED),
        ({f"{P}/procedure/fineTuning": None}, Code.PROCEDURE_INVALID),
        ({f"{P}/procedure/fineTuning/sigma": 1e-3}, Code.MU_UNDERSTATED),
        ({f"{P}/procedure/fineTuning/startBound": 100}, Code.MU_UNDERSTATED),
        ({f"{P}/guarantee/mu": 0.01, f"{P}/guarantee/muSeries": [0.01]}, Code.MU_UNDERSTATED),
        ({f"{P}/lineage/backboneProvenance": "public"}, Code.MODEL_IDENTITY),
    ):
        _refused(code, reissue("fine-tuned", changes), trusted_root, at)
