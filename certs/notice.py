"""Notices: log entries that say something later about what was logged or about a key, for all to read.

Unlike a certificate's leaf, which holds digests alone, a notice's leaf is the whole signed statement: whoever holds a
copy of the log sees every revocation, supersession, succession and compromise, and the absence of one. It names
certificates by leaf hash and keys by digest, and nobody. It does not know where a copy of the log comes from.
"""

from enum import StrEnum
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Field

from certs import dsse
from certs.dsse import Envelope
from certs.encoding import canonical_json, parse_json
from certs.errors import CertificateError, Code
from certs.keys import Signer
from certs.statement import STATEMENT_TYPE, Artifact, DigestSet
from certs.wire import Count, Digest, Slug, Timestamp, Wire

NOTICE: Final = "https://missing-by-design.dev/notice/v1"
MAX_BYTES: Final = (1 << 16) - 1
"""The largest log entry that C2SP tiles can hold."""

_PREFIX: Final = b'{"apiVersion":"0.0.1","kind":"notice",'
_REMEDY = "get the log's entries again; a notice of a newer kind needs a newer verifier"


class Reason(StrEnum):
    """Why a certificate must not be relied upon any more. Append only."""

    SUPERSEDED = "superseded"
    ISSUED_IN_ERROR = "issued-in-error"
    KEY_COMPROMISED = "key-compromised"
    CLAIM_WITHDRAWN = "claim-withdrawn"


class CertificateRevoked(Wire):
    """A certificate must not be relied upon; another may take its place.

    Attributes:
        leaf_hash: of the certificate's log entry.
        superseded_by: the leaf hash of the certificate that replaces it; there exactly when the reason is that.
    """

    kind: Literal["certificate-revoked"] = "certificate-revoked"
    leaf_hash: Digest
    reason: Reason
    superseded_by: Digest | None


class KeySucceeded(Wire):
    """One key takes over from another; the old key signs the notice (SHA-256 of each SPKI DER)."""

    kind: Literal["key-succeeded"] = "key-succeeded"
    role: Literal["certificate", "log"]
    old_key: Digest
    new_key: Digest


class KeyCompromised(Wire):
    """Somebody else may hold a key.

    A signature of a certificate key counts if its time stamp is before ``since`` and its entry before ``since_index``.
    A checkpoint that a log key signed counts if it is consistent with a checkpoint under another key.
    """

    kind: Literal["key-compromised"] = "key-compromised"
    key: Digest
    since: Timestamp
    since_index: Count


class LogContinued(Wire):
    """The first entry of a log that takes over from another: the last checkpoint of the old one.

    Attributes:
        origin: of the old log.
        checkpoint: SHA-256 of its last signed note.
        size: leaves in it.
        root: their root.
    """

    kind: Literal["log-continued"] = "log-continued"
    origin: Slug
    checkpoint: Digest
    size: Count
    root: Digest


Content: TypeAlias = CertificateRevoked | KeySucceeded | KeyCompromised | LogContinued


class Predicate(Wire):
    """What a notice says, and when it was signed."""

    issued_at: Timestamp
    notice: Annotated[Content, Field(discriminator="kind")]


class NoticeStatement(Wire):
    """In-toto Statement v1: ``subject`` is the certificate, key or checkpoint that it is about."""

    type_: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: Annotated[tuple[Artifact, ...], Field(min_length=1, max_length=1)]
    predicate_type: Literal["https://missing-by-design.dev/notice/v1"]
    predicate: Predicate


def notice_statement(predicate: Predicate) -> NoticeStatement:
    """The statement of a notice; its subject is what it is about."""
    name, digest = _subject(predicate.notice)
    artifact = Artifact(name=name, digest=DigestSet(sha256=digest))
    return NoticeStatement(type_=STATEMENT_TYPE, subject=(artifact,), predicate_type=NOTICE, predicate=predicate)


def leaf(predicate: Predicate, signer: Signer) -> bytes:
    """The RFC 8785 bytes that go into the log for a notice.

    Raises:
        CertificateError: ``notice-malformed``: the notice contradicts itself.
    """
    statement = notice_statement(predicate)
    _check(statement)
    return canonical_json(_entry(dsse.sign(statement.canonical(), signer)))


def is_notice(body: bytes) -> bool:
    """Whether a log entry is a notice, known or not."""
    return body.startswith(_PREFIX)


def read(body: bytes) -> tuple[Predicate, Envelope]:
    """What a notice says, and the envelope to check with `dsse.verify`. Nothing is checked of the signature.

    Raises:
        CertificateError: ``json-*`` or ``notice-malformed``, also for a notice of a kind that is not known here.
    """
    if len(body) > MAX_BYTES or not is_notice(body):
        raise _malformed("It is no notice.")
    entry = parse_json(body)
    spec = entry.get("spec")
    if not isinstance(spec, dict) or set(spec) != {"dsseEnvelope"} or canonical_json(entry) != body:
        raise _malformed("It is not in the one form that a notice has.")
    envelope = Envelope.parse(canonical_json(spec["dsseEnvelope"]), Code.NOTICE_MALFORMED, remedy=_REMEDY)
    if entry != _entry(envelope):
        raise _malformed("It has other members than a notice.")
    statement = NoticeStatement.parse(envelope.payload, Code.NOTICE_MALFORMED, remedy=_REMEDY)
    _check(statement)
    return statement.predicate, envelope


def _entry(envelope: Envelope) -> dict[str, Any]:
    return {
        "apiVersion": "0.0.1",
        "kind": "notice",
        "spec": {"dsseEnvelope": envelope.model_dump(mode="json", by_alias=True)},
    }


def _subject(notice: Content) -> tuple[str, str]:
    match notice:
        case CertificateRevoked():
            return "certificate", notice.leaf_hash
        case KeySucceeded():
            return "key", notice.new_key
        case KeyCompromised():
            return "key", notice.key
        case LogContinued():
            return "checkpoint", notice.checkpoint


def _check(statement: NoticeStatement) -> None:
    notice = statement.predicate.notice
    named = statement.subject[0]
    if (named.name, named.digest.sha256) != _subject(notice):
        raise _malformed("Its subject is not what it is about.")
    if isinstance(notice, CertificateRevoked):
        if (notice.superseded_by is not None) != (notice.reason is Reason.SUPERSEDED):
            raise _malformed("A certificate is superseded by another one, or it is not superseded.")
        if notice.superseded_by == notice.leaf_hash:
            raise _malformed("A certificate cannot supersede itself.")
    if isinstance(notice, KeySucceeded) and notice.old_key == notice.new_key:
        raise _malformed("A key cannot succeed itself.")


def _malformed(message: str) -> CertificateError:
    return CertificateError(
        Code.NOTICE_MALFORMED, f"An entry of the log is a notice that cannot be read. {message}", remedy=_REMEDY
    )
