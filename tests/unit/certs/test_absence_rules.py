"""Certificates of absence that are unusual and true, and lies that take more than one change; others are vectors."""

from hashlib import sha256

import pytest

from certs.absence_statement import absence_statement
from certs.errors import Code, VerificationError
from certs.payload import from_payload, to_payload
from certs.statement import Scope
from certs.vectors import make, make_absence
from certs.vectors.make_absence import NAMES, OPENINGS
from certs.verification import verify

P = "/predicate"


def refused(code, bundle, trusted_root, at, *, step=7, **more):
    with pytest.raises(VerificationError) as failure:
        verify(bundle, trusted_root, at=at, **more)
    assert (failure.value.step, failure.value.code) == (step, code)


def about(absent, people, modalities):
    """A statement of kind ``several``, signed and logged."""
    statement = from_payload(make_absence.person())
    scope = Scope.model_validate({"kind": "several", "modalities": modalities})
    predicate = statement.predicate.model_copy(
        update={
            "request": statement.predicate.request.model_copy(update={"scope": scope}),
            "subject_commitments": tuple(NAMES[who] for who in people),
            "dataset": make_absence.dataset([(p, m, NAMES[who] if who else None) for p, m, who in absent]),
        }
    )
    payload = to_payload(absence_statement(statement.subject, predicate))
    return make.issue([make.noise_commitment(), payload])[1]


def test_several_people_and_everybody_go_into_one_certificate(trusted_root, at):
    absent = [
        ("public", "audio", "Ben"),
        ("revocable", "audio", "Ben"),
        ("public", "text", "Dot"),
        ("revocable", "text", "Dot"),
        ("revocable", "vision", None),
    ]
    verify(about(absent, ("Ben", "Dot"), ("text", "audio", "vision")), trusted_root, at=at)


def test_a_channel_that_falls_with_the_one_asked_for_may_be_proven_too(trusted_root, at):
    absent = [(partition, m, "Dot") for partition in ("public", "revocable") for m in ("text", "audio")]
    verify(about(absent, ("Dot",), ("audio",)), trusted_root, at=at)


@pytest.mark.parametrize("partition", ["public", "revocable"])
@pytest.mark.parametrize("who", ["Ada", "Pat"])
def test_a_person_who_is_there_is_not_proven_absent(partition, who, trusted_root, at):
    """Of each person one partition can be proven, and the other cannot."""
    absent = [("public", "text", who), ("revocable", "text", who)]
    refused(Code.ABSENCE_INVALID, about(absent, (who,), ("text",)), trusted_root, at)
    refused(Code.SCOPE_INVALID, about([(partition, "text", who)], (who,), ("text",)), trusted_root, at)


def test_proofs_of_an_absent_channel_prove_nothing_of_another(reissue, trusted_root, at):
    changes = {
        f"{P}/request/scope/modalities": ["text"],
        f"{P}/dataset/absence/0/modality": "text",
        f"{P}/dataset/absence/1/modality": "text",
    }
    refused(Code.ABSENCE_INVALID, reissue("channel", changes), trusted_root, at)


def test_a_check_before_the_key_was_valid_is_refused(reissue, trusted_root, at):
    changes = {f"{P}/request/requestedAt": "2025-03-01T00:00:00Z", f"{P}/checkedAt": "2025-03-01T00:00:00Z"}
    refused(Code.TIME_ORDER, reissue("person", changes), trusted_root, at)


def test_a_person_finds_themselves_with_their_opening_and_nobody_else_does(golden, trusted_root, at):
    bundle = golden("person.sigstore.json")
    verified = verify(bundle, trusted_root, at=at, openings={"Dot": OPENINGS["Dot"]})
    assert verified.steps[-1].result == "passed"
    for name, opening in (("dot", OPENINGS["Dot"]), ("Dot", OPENINGS["Ben"]), ("Ben", OPENINGS["Ben"])):
        refused(Code.OPENING_MISMATCH, bundle, trusted_root, at, step=8, openings={name: opening})


def test_the_live_models_files_are_compared(golden, trusted_root, at):
    bundle = golden("person.sigstore.json")
    verify(bundle, trusted_root, at=at, artifacts={"model.json": make.digest_of("model 3")})
    other = {"model.json": make.digest_of("model 2")}
    refused(Code.ARTIFACT_MISMATCH, bundle, trusted_root, at, step=8, artifacts=other)


def test_it_has_no_noise_to_be_committed_to(golden, trusted_root, at):
    noise = golden("noise-commitment.sigstore.json")
    refused(Code.COMMITMENT_MISMATCH, golden("person.sigstore.json"), trusted_root, at, step=8, noise_commitment=noise)


def test_it_holds_no_name(golden):
    payload = golden("person.statement.json")
    assert b"Dot" not in payload
    assert sha256(b"Dot").hexdigest().encode() not in payload
