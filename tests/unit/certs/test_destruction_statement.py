"""A statement of destruction: what it says, what it refuses to be, and the schema that others read it by."""

import json
from datetime import UTC, datetime, timedelta

import jsonschema
import pytest

from certs import dsse
from certs.destruction_statement import (
    CLAIMED,
    NOT_COVERED,
    VERSION_DESTRUCTION,
    DestroyedVersion,
    RemovedFile,
    sign,
    verify,
)
from certs.encoding import canonical_json
from certs.errors import CertificateError, Code
from certs.keys import EcdsaP256Signer, PublicKey
from certs.schema_file import schema_text

SIGNER = EcdsaP256Signer.generate()
KEY = PublicKey.from_spki(SIGNER.public_key)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
VERSION = DestroyedVersion(model_line="main", version=3, model_digest="a" * 64, cohort_root="b" * 64)
REMOVED = (
    RemovedFile(name="cohort/rows.parquet", bytes=None, digest=None),
    RemovedFile(name="model/model.json", bytes=12, digest="a" * 64),
)


def signed():
    return sign(VERSION, REMOVED, counted_at=NOW, destroyed_at=NOW + timedelta(seconds=2), signer=SIGNER)


def changed(**members):
    """An envelope whose predicate says something else, signed all the same."""
    statement = json.loads(signed().payload)
    statement["predicate"] |= members
    return dsse.sign(canonical_json(statement), SIGNER).canonical()


def test_it_says_what_was_removed_and_what_that_does_not_prove():
    said = verify(signed().canonical(), KEY)
    assert (said.lineage, said.removed, said.method) == (VERSION, REMOVED, "unlink")
    assert (said.claimed, said.not_covered) == (CLAIMED, NOT_COVERED)
    assert said.destroyed_at - said.counted_at == timedelta(seconds=2)
    statement = json.loads(signed().payload)
    assert statement["predicateType"] == VERSION_DESTRUCTION
    assert statement["subject"] == [{"name": "model.json", "digest": {"sha256": "a" * 64}}]


def test_it_never_says_that_nothing_is_left():
    words = " ".join(CLAIMED).lower()
    assert [word for word in ("overwrit", "irrecoverabl", "erased", "all copies") if word in words] == []
    assert any("flash memory" in sentence.lower() for sentence in NOT_COVERED)
    assert any("backups" in sentence.lower() for sentence in NOT_COVERED)


@pytest.mark.parametrize(
    ("envelope", "code"),
    [
        (lambda: changed(destroyedAt="2026-03-01T11:59:59Z"), Code.TIME_ORDER),
        (lambda: changed(lineage=VERSION.model_dump(by_alias=True) | {"modelDigest": "c" * 64}), Code.MODEL_IDENTITY),
        (lambda: changed(method="shred"), Code.STATEMENT_MALFORMED),
        (lambda: changed(more=1), Code.STATEMENT_MALFORMED),
        (lambda: changed(notCovered=[]), Code.STATEMENT_MALFORMED),
        (lambda: signed().canonical()[:-1], Code.JSON_MALFORMED),
        (lambda: signed().canonical().replace(b"in-toto", b"other"), Code.PAYLOAD_TYPE_UNKNOWN),
    ],
)
def test_what_contradicts_itself_or_is_something_else_is_refused(envelope, code):
    with pytest.raises(CertificateError) as refused:
        verify(envelope(), KEY)
    assert refused.value.code is code


def test_another_key_and_another_payload_are_refused():
    with pytest.raises(CertificateError) as refused:
        verify(signed().canonical(), PublicKey.from_spki(EcdsaP256Signer.generate().public_key))
    assert refused.value.code is Code.SIGNATURE_INVALID
    other = json.loads(signed().payload)
    other["predicate"]["removed"] = []
    forged = signed().model_copy(update={"payload": canonical_json(other)})
    with pytest.raises(CertificateError) as refused:
        verify(forged.canonical(), KEY)
    assert refused.value.code is Code.SIGNATURE_INVALID


def test_the_schema_accepts_it_and_knows_what_is_required():
    validator = jsonschema.Draft202012Validator(json.loads(schema_text("version-destruction-v1.json")))
    statement = json.loads(signed().payload)
    validator.validate(statement)
    for member in statement["predicate"]:
        fewer = statement | {"predicate": {k: v for k, v in statement["predicate"].items() if k != member}}
        assert not validator.is_valid(fewer)
