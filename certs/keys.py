"""Keys: public keys that may be trusted, and signers that make signatures.

Three algorithms and no more: ECDSA P-256 with SHA-256 (DER signatures), Ed25519, and ML-DSA-44 (FIPS 204, pure, with an
empty context) for checkpoints alone. An algorithm always comes from the key, never from a signed document. It knows
neither what is signed nor where private keys are kept.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import NoReturn, Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)
from cryptography.x509 import Certificate

from certs.encoding import encode_base64
from certs.errors import CertificateError, Code

_FIELD = 2**255 - 19
_EDWARDS_D = -121665 * pow(121666, -1, _FIELD) % _FIELD
_ORDER_8 = int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little")
_ML_DSA_44_BYTES = 1312
_SMALL_ORDER_Y = frozenset({0, 1, _FIELD - 1, _ORDER_8, _FIELD - _ORDER_8})


class Algorithm(StrEnum):
    """Signature algorithms, by the names of Sigstore's PublicKeyDetails."""

    ECDSA_P256 = "PKIX_ECDSA_P256_SHA_256"
    ED25519 = "PKIX_ED25519"
    ML_DSA_44 = "ML_DSA_44"


@dataclass(frozen=True)
class PublicKey:
    """A key that verifies. Build it with `from_spki` or `from_pem`, which refuse weak and unknown keys.

    Attributes:
        spki: DER SubjectPublicKeyInfo.
        algorithm: read from the key itself.
    """

    spki: bytes
    algorithm: Algorithm

    @classmethod
    def from_spki(cls, spki: bytes) -> "PublicKey":
        """A P-256, Ed25519 or ML-DSA-44 key from its DER SubjectPublicKeyInfo.

        Raises:
            CertificateError: ``key-invalid`` for another kind of key, another encoding of it, or a weak point.
        """
        try:
            key = load_der_public_key(spki)
        except (ValueError, UnsupportedAlgorithm):
            raise _invalid_key("The bytes are not a public key.") from None
        if key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != spki:
            raise _invalid_key("The key is not in its one DER encoding.")
        if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
            return cls(spki, Algorithm.ECDSA_P256)
        if isinstance(key, Ed25519PublicKey):
            check_ed25519_point(key.public_bytes_raw())
            return cls(spki, Algorithm.ED25519)
        if isinstance(key, MLDSA44PublicKey):
            return cls(spki, Algorithm.ML_DSA_44)
        raise _invalid_key("The key is neither ECDSA P-256 nor Ed25519 nor ML-DSA-44.")

    @classmethod
    def from_pem(cls, pem: bytes) -> "PublicKey":
        """The same from PEM.

        Raises:
            CertificateError: ``key-invalid``.
        """
        try:
            key = load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm):
            raise _invalid_key("The text is not a PEM public key.") from None
        return cls.from_spki(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

    @classmethod
    def from_certificate(cls, certificate: Certificate) -> "PublicKey":
        """The key of an X.509 certificate.

        Raises:
            CertificateError: ``key-invalid``.
        """
        return cls.from_spki(certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

    @classmethod
    def from_raw(cls, algorithm: Algorithm, raw: bytes) -> "PublicKey":
        """An Ed25519 key from its 32 bytes (RFC 8032 section 5.1.5), or an ML-DSA-44 key from its 1312 (FIPS 204).

        Raises:
            CertificateError: ``key-invalid``.
        """
        if algorithm is Algorithm.ED25519:
            check_ed25519_point(raw)
            key: Ed25519PublicKey | MLDSA44PublicKey = Ed25519PublicKey.from_public_bytes(raw)
        elif algorithm is Algorithm.ML_DSA_44 and len(raw) == _ML_DSA_44_BYTES:
            key = MLDSA44PublicKey.from_public_bytes(raw)
        else:
            raise _invalid_key(f"These are not the bytes of a key for {algorithm}.")
        return cls(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), algorithm)

    @property
    def key_id(self) -> str:
        """SHA-256 of the SPKI DER, in hex."""
        return sha256(self.spki).hexdigest()

    @property
    def hint(self) -> str:
        """The same digest in base64, as a Sigstore bundle names a key."""
        return encode_base64(sha256(self.spki).digest())

    @property
    def pem(self) -> bytes:
        """PEM SubjectPublicKeyInfo, as openssl reads it."""
        return load_der_public_key(self.spki).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def raw(self) -> bytes:
        """The 32 bytes of an Ed25519 key, the 1312 of an ML-DSA-44 key."""
        key = load_der_public_key(self.spki)
        if not isinstance(key, Ed25519PublicKey | MLDSA44PublicKey):
            raise _invalid_key("An ECDSA key has no raw form here.")
        return key.public_bytes_raw()

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether the signature is this key's over the message; False for any bytes that are not.

        ECDSA: strict DER (RFC 3279), nothing after it. Ed25519: R and S in their one encoding, by the equation without
        the cofactor (RFC 8032 section 5.1.7).
        """
        key = load_der_public_key(self.spki)
        try:
            if isinstance(key, Ed25519PublicKey | MLDSA44PublicKey):
                key.verify(signature, message)
            elif isinstance(key, EllipticCurvePublicKey):
                key.verify(signature, message, ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True


class Signer(Protocol):
    """A private key that signs: in a file, in memory, in a token or at a service.

    ``sign`` returns a complete signature over exactly the given bytes, or raises; it never returns a partial or an
    empty one, and it may be slow. The three properties never change during a signer's life.
    """

    def sign(self, message: bytes) -> bytes:
        """The signature: DER for ECDSA, 64 bytes for Ed25519, 2420 for ML-DSA-44."""

    @property
    def public_key(self) -> bytes:
        """DER SubjectPublicKeyInfo."""

    @property
    def algorithm(self) -> Algorithm:
        """The algorithm of the key."""

    @property
    def key_id(self) -> str:
        """SHA-256 of ``public_key``, in hex."""


class Uncopied:
    """A base of signers: an object that can sign is in one place, not in a pickle, a copy or another process."""

    def __reduce__(self) -> NoReturn:
        """Refuse `pickle` and `copy`.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"{type(self).__name__} is neither pickled nor copied: it can sign")


