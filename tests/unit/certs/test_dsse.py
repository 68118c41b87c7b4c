"""DSSE: the protocol's own example, and what must not verify."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicNumbers
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from certs import dsse
from certs.dsse import Envelope, Signature, pre_authentication_encoding
from certs.errors import CertificateError, Code
from certs.keys import EcdsaP256Signer, Ed25519Signer, PublicKey


def test_the_encoding_of_the_protocol_document():
    encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_the_signature_of_the_protocol_document():
    """Section "Test Vectors" of DSSE's protocol.md gives r || s; a certificate has DER."""
    numbers = EllipticCurvePublicNumbers(
        46950820868899156662930047687818585632848591499744589407958293238635476079160,
        5640078356564379163099075877009565129882514886557779369047442380624545832820,
        SECP256R1(),
    )
    key = PublicKey.from_spki(numbers.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    raw = base64.b64decode("A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA==")
    signature = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    signed = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    assert key.verifies(signature, signed)
    assert not key.verifies(signature, signed + b" ")
    assert not key.verifies(raw, signed)
    envelope = Envelope(
        payload=b"hello world",
        payload_type="http://example.com/HelloWorld",
        signatures=(Signature(sig=signature, keyid=key.key_id),),
    )
    with pytest.raises(CertificateError) as failure:
        dsse.verify(envelope, key)
    assert failure.value.code is Code.PAYLOAD_TYPE_UNKNOWN


def test_lengths_count_bytes_and_not_characters():
    assert pre_authentication_encoding("é", "é".encode()) == b"DSSEv1 2 \xc3\xa9 2 \xc3\xa9"


@pytest.mark.parametrize("generate", [EcdsaP256Signer.generate, Ed25519Signer.generate])
def test_what_is_signed_verifies_and_nothing_else_does(generate):
    signer = generate()
    key = PublicKey.from_spki(signer.public_key)
    envelope = dsse.sign(b"{}", signer)
    dsse.verify(envelope, key)
    for changed, code in (
        (envelope.model_copy(update={"payload": b"[]"}), Code.SIGNATURE_INVALID),
        (envelope.model_copy(update={"payload_type": "text/plain"}), Code.PAYLOAD_TYPE_UNKNOWN),
        (_signed(envelope, keyid="0" * 64), Code.SIGNATURE_INVALID),
        (_signed(envelope, sig=b""), Code.SIGNATURE_INVALID),
    ):
        with pytest.raises(CertificateError) as failure:
            dsse.verify(changed, key)
        assert failure.value.code is code
    with pytest.raises(CertificateError, match="another key"):
        dsse.verify(envelope, PublicKey.from_spki(generate().public_key))


def test_a_signature_by_a_key_of_the_other_algorithm_does_not_verify():
    signer, other = EcdsaP256Signer.generate(), Ed25519Signer.generate()
    key = PublicKey.from_spki(other.public_key)
    with pytest.raises(CertificateError, match="not the issuer's"):
        dsse.verify(_signed(dsse.sign(b"{}", signer), keyid=key.key_id), key)


def _signed(envelope: Envelope, **changes) -> Envelope:
    fields = {"sig": envelope.signature.sig, "keyid": envelope.signature.keyid} | changes
    return envelope.model_copy(update={"signatures": (Signature(**fields),)})
