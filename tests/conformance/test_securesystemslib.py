"""A DSSE envelope of ours under a library that we did not write."""

import json

import pytest
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from certs.keys import PublicKey
from certs.vectors import make


@pytest.fixture
def envelope():
    bundle = json.loads((make.V1 / "certified.sigstore.json").read_bytes())
    return Envelope.from_dict(bundle["dsseEnvelope"])


@pytest.fixture
def key():
    pem = (make.V1 / "certificate-key.pem").read_bytes()
    return SSlibKey(
        PublicKey.from_pem(pem).key_id,
        "ecdsa",
        "ecdsa-sha2-nistp256",
        {"public": pem.decode()},
    )


def test_securesystemslib_verifies_our_envelope(envelope, key):
    assert set(envelope.verify([key], threshold=1)) == {key.keyid}
    assert envelope.payload == (make.V1 / "certified.statement.json").read_bytes()


def test_securesystemslib_refuses_a_changed_payload(envelope, key):
    envelope.payload = envelope.payload.replace(b'"version":3', b'"version":4')
    with pytest.raises(VerificationError):
        envelope.verify([key], threshold=1)