@dataclass(frozen=True)
class _InMemory(Uncopied):
    """A base of signers whose private key is an object of this process."""

    private_key: EllipticCurvePrivateKey | Ed25519PrivateKey | MLDSA44PrivateKey = field(repr=False)

    @property
    def public_key(self) -> bytes:
        """DER SubjectPublicKeyInfo."""
        return self.private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def key_id(self) -> str:
        """SHA-256 of ``public_key``, in hex."""
        return sha256(self.public_key).hexdigest()


@dataclass(frozen=True)
class EcdsaP256Signer(_InMemory):
    """ECDSA P-256 with SHA-256, the algorithm of certificates: every HSM and KMS has it."""

    private_key: EllipticCurvePrivateKey = field(repr=False)

    algorithm = Algorithm.ECDSA_P256

    @classmethod
    def generate(cls) -> "EcdsaP256Signer":
        """A new key from the operating system's generator."""
        return cls(generate_ec_key(SECP256R1()))

    def sign(self, message: bytes) -> bytes:
        """A DER signature over the message."""
        return self.private_key.sign(message, ECDSA(SHA256()))


@dataclass(frozen=True)
class Ed25519Signer(_InMemory):
    """Ed25519 (RFC 8032), the algorithm of the log's checkpoints."""

    private_key: Ed25519PrivateKey = field(repr=False)

    algorithm = Algorithm.ED25519

    @classmethod
    def generate(cls) -> "Ed25519Signer":
        """A new key from the operating system's generator."""
        return cls(Ed25519PrivateKey.generate())

    def sign(self, message: bytes) -> bytes:
        """A signature of 64 bytes over the message."""
        return self.private_key.sign(message)


@dataclass(frozen=True)
class MlDsa44Signer(_InMemory):
    """ML-DSA-44 (FIPS 204), the log's optional second algorithm: checkpoints that outlive elliptic curves."""

    private_key: MLDSA44PrivateKey = field(repr=False)

    algorithm = Algorithm.ML_DSA_44

    @classmethod
    def generate(cls) -> "MlDsa44Signer":
        """A new key from the operating system's generator."""
        return cls(MLDSA44PrivateKey.generate())

    def sign(self, message: bytes) -> bytes:
        """A signature of 2420 bytes over the message."""
        return self.private_key.sign(message)


@dataclass(frozen=True)
class UnsafeEphemeralSigner(Uncopied):
    """A key that dies with the process: for tests. Nobody can ever sign again as the issuer of its certificates."""

    signer: EcdsaP256Signer | Ed25519Signer

    @classmethod
    def generate(cls, algorithm: Algorithm = Algorithm.ECDSA_P256) -> "UnsafeEphemeralSigner":
        """A new key that is never written anywhere."""
        return cls(EcdsaP256Signer.generate() if algorithm is Algorithm.ECDSA_P256 else Ed25519Signer.generate())

    def sign(self, message: bytes) -> bytes:
        """As the wrapped signer does."""
        return self.signer.sign(message)

    @property
    def public_key(self) -> bytes:
        """DER SubjectPublicKeyInfo."""
        return self.signer.public_key

    @property
    def algorithm(self) -> Algorithm:
        """The algorithm of the key."""
        return self.signer.algorithm

    @property
    def key_id(self) -> str:
        """SHA-256 of ``public_key``, in hex."""
        return self.signer.key_id


def check_ed25519_point(raw: bytes) -> None:
    """Refuse 32 bytes that are no safe Ed25519 public key (RFC 8032 section 5.1.3, and the points of small order).

    A key of order 1, 2, 4 or 8 verifies one signature for many messages. A second encoding of a point, or a point
    off the curve, makes verifiers disagree. A point of large order with a component of small order is accepted: under
    the equation that `PublicKey.verifies` uses, its signatures bind their messages like any other's.

    Raises:
        CertificateError: ``key-invalid``.
    """
    if len(raw) != 32:
        raise _invalid_key("An Ed25519 key has 32 bytes.")
    y = int.from_bytes(raw, "little") & ((1 << 255) - 1)
    if y >= _FIELD:
        raise _invalid_key("The Ed25519 key is not in its one encoding.")
    if y in _SMALL_ORDER_Y:
        raise _invalid_key("The Ed25519 key is a point of small order.")
    x_squared = (y * y - 1) * pow(_EDWARDS_D * y * y + 1, -1, _FIELD) % _FIELD
    if pow(x_squared, (_FIELD - 1) // 2, _FIELD) != 1:
        raise _invalid_key("The Ed25519 key is not a point of the curve.")


def _invalid_key(message: str) -> CertificateError:
    return CertificateError(
        Code.KEY_INVALID, message, remedy="use an ECDSA P-256 or Ed25519 key made by a current library"
    )
