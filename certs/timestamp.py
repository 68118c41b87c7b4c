"""RFC 3161 time stamps, the verifying side: that an authority saw these bytes at its time.

The tokens are read and their signatures and certificate chains checked by rfc3161-client; which authority may speak for
which time is decided here. It knows neither how a token is got nor how one is made (`certs.timestamp_authority`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from typing import Final, Never

import rfc3161_client as rfc3161
from asn1crypto import cms
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs.errors import CertificateError, Code

_SHA256: Final = x509.ObjectIdentifier("2.16.840.1.101.3.4.2.1")
_SIGNATURES: Final = {
    **{f"{digest}_{algorithm}": digest for digest in ("sha256", "sha384", "sha512") for algorithm in ("ecdsa", "rsa")},
    "rsassa_pkcs1v15": None,  # names no digest
}
_MAX_TOKEN: Final = 1 << 16
_CURVES = (SECP256R1, SECP384R1)
_LEAST_RSA_BITS: Final = 3072


@dataclass(frozen=True)
class CertificateChain:
    """An authority's certificates, the one that signs tokens first and a root last. Build it with `from_der`.

    Attributes:
        certificates: at least two.
    """

    certificates: tuple[x509.Certificate, ...]

    @classmethod
    def from_der(cls, certificates: Sequence[bytes]) -> "CertificateChain":
        """A chain from its DER certificates.

        Raises:
            CertificateError: ``key-invalid``: not certificates, too few, a signing certificate that is not for time
                stamps alone (RFC 3161 section 2.3), or a weak key.
        """
        try:
            chain = tuple(x509.load_der_x509_certificate(der) for der in certificates)
        except ValueError:
            _refuse_chain("It holds something that is no certificate.")
        if tuple(certificate.public_bytes(Encoding.DER) for certificate in chain) != tuple(certificates):
            _refuse_chain("A certificate is not in its one encoding.")
        if not 2 <= len(chain) <= 8:
            _refuse_chain("It does not lead from the certificate that signs to a root.")
        for certificate in chain:
            _check_strength(certificate)
        try:
            usage = chain[0].extensions.get_extension_for_class(x509.ExtendedKeyUsage)
        except (x509.ExtensionNotFound, ValueError):
            _refuse_chain("The certificate that signs is not marked as one for time stamps.")
        if not usage.critical or tuple(usage.value) != (ExtendedKeyUsageOID.TIME_STAMPING,):
            _refuse_chain("The certificate that signs is not one for time stamps alone.")
        return cls(chain)

    @classmethod
    def from_pem(cls, pem: bytes) -> "CertificateChain":
        """The same from one PEM file.

        Raises:
            CertificateError: ``key-invalid``.
        """
        try:
            chain = x509.load_pem_x509_certificates(pem)
        except ValueError:
            _refuse_chain("The file is not PEM certificates.")
        return cls.from_der([certificate.public_bytes(Encoding.DER) for certificate in chain])

    @property
    def der(self) -> tuple[bytes, ...]:
        """The certificates, DER."""
        return tuple(certificate.public_bytes(Encoding.DER) for certificate in self.certificates)

    @property
    def pem(self) -> bytes:
        """All of them in one PEM file, as openssl reads it."""
        return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in self.certificates)

    @property
    def name(self) -> str:
        """Who signs, for a person: the common name, or the whole subject where there is none."""
        subject = self.certificates[0].subject
        common = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(common[0].value) if common else subject.rfc4514_string()

    @cached_property
    def _verifier(self) -> rfc3161.Verifier:
        leaf, *above = self.certificates
        builder = rfc3161.VerifierBuilder(tsa_certificate=leaf, intermediates=above[:-1], roots=above[-1:])
        return builder.build()

    def check(self, token: "Token", digest: bytes) -> None:
        """Refuse unless this chain's first certificate signed the token, all were valid then, and it is of the digest.

        Raises:
            CertificateError: ``timestamp-invalid``.
        """
        try:
            self._verifier.verify(token.response, digest)
        except Exception as error:  # noqa: BLE001 - of a hostile token the library lets other errors through as well
            _refuse(f"The time stamp does not verify: {error}.")


@dataclass(frozen=True)
class Token:
    """A time stamp, read and not checked.

    Attributes:
        response: as the library has it.
        made_at: the time that it states, UTC.
        issuer: of the certificate that signed it.
        serial_number: of the same.
    """

    response: rfc3161.TimeStampResponse
    made_at: datetime
    issuer: x509.Name
    serial_number: int

    def is_of(self, chain: CertificateChain) -> bool:
        """Whether it says that this chain's first certificate signed it."""
        leaf = chain.certificates[0]
        return self.issuer == leaf.issuer and self.serial_number == leaf.serial_number


