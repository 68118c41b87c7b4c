"""The trusted root: strict, and without weak or misnamed keys."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from certs import trusted_root as roots
from certs.encoding import canonical_json, encode_base64
from certs.errors import CertificateError, Code
from certs.keys import EcdsaP256Signer, Ed25519Signer, MlDsa44Signer, PublicKey
from certs.note import NoteKey
from certs.trusted_root import TrustedLog, TrustedSigner, ValidFor
from certs.vectors import make

START = datetime(2026, 1, 1, tzinfo=UTC)


def test_what_is_built_is_read_back():
    old, new = ValidFor(start=START, end=START + timedelta(days=30)), ValidFor(start=START + timedelta(days=20))
    logs = [TrustedLog(NoteKey("example.org/log", _ed25519()), window) for window in (new, old)]
    signers = [
        TrustedSigner(PublicKey.from_spki(EcdsaP256Signer.generate().public_key), old),
        TrustedSigner(_ed25519(), new),
    ]
    data = roots.build_trusted_root(logs, signers)
    root = roots.parse(data)
    assert (list(root.logs), list(root.signers)) == (logs, signers)
    assert root.signer(signers[1].key.hint) == signers[1]
    assert root.log(logs[1].key.log_id) == logs[1]
    assert roots.parse(json.dumps(json.loads(data), indent=2).encode()) == root


def test_a_window_includes_both_its_ends():
    window = ValidFor(start=START, end=START + timedelta(days=1))
    second = timedelta(seconds=1)
    inside = [START, START + timedelta(days=1)]
    outside = [START - second, START + timedelta(days=1) + second]
    assert all(window.covers(at) for at in inside)
    assert not any(window.covers(at) for at in outside)
    assert ValidFor(start=START).covers(START + timedelta(days=100_000))


def test_a_window_needs_a_zone_and_whole_seconds():
    for start in (START.replace(tzinfo=None), START.replace(microsecond=1)):
        with pytest.raises(ValidationError):
            ValidFor(start=start)


@pytest.mark.parametrize(
    ("pointer", "value", "code"),
    [
        ("/mediaType", "application/json", Code.TRUSTED_ROOT_MALFORMED),
        ("/witnesses", [], Code.TRUSTED_ROOT_MALFORMED),
        ("/timestampAuthorities", [], Code.TRUSTED_ROOT_MALFORMED),
        ("/tlogs", [], Code.TRUSTED_ROOT_MALFORMED),
        ("/certificateKeys", [], Code.TRUSTED_ROOT_MALFORMED),
        ("/tlogs/0/baseUrl", "http://vectors.missing-by-design.dev/log", Code.TRUSTED_ROOT_MALFORMED),
        ("/tlogs/0/baseUrl", "https://vectors.missing-by-design.dev/log2", Code.TRUSTED_ROOT_MALFORMED),
        ("/tlogs/0/hashAlgorithm", "SHA2_512", Code.TRUSTED_ROOT_MALFORMED),
        ("/tlogs/0/logId/keyId", encode_base64(bytes(32)), Code.TRUSTED_ROOT_MALFORMED),
        ("/tlogs/0/publicKey/keyDetails", "PKIX_ECDSA_P256_SHA_256", Code.TRUSTED_ROOT_MALFORMED),
        ("/tlogs/0/publicKey/validFor", {}, Code.TRUSTED_ROOT_MALFORMED),
        ("/tlogs/0/publicKey/validFor/start", "2026-01-01", Code.TRUSTED_ROOT_MALFORMED),
        ("/tlogs/0/publicKey/validFor/start", "2026-02-30T00:00:00Z", Code.TRUSTED_ROOT_MALFORMED),
        ("/tlogs/0/publicKey/validFor/start", 1767225600, Code.TRUSTED_ROOT_MALFORMED),
        ("/certificateKeys/0/hint", "AAAA", Code.TRUSTED_ROOT_MALFORMED),
        ("/certificateKeys/0/publicKey/rawBytes", "MAA=", Code.KEY_INVALID),
        ("/certificateKeys/0/publicKey/rawBytes", "MAA", Code.TRUSTED_ROOT_MALFORMED),
        ("/certificateKeys/0/publicKey/keyDetails", "PKIX_ED25519", Code.TRUSTED_ROOT_MALFORMED),
    ],
)
def test_a_changed_trusted_root_is_refused(pointer, value, code, trusted_root, locate):
    document = json.loads(trusted_root)
    holder, last = locate(document, pointer)
    holder[last] = value
    with pytest.raises(CertificateError) as failure:
        roots.parse(canonical_json(document))
    assert failure.value.code is code


def test_a_certificate_key_as_a_log_key_is_refused(trusted_root):
    document = json.loads(trusted_root)
    document["tlogs"][0]["publicKey"] = document["certificateKeys"][0]["publicKey"]
    with pytest.raises(CertificateError, match="Ed25519"):
        roots.parse(canonical_json(document))


@pytest.mark.parametrize("member", ["tlogs", "certificateKeys"])
def test_a_key_that_stands_twice_is_refused(member, trusted_root):
    document = json.loads(trusted_root)
    document[member] *= 2
    with pytest.raises(CertificateError, match="twice"):
        roots.parse(canonical_json(document))


def test_a_weak_log_key_is_refused(trusted_root):
    document = json.loads(trusted_root)
    spki = make.log_key.key.spki
    document["tlogs"][0]["publicKey"]["rawBytes"] = encode_base64(spki[:-32] + b"\x01" + bytes(31))
    with pytest.raises(CertificateError) as failure:
        roots.parse(canonical_json(document))
    assert failure.value.code is Code.KEY_INVALID


def _ed25519() -> PublicKey:
    return PublicKey.from_spki(Ed25519Signer.generate().public_key)


def test_a_certificate_key_is_no_ml_dsa_key():
    window = ValidFor(start=START)
    key = PublicKey.from_spki(MlDsa44Signer.generate().public_key)
    root = roots.build_trusted_root([TrustedLog(make.log_key, window)], [TrustedSigner(key, window)])
    with pytest.raises(CertificateError, match="not signed with ML-DSA-44"):
        roots.parse(root)
