"""DSSE envelopes (Dead Simple Signing Envelope, protocol v1): the pre-authentication encoding, signing, verifying.

The signature is over the exact payload bytes; nothing is ever serialised again to check it. It knows nothing of
what a payload says.
"""

from typing import Annotated

from pydantic import Field

from certs.encoding import shown
from certs.errors import CertificateError, Code
from certs.keys import PublicKey, Signer
from certs.wire import Base64, Digest, Wire

PAYLOAD_TYPE = "application/vnd.in-toto+json"


class Signature(Wire):
    """One signature of an envelope, with the hex SHA-256 of its key's SPKI DER."""

    sig: Base64
    keyid: Digest


class Envelope(Wire):
    """A payload and exactly one signature."""

    payload: Base64
    payload_type: str
    signatures: Annotated[tuple[Signature, ...], Field(min_length=1, max_length=1)]

    @property
    def signature(self) -> Signature:
        """The one signature."""
        return self.signatures[0]

    @property
    def signed_bytes(self) -> bytes:
        """What the signature is over."""
        return pre_authentication_encoding(self.payload_type, self.payload)


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """DSSE protocol v1: ``"DSSEv1" SP LEN(type) SP type SP LEN(body) SP body``, lengths in decimal bytes."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def sign(payload: bytes, signer: Signer) -> Envelope:
    """The signed envelope of an in-toto statement's bytes."""
    signature = signer.sign(pre_authentication_encoding(PAYLOAD_TYPE, payload))
    return Envelope(
        payload=payload, payload_type=PAYLOAD_TYPE, signatures=(Signature(sig=signature, keyid=signer.key_id),)
    )


def verify(envelope: Envelope, key: PublicKey) -> None:
    """Refuse unless the envelope holds an in-toto statement that this key signed.

    Raises:
        CertificateError: ``payload-type-unknown`` or ``signature-invalid``.
    """
    if envelope.payload_type != PAYLOAD_TYPE:
        raise CertificateError(
            Code.PAYLOAD_TYPE_UNKNOWN,
            f"The payload type is {shown(envelope.payload_type)}, not {PAYLOAD_TYPE}.",
            remedy="this is not a certificate of ours; ask the issuer what it is",
        )
    if envelope.signature.keyid != key.key_id:
        raise CertificateError(
            Code.SIGNATURE_INVALID,
            "The signature names another key than the bundle does.",
            remedy="ask the issuer for the certificate as it was issued",
        )
    if not key.verifies(envelope.signature.sig, envelope.signed_bytes):
        raise CertificateError(
            Code.SIGNATURE_INVALID,
            "The signature is not the issuer's over this statement: one of the two was changed.",
            remedy="ask the issuer for the certificate as it was issued; trust nothing it says",
        )
