"""Step 6: whether a log says later that a certificate, or the key that signed it, must not be relied upon.

A copy of a log is a folder or an address of C2SP tiles with a checkpoint. All of its entries are read, each held
against the checkpoint, so that the absence of a notice is shown as well as its presence. It fetches nothing itself.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Never

from certs import checkpoint as checkpoints
from certs import dsse
from certs import notice as notices
from certs.checkpoint import Checkpoint
from certs.errors import CertificateError, Code
from certs.log_reader import Fetch, LogReader
from certs.merkle import verify_consistency
from certs.note import NoteKey
from certs.notice import CertificateRevoked, KeyCompromised, Predicate
from certs.trusted_root import TrustedRoot


@dataclass(frozen=True)
class LogCopy:
    """All entries of a log up to a checkpoint that its key signed. Build it with `open_copy`.

    Attributes:
        checkpoint: what the log signed.
        signed_by: with which of the trusted keys.
        reader: its tiles, held against the checkpoint.
    """

    checkpoint: Checkpoint
    signed_by: tuple[NoteKey, ...]
    reader: LogReader


@dataclass(frozen=True)
class Logged:
    """What a certificate is to its log, as step 5 has found it.

    Attributes:
        origin: the log's name.
        leaf_index: its place.
        leaf_hash: its name in notices, hex.
        key_id: SHA-256 of its signing key's SPKI DER, hex.
        signed_at: its time stamp, or None.
    """

    origin: str
    leaf_index: int
    leaf_hash: str
    key_id: str
    signed_at: datetime | None


@dataclass(frozen=True)
class Found:
    """A notice and where it stands."""

    origin: str
    index: int
    predicate: Predicate


def open_copy(fetch: Fetch, root: TrustedRoot) -> LogCopy:
    """A copy whose checkpoint a trusted key of its log signed.

    Raises:
        CertificateError: ``checkpoint-*``, ``log-copy-invalid`` or ``tile-*``.
    """
    note = fetch("checkpoint")
    if note is None:
        _refuse_copy("It has no checkpoint.")
    try:
        text = note.decode("utf-8")
    except UnicodeDecodeError:
        _refuse_copy("Its checkpoint is not UTF-8.")
    checkpoint, signed_by = checkpoints.verify(text, [log.key for log in root.logs])
    return LogCopy(checkpoint, signed_by, LogReader(fetch, checkpoint))


def find_notices(copy: LogCopy, root: TrustedRoot) -> list[Found]:
    """Every notice of a log, in its order, each signed by a trusted certificate key.

    Raises:
        CertificateError: ``notice-malformed``, ``key-unknown``, ``signature-invalid``, or what the reader raises.
    """
    found = []
    for index, body in enumerate(copy.reader.entries(0, copy.checkpoint.size)):
        if not notices.is_notice(body):
            continue
        predicate, envelope = notices.read(body)
        dsse.verify(envelope, root.signer_by_id(envelope.signature.keyid).key)
        found.append(Found(copy.checkpoint.origin, index, predicate))
    return found


def check(logged: Logged, proven: Checkpoint, copies: Sequence[LogCopy], root: TrustedRoot) -> Checkpoint:
    """The checkpoint as of which nothing speaks against a certificate.

    Args:
        logged: the certificate.
        proven: the checkpoint under which it was.
        copies: of its own log, and of those that took over from it.
        root: what is trusted.

    Raises:
        CertificateError: ``log-copy-invalid``, ``consistency-invalid``, ``certificate-revoked``, ``key-compromised``,
            or as `find_notices` does.
    """
    own = next((copy for copy in copies if copy.checkpoint.origin == logged.origin), None)
    if own is None:
        _refuse_copy(f"None is of {logged.origin}, which has the certificate.")
    if own.checkpoint.size < proven.size:
        _refuse_copy(f"It has {own.checkpoint.size} entries, and the certificate is under {proven.size}.")
    verify_consistency(
        proven.size,
        own.checkpoint.size,
        proven.root,
        own.checkpoint.root,
        own.reader.consistency_proof(proven.size, own.checkpoint.size),
    )
    found = [notice for copy in copies for notice in find_notices(copy, root)]
    check_notices(logged, found)
    compromised = {
        notice.predicate.notice.key for notice in found if isinstance(notice.predicate.notice, KeyCompromised)
    }
    for copy in copies:
        if all(key.key.key_id in compromised for key in copy.signed_by):
            _refuse_compromised(
                f"Only keys that somebody else may hold signed the checkpoint of {copy.checkpoint.origin}."
            )
    return own.checkpoint


def check_notices(logged: Logged, found: Iterable[Found]) -> None:
    """Whether notices speak against a certificate, for whoever has a log and an index of its notices.

    Raises:
        CertificateError: ``certificate-revoked`` or ``key-compromised``.
    """
    for notice in found:
        _check_revocation(logged, notice)
        _check_compromise(logged, notice)


def _check_revocation(logged: Logged, found: Found) -> None:
    notice = found.predicate.notice
    if isinstance(notice, CertificateRevoked) and notice.leaf_hash == logged.leaf_hash:
        instead = f"; its successor is the entry with leaf hash {notice.superseded_by}" if notice.superseded_by else ""
        raise CertificateError(
            Code.CERTIFICATE_REVOKED,
            f"Entry {found.index} of {found.origin} revokes the certificate: {notice.reason}{instead}.",
            remedy="ask the issuer for the certificate that replaces it" if instead else "do not rely on it",
        )


def _check_compromise(logged: Logged, found: Found) -> None:
    """A signature that was made before a compromise has a time stamp that says so, and stands before it in the log."""
    notice = found.predicate.notice
    if not isinstance(notice, KeyCompromised) or notice.key != logged.key_id:
        return
    earlier = found.origin != logged.origin or logged.leaf_index < notice.since_index
    if logged.signed_at is None or logged.signed_at >= notice.since or not earlier:
        _refuse_compromised(
            f"Entry {found.index} of {found.origin} says that somebody else may hold the key that signed it, and "
            "nothing shows that it was signed before."
        )


def _refuse_copy(message: str) -> Never:
    raise CertificateError(
        Code.LOG_COPY_INVALID,
        f"The copy of the log cannot be used. {message}",
        remedy="fetch the log again: its checkpoint and tiles, as its operator publishes them",
    )


def _refuse_compromised(message: str) -> Never:
    raise CertificateError(
        Code.KEY_COMPROMISED, message, remedy="ask the issuer for a certificate under another key that supersedes it"
    )