def parse(token: bytes) -> Token:
    """A time stamp response (RFC 3161 section 2.4.2) of one signer over SHA-256, **without** checking its signature.

    What no signature covers has one value only: versions and the name of the signature's algorithm are what they must
    be, and there are no unsigned attributes, so that no two verifiers read one token differently.

    Raises:
        CertificateError: ``timestamp-invalid``.
    """
    if len(token) > _MAX_TOKEN:
        _refuse(f"The time stamp has more than {_MAX_TOKEN} bytes.")
    try:
        response = rfc3161.decode_timestamp_response(token)
        granted = response.status == rfc3161.PKIStatus.GRANTED and not response.status_string
        plain = granted and response.as_bytes() == token and _is_plain(response.time_stamp_token())
        (signer,) = response.signed_data.signer_infos
        imprint = response.tst_info.message_imprint
        read = Token(response, response.tst_info.gen_time, signer.issuer, signer.serial_number)
    except Exception:  # noqa: BLE001 - of a hostile token the libraries raise ValueError, KeyError, TypeError and more
        _refuse("The time stamp is no granted response of one signer in DER.")
    if not plain or imprint.hash_algorithm != _SHA256:
        _refuse("The time stamp is not over SHA-256, or has parts that nothing authenticates.")
    return read


def verify(token: Token, message: bytes, chains: Sequence[CertificateChain]) -> CertificateChain:
    """The authority that saw the message at the time that the token states.

    Args:
        token: as `parse` returns it.
        message: what was stamped; here a signature.
        chains: the authorities that are trusted at that time.

    Raises:
        CertificateError: ``timestamp-invalid`` or ``timestamp-authority-unknown``.
    """
    chain = next(filter(token.is_of, chains), None)
    if chain is None:
        raise CertificateError(
            Code.TIMESTAMP_AUTHORITY_UNKNOWN,
            "The trusted root does not know the authority that made the time stamp, or not at that time.",
            remedy="check that the trusted root is the issuer's and current; otherwise do not trust the certificate",
        )
    chain.check(token, sha256(message).digest())
    return chain


def _is_plain(token: bytes) -> bool:
    signed = cms.ContentInfo.load(token, strict=True)["content"]
    (signer,) = signed["signer_infos"]
    algorithm = signer["signature_algorithm"]
    return bool(
        (signed["version"].native, signer["version"].native) == ("v3", "v1")
        and algorithm["parameters"].native is None
        and algorithm["algorithm"].native in _SIGNATURES
        and _SIGNATURES[algorithm["algorithm"].native] in (None, signer["digest_algorithm"]["algorithm"].native)
        and signed["crls"].native is None
        and signer["unsigned_attrs"].native is None
    )


def _check_strength(certificate: x509.Certificate) -> None:
    key = certificate.public_key()
    strong = (isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, _CURVES)) or (
        isinstance(key, RSAPublicKey) and key.key_size >= _LEAST_RSA_BITS
    )
    if not strong:
        _refuse_chain(f"A key is neither ECDSA P-256 or P-384 nor RSA of {_LEAST_RSA_BITS} bits or more.")


def _refuse(message: str) -> Never:
    raise CertificateError(
        Code.TIMESTAMP_INVALID, message, remedy="ask the issuer for the certificate as it was issued"
    )


def _refuse_chain(message: str) -> Never:
    raise CertificateError(
        Code.KEY_INVALID,
        f"The time stamp authority's chain is not usable. {message}",
        remedy="use the chain as the authority publishes it, the certificate that signs first and the root last",
    )
