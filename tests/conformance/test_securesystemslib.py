"""A DSSE envelope of ours under a library that we did not write."""

import base64
import copy
import json
from typing import Any

import pytest
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from certs.keys import Algorithm, EcdsaP256Signer, Ed25519Signer, PublicKey
from certs.vectors import make, make_absence

CERTIFICATES = sorted([*make.V1.glob("*.sigstore.json"), *make_absence.V1.glob("*.sigstore.json")])


@pytest.fixture
def document(golden):
    return json.loads(golden("certified.sigstore.json"))["dsseEnvelope"]


@pytest.fixture
def key(golden):
    return _key(golden("certificate-key.pem"))


@pytest.mark.parametrize("path", CERTIFICATES, ids=lambda path: path.name.removesuffix(".sigstore.json"))
def test_securesystemslib_verifies_our_envelope(path, key):
    envelope = _read(json.loads(path.read_bytes())["dsseEnvelope"])
    assert set(envelope.verify([key], threshold=1)) == {key.keyid}
    assert envelope.payload == path.with_name(path.name.replace("sigstore", "statement")).read_bytes()


def test_securesystemslib_computes_the_bytes_that_we_sign(document, key):
    envelope = _read(document)
    kind = b"application/vnd.in-toto+json"
    assert envelope.pae() == b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(envelope.payload), envelope.payload)
    assert make.certificate_key.verifies(base64.b64decode(document["signatures"][0]["sig"]), envelope.pae())


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d | {"payload": _flipped(d["payload"])},
        lambda d: d | {"payload": _base64(base64.b64decode(d["payload"]).replace(b'"version":3', b'"version":4'))},
        lambda d: d | {"payload": _base64(base64.b64decode(d["payload"]) + b" ")},
        lambda d: d | {"payload": ""},
        lambda d: d | {"payloadType": "application/json"},
        lambda d: d | {"payloadType": d["payloadType"] + " "},
        lambda d: d | {"signatures": [d["signatures"][0] | {"sig": _flipped(d["signatures"][0]["sig"])}]},
        lambda d: d | {"signatures": [d["signatures"][0] | {"sig": ""}]},
        lambda d: d | {"signatures": [d["signatures"][0] | {"keyid": "0" * 64}]},
        lambda d: d | {"signatures": []},
    ],
    ids=[
        "last-byte",
        "version",
        "space",
        "no-payload",
        "type",
        "type-space",
        "signature",
        "empty-signature",
        "key-id",
        "none",
    ],
)
def test_securesystemslib_refuses_a_changed_envelope(change, document, key):
    changed = change(document)
    assert changed != document
    with pytest.raises(VerificationError):
        _read(changed).verify([key], threshold=1)


def test_securesystemslib_refuses_the_signature_of_another_certificate(document, golden, key):
    document["signatures"] = json.loads(golden("exact.sigstore.json"))["dsseEnvelope"]["signatures"]
    with pytest.raises(VerificationError):
        _read(document).verify([key], threshold=1)


def test_securesystemslib_refuses_another_key_under_the_right_name(document, key):
    for signer in (EcdsaP256Signer.generate(), Ed25519Signer.generate()):
        other = PublicKey.from_spki(signer.public_key)
        with pytest.raises(VerificationError):
            _read(document).verify([_key(other.pem, keyid=key.keyid)], threshold=1)


def test_one_signature_is_not_two(document, key):
    """Neither repeated nor demanded twice."""
    with pytest.raises(VerificationError):
        _read(document).verify([key, _key(PublicKey.from_spki(EcdsaP256Signer.generate().public_key).pem)], threshold=2)
    document["signatures"] += copy.deepcopy(document["signatures"])
    with pytest.raises(ValueError, match="Multiple signatures found"):
        _read(document)


def _key(pem: bytes, keyid: str | None = None) -> SSlibKey:
    key = PublicKey.from_pem(pem)
    kind = ("ecdsa", "ecdsa-sha2-nistp256") if key.algorithm is Algorithm.ECDSA_P256 else ("ed25519", "ed25519")
    public = pem.decode() if kind[0] == "ecdsa" else key.raw.hex()
    return SSlibKey(keyid or key.key_id, *kind, {"public": public})


def _read(document: Any) -> Envelope:
    """Of a copy: the library takes apart what it is given."""
    return Envelope.from_dict(copy.deepcopy(document))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _flipped(text: str) -> Any:
    data = base64.b64decode(text)
    return _base64(data[:-1] + bytes([data[-1] ^ 1]))
