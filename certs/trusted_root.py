"""What a verifier trusts: logs, time stamp authorities and the keys that sign certificates, each in its window.

The file is a Sigstore TrustedRoot v0.1 (stock clients read the log from it) with one more member, `certificateKeys`,
because Sigstore has no place there for plain keys and lets clients bring them as a map from hint to key. Clients that
refuse unknown members need that one taken out. We refuse all others: what a verifier trusts must not be guessed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import Field

from certs.encoding import canonical_json, encode_base64, shown
from certs.errors import CertificateError, Code
from certs.keys import Algorithm, PublicKey
from certs.note import NoteKey
from certs.timestamp import CertificateChain
from certs.wire import Base64, LogId, Timestamp, Wire

MEDIA_TYPE: Final = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
_REMEDY = "fetch the trusted root again from where the issuer publishes it, by a way that you trust"


class ValidFor(Wire):
    """When a key may be relied upon: from ``start`` to ``end``, both included; without ``end``, for good."""

    start: Timestamp
    end: Timestamp | None = None

    def covers(self, at: datetime) -> bool:
        """Whether a time lies in the window."""
        return self.start <= at and (self.end is None or at <= self.end)

    def ended(self, at: datetime) -> "ValidFor":
        """The window with an end. An end that it has is never moved to a later time."""
        return ValidFor(start=self.start, end=at if self.end is None else min(at, self.end))


class TrustedKey(Wire):
    """A public key and its window."""

    raw_bytes: Base64
    key_details: Algorithm
    valid_for: ValidFor


class LogInstance(Wire):
    """One log and one of its keys."""

    base_url: Annotated[str, Field(pattern=r"^https://[^\s+]+$")]
    hash_algorithm: Literal["SHA2_256"]
    public_key: TrustedKey
    log_id: LogId


class DistinguishedName(Wire):
    """Who an authority says it is."""

    common_name: str


class DerCertificate(Wire):
    """An X.509 certificate."""

    raw_bytes: Base64


class X509Chain(Wire):
    """The certificate that signs first, a root last."""

    certificates: Annotated[tuple[DerCertificate, ...], Field(min_length=2, max_length=8)]


class AuthorityInstance(Wire):
    """One time stamp authority."""

    subject: DistinguishedName
    uri: str | None = None
    cert_chain: X509Chain
    valid_for: ValidFor


class CertificateKey(Wire):
    """One key that signs certificates, by its hint."""

    hint: str
    public_key: TrustedKey


class TrustedRootFile(Wire):
    """The file."""

    media_type: Literal["application/vnd.dev.sigstore.trustedroot+json;version=0.1"]
    tlogs: Annotated[tuple[LogInstance, ...], Field(min_length=1)]
    timestamp_authorities: Annotated[tuple[AuthorityInstance, ...], Field(min_length=1)] | None = None
    certificate_keys: Annotated[tuple[CertificateKey, ...], Field(min_length=1)]


@dataclass(frozen=True)
class TrustedLog:
    """A log that is trusted during a window."""

    key: NoteKey
    valid_for: ValidFor


@dataclass(frozen=True)
class TrustedSigner:
    """A certificate key that is trusted during a window."""

    key: PublicKey
    valid_for: ValidFor


@dataclass(frozen=True)
class TrustedAuthority:
    """A time stamp authority that is trusted for times in a window."""

    chain: CertificateChain
    valid_for: ValidFor
    uri: str | None = None


@dataclass(frozen=True)
class TrustedRoot:
    """What is trusted, checked: weak keys and wrong ids never get here.

    Attributes:
        logs: the logs' keys.
        signers: the certificate keys.
        authorities: who may state times.
    """

    logs: tuple[TrustedLog, ...]
    signers: tuple[TrustedSigner, ...]
    authorities: tuple[TrustedAuthority, ...] = ()

    def signer(self, hint: str) -> TrustedSigner:
        """The certificate key of that hint.

        Raises:
            CertificateError: ``key-unknown``.
        """
        for signer in self.signers:
            if signer.key.hint == hint:
                return signer
        raise CertificateError(
            Code.KEY_UNKNOWN,
            f"The trusted root does not know the key {shown(hint)} that the certificate names.",
            remedy="check that the trusted root is the issuer's and current; otherwise do not trust the certificate",
        )

    def signer_by_id(self, key_id: str) -> TrustedSigner:
        """The certificate key of that SHA-256 (hex) of its SPKI DER.

        Raises:
            CertificateError: ``key-unknown``.
        """
        return self.signer(encode_base64(bytes.fromhex(key_id)))

    def log(self, log_id: bytes) -> TrustedLog:
        """The log of that id.

        Raises:
            CertificateError: ``log-unknown``.
        """
        for log in self.logs:
            if log.key.log_id == log_id:
                return log
        raise CertificateError(
            Code.LOG_UNKNOWN,
            "The trusted root does not know the log that the certificate names.",
            remedy="check that the trusted root is the issuer's and current; otherwise do not trust the certificate",
        )

    def chains(self, at: datetime) -> list[CertificateChain]:
        """The authorities that may state this time."""
        return [authority.chain for authority in self.authorities if authority.valid_for.covers(at)]


def build_trusted_root(
    logs: Sequence[TrustedLog], signers: Sequence[TrustedSigner], authorities: Sequence[TrustedAuthority] = ()
) -> bytes:
    """The published file, in canonical form; the first log is the current one."""
    file = TrustedRootFile(
        media_type=MEDIA_TYPE,
        tlogs=tuple(
            LogInstance(
                hash_algorithm="SHA2_256",
                base_url=f"https://{log.key.name}",
                public_key=_trusted_key(log.key.key, log.valid_for),
                log_id=LogId(key_id=log.key.log_id),
            )
            for log in logs
        ),
        timestamp_authorities=tuple(
            AuthorityInstance(
                subject=DistinguishedName(common_name=authority.chain.name),
                uri=authority.uri,
                cert_chain=X509Chain(certificates=tuple(DerCertificate(raw_bytes=der) for der in authority.chain.der)),
                valid_for=authority.valid_for,
            )
            for authority in authorities
        )
        or None,
        certificate_keys=tuple(
            CertificateKey(hint=signer.key.hint, public_key=_trusted_key(signer.key, signer.valid_for))
            for signer in signers
        ),
    )
    return canonical_json(file.model_dump(mode="json", by_alias=True, exclude_none=True))


def parse(data: bytes) -> TrustedRoot:
    """The trusted root from its file.

    Raises:
        CertificateError: ``json-*``, ``trusted-root-malformed`` or ``key-invalid``.
    """
    file = TrustedRootFile.parse(data, Code.TRUSTED_ROOT_MALFORMED, remedy=_REMEDY)
    logs = []
    for instance in file.tlogs:
        log = TrustedLog(
            NoteKey(instance.base_url.removeprefix("https://"), _public_key(instance.public_key)),
            instance.public_key.valid_for,
        )
        if log.key.log_id != instance.log_id.key_id:
            raise _malformed(f"The id of the log at {instance.base_url} does not fit its name and key.")
        logs.append(log)
    signers = []
    for entry in file.certificate_keys:
        signer = TrustedSigner(_public_key(entry.public_key), entry.public_key.valid_for)
        if signer.key.algorithm is Algorithm.ML_DSA_44:
            raise _malformed("Certificates are not signed with ML-DSA-44.")
        if signer.key.hint != entry.hint:
            raise _malformed(f"The hint {shown(entry.hint)} is not that of its key.")
        signers.append(signer)
    if len({log.key.log_id for log in logs}) < len(logs) or len({s.key.hint for s in signers}) < len(signers):
        raise _malformed("A key stands in it twice.")
    return TrustedRoot(tuple(logs), tuple(signers), tuple(map(_authority, file.timestamp_authorities or ())))


def _authority(instance: AuthorityInstance) -> TrustedAuthority:
    chain = CertificateChain.from_der([certificate.raw_bytes for certificate in instance.cert_chain.certificates])
    if chain.name != instance.subject.common_name:
        raise _malformed(f"The time stamp authority {shown(instance.subject.common_name)} is {shown(chain.name)}.")
    return TrustedAuthority(chain, instance.valid_for, instance.uri)


def _trusted_key(key: PublicKey, valid_for: ValidFor) -> TrustedKey:
    return TrustedKey(raw_bytes=key.spki, key_details=key.algorithm, valid_for=valid_for)


def _public_key(trusted: TrustedKey) -> PublicKey:
    key = PublicKey.from_spki(trusted.raw_bytes)
    if key.algorithm is not trusted.key_details:
        raise _malformed(f"A key is called {trusted.key_details} and is {key.algorithm}.")
    return key


def _malformed(message: str) -> CertificateError:
    return CertificateError(Code.TRUSTED_ROOT_MALFORMED, f"The trusted root is not usable. {message}", remedy=_REMEDY)
