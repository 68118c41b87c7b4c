"""Certificates in other wrappings, for tools that read no bundles: conveniences, for a certificate is its bundle."""

from base64 import urlsafe_b64encode

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from certs.encoding import canonical_json
from certs.keys import Algorithm
from certs.verification import verify
from mbd.workflow.system import System

_NAMES = {Algorithm.ECDSA_P256: "ES256", Algorithm.ED25519: "Ed25519"}
_SCALAR_BYTES = 32


def export_jws(system: System, bundle: bytes) -> str:
    """A verified certificate's statement, signed once more as a compact JWS (RFC 7515, RFC 7518, RFC 9864).

    Its header has registered members alone: strict readers refuse others. Log, time stamp and witnesses it has not.

    Raises:
        VerificationError: the bundle does not verify under this deployment's trusted root.
    """
    verified = verify(bundle, system.keyring.trusted_root, at=system.clock())
    signer = system.keyring.certificate
    header = {"alg": _NAMES[signer.algorithm], "kid": signer.key_id, "typ": "in-toto+json"}
    signed = f"{_encode(canonical_json(header))}.{_encode(verified.statement.canonical())}"
    signature = signer.sign(signed.encode())
    if signer.algorithm is Algorithm.ECDSA_P256:
        signature = b"".join(part.to_bytes(_SCALAR_BYTES) for part in decode_dss_signature(signature))
    return f"{signed}.{_encode(signature)}"


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
