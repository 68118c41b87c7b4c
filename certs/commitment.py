"""How a certificate names a person: a commitment that only the holder of its opening can tie to a name.

A manifest calls each person by ``HMAC-SHA256(opening, domain || name)``, with an opening of 32 bytes for this person in
this manifest; a certificate uses the manifest's own names. It does not know where openings come from or who has them.
"""

import hmac
from typing import Annotated, Final

from pydantic import Field

from certs.errors import CertificateError, Code
from certs.wire import Digest, Wire

OPENING_BYTES: Final = 32
DOMAIN: Final = b"mbd manifest subject v2\0"


class Opening(Wire):
    """What an issuer gives to a person, as a JSON file: the opening in hex, and the name as the issuer writes it."""

    opening: Digest
    subject: Annotated[str, Field(min_length=1)]

    @property
    def key(self) -> bytes:
        """The opening's 32 bytes."""
        return bytes.fromhex(self.opening)


def read_opening(data: bytes) -> Opening:
    """The file that an issuer gave to a person.

    Raises:
        CertificateError: ``json-*`` or ``opening-mismatch``: it is not such a file.
    """
    remedy = "give the file as `mbd certificate opening` has written it"
    return Opening.parse(data, Code.OPENING_MISMATCH, remedy=remedy)


def subject_commitment(opening: bytes, subject: str) -> str:
    """HMAC-SHA256(opening, domain || UTF-8 of the name), in hex (RFC 2104, FIPS 180-4).

    The opening has exactly 32 bytes: HMAC pads shorter keys with zeros, and one commitment would have several openings.

    Raises:
        CertificateError: ``opening-mismatch`` for an opening of another length.
    """
    if len(opening) != OPENING_BYTES:
        raise CertificateError(
            Code.OPENING_MISMATCH,
            f"An opening has {OPENING_BYTES} bytes, not {len(opening)}.",
            remedy="use the opening exactly as the issuer gave it: 64 hexadecimal digits are 32 bytes",
        )
    return hmac.digest(opening, DOMAIN + subject.encode(), "sha256").hex()
