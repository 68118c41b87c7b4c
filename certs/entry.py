"""The log's leaf: a `hashedrekord` 0.0.2 entry of Rekor v2 over a DSSE envelope, so that stock clients check our log.

A leaf holds the digest of what was signed, the signature and the public key, and nothing of the statement. Stock
clients compare the digest with SHA-256 of the envelope's pre-authentication encoding, not of its payload.
"""

from hashlib import sha256
from typing import Final

from certs.dsse import Envelope
from certs.encoding import canonical_json, encode_base64
from certs.keys import PublicKey

KIND: Final = "hashedrekord"
VERSION: Final = "0.0.2"


def leaf(envelope: Envelope, key: PublicKey) -> bytes:
    """The RFC 8785 bytes that go into the log for a signed envelope."""
    return canonical_json(
        {
            "apiVersion": VERSION,
            "kind": KIND,
            "spec": {
                "hashedRekordV002": {
                    "data": {
                        "algorithm": "SHA2_256",
                        "digest": encode_base64(sha256(envelope.signed_bytes).digest()),
                    },
                    "signature": {
                        "content": encode_base64(envelope.signature.sig),
                        "verifier": {
                            "keyDetails": key.algorithm.value,
                            "publicKey": {"rawBytes": encode_base64(key.spki)},
                        },
                    },
                }
            },
        }
    )
