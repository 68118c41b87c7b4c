"""Notices: what they say is in the log for all to read, and a notice that contradicts itself is none."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs import dsse
from certs import notice as notices
from certs.encoding import canonical_json
from certs.errors import CertificateError, Code
from certs.keys import EcdsaP256Signer, PublicKey
from certs.notice import CertificateRevoked, KeyCompromised, KeySucceeded, LogContinued, Predicate, Reason

AT = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
A, B = "a" * 64, "b" * 64
REVOKED = CertificateRevoked(leaf_hash=A, reason=Reason.ISSUED_IN_ERROR, superseded_by=None)
NOTICES = [
    REVOKED,
    CertificateRevoked(leaf_hash=A, reason=Reason.SUPERSEDED, superseded_by=B),
    KeySucceeded(role="log", old_key=A, new_key=B),
    KeyCompromised(key=A, since=AT, since_index=7),
    LogContinued(origin="example.org/log", checkpoint=A, size=3, root=B),
]


@pytest.fixture(scope="module")
def signer():
    return EcdsaP256Signer.generate()


@pytest.mark.parametrize("content", NOTICES, ids=lambda content: content.kind)
def test_a_notice_is_read_from_its_log_entry_alone(content, signer):
    body = notices.leaf(Predicate(issued_at=AT, notice=content), signer)
    assert notices.is_notice(body)
    predicate, envelope = notices.read(body)
    assert predicate == Predicate(issued_at=AT, notice=content)
    dsse.verify(envelope, PublicKey.from_spki(signer.public_key))
    with pytest.raises(CertificateError):
        dsse.verify(envelope, PublicKey.from_spki(EcdsaP256Signer.generate().public_key))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (CertificateRevoked(leaf_hash=A, reason=Reason.SUPERSEDED, superseded_by=None), "superseded by another"),
        (CertificateRevoked(leaf_hash=A, reason=Reason.CLAIM_WITHDRAWN, superseded_by=B), "superseded by another"),
        (CertificateRevoked(leaf_hash=A, reason=Reason.SUPERSEDED, superseded_by=A), "itself"),
        (KeySucceeded(role="certificate", old_key=A, new_key=A), "itself"),
    ],
)
def test_a_notice_that_contradicts_itself_is_not_signed(content, why, signer):
    with pytest.raises(CertificateError, match=why) as failure:
        notices.leaf(Predicate(issued_at=AT, notice=content), signer)
    assert failure.value.code is Code.NOTICE_MALFORMED


def test_a_certificates_leaf_is_no_notice(golden):
    body = json.loads(golden("certified.sigstore.json"))["verificationMaterial"]["tlogEntries"][0]["canonicalizedBody"]
    assert not notices.is_notice(body.encode())
    with pytest.raises(CertificateError, match="no notice"):
        notices.read(b'{"apiVersion":"0.0.2","kind":"hashedrekord"}')


def test_a_notice_has_one_form(signer):
    """Another encoding, another member, another kind: what a verifier does not know it must not pass by."""
    entry = json.loads(notices.leaf(Predicate(issued_at=AT, notice=REVOKED), signer))
    spaced = canonical_json(entry).replace(b'"spec":', b'"spec": ')
    more = canonical_json(entry | {"zz": 1})
    inner = canonical_json(entry | {"spec": entry["spec"] | {"zz": 1}})
    for body in (spaced, more, inner):
        assert notices.is_notice(body)
        _malformed(body)


def test_a_kind_of_notice_that_is_not_known_is_refused(signer):
    statement = notices.notice_statement(Predicate(issued_at=AT, notice=REVOKED))
    payload = statement.canonical().replace(b"certificate-revoked", b"certificate-restored")
    envelope = notices.dsse.sign(payload, signer)
    _malformed(canonical_json(notices._entry(envelope)))


def test_a_subject_that_is_not_what_the_notice_is_about_is_refused(signer):
    payload = notices.notice_statement(Predicate(issued_at=AT, notice=REVOKED)).canonical()
    changed = payload.replace(b'"subject":[{"digest":{"sha256":"a', b'"subject":[{"digest":{"sha256":"b')
    assert changed != payload
    _malformed(canonical_json(notices._entry(notices.dsse.sign(changed, signer))))


@given(st.binary(max_size=400))
def test_whatever_begins_like_a_notice_is_read_or_refused(rest):
    for body in (rest, notices._PREFIX + rest):
        with pytest.raises(CertificateError):
            notices.read(body)


def _malformed(body):
    with pytest.raises(CertificateError) as failure:
        notices.read(body)
    assert failure.value.code is Code.NOTICE_MALFORMED
