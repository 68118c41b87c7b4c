"""After a database was restored: what the log lacks, where it can be had, and which certificates the records have lost.

The log alone can be made whole again, from a copy of its public files. What the backup has lost beside it (requests,
suppressed channels, certificates) is named, for people to file again. It decides nothing about either.
"""

from dataclasses import dataclass

from sqlalchemy import Connection

from certs import bundle as bundles
from certs import notice as wire
from certs.checkpoint import Checkpoint as SignedHead
from certs.checkpoint import verify as verify_note
from certs.errors import CertificateError
from certs.log_reader import LogReader
from certs.payload import from_payload
from certs.statement import CommitmentStatement
from mbd.durable import write_durably
from mbd.errors import LedgerError, RecordsError, UnreachableLogError
from mbd.records import certificates, ledger, notices
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.ledger import Checkpoint, TreeHead
from mbd.workflow.log_source import CHECKPOINT, FolderSource, Source
from mbd.workflow.notices import notice_of
from mbd.workflow.publication import log_folder
from mbd.workflow.system import System


@dataclass(frozen=True)
class Lost:
    """A certificate that was issued and that the records do not have: its request must be filed again.

    Attributes:
        id: the certificate's folder.
        line: the model line.
        version: the version that it is about.
        modalities: what was withdrawn.
        kind: of the request's scope.
        requested_at: when, as the certificate says it (ISO 8601).
        request: SHA-256 of the request.
    """

    id: str
    line: str
    version: int
    modalities: tuple[str, ...]
    kind: str
    requested_at: str
    request: str


@dataclass(frozen=True)
class Restoration:
    """What a restored database lacks.

    Attributes:
        head: of the log in the database.
        remembered: the largest head that is known to have been signed; None while nothing was.
        forked: the log in the database is not the beginning of what was signed.
        copy: the size up to which the public copy of this deployment has the log; 0 without one.
        lost: certificates that are on disk and not in the records.
    """

    head: TreeHead
    remembered: TreeHead | None
    forked: bool
    copy: int
    lost: tuple[Lost, ...]

    @property
    def missing(self) -> int:
        """How many leaves the log lacks."""
        return max(0, self.remembered.size - self.head.size) if self.remembered else 0

    @property
    def whole(self) -> bool:
        """Whether nothing is missing."""
        return not (self.missing or self.forked or self.lost)


def check_restored(system: System) -> Restoration:
    """Hold a database against what is remembered outside of it. Open the deployment to inspect it; nothing is changed.

    Raises:
        LedgerError: the log has no head at all.
    """
    public = _public(system)
    with begin_snapshot(system.engine) as connection:
        head = ledger.head(connection)
        heads = [public] if public else []
        if system.checkpoint_path.exists():
            heads.append(system.keyring.read_checkpoint(system.checkpoint_path.read_text("utf-8")))
        forked = any(each.size <= head.size and ledger.root_at(connection, each.size) != each.root for each in heads)
        lost = _lost(system, connection)
    remembered = max(heads, key=lambda each: each.size, default=None)
    return Restoration(head, remembered, forked, public.size if public else 0, lost)


def recover_log(system: System, source: Source) -> int:
    """Append the leaves that the log lacks, from a copy of its public files. Returns how many they were.

    They are the leaves that were signed, or nothing is appended: the copy's checkpoint is ours, its files lead to that
    checkpoint's root, and with them the log has that root. What else the database has lost stays lost.

    Crash point: leaves and checkpoint are one transaction; the file of the checkpoint is written after it.

    Raises:
        LedgerError: the copy ends before what is remembered, or the log in the database is not its beginning.
        UnreachableLogError: the copy cannot be read, or has no checkpoint of ours.
    """
    signed, note = _checkpoint_of(system, source)
    with system.exclusive(), begin_locked(system.engine) as connection:
        state = check_restored(system)
        before = ledger.head(connection)
        if state.remembered is not None and signed.size < state.remembered.size:
            raise LedgerError(
                f"The copy has {signed.size} leaves, and {state.remembered.size} were signed.",
                remedy="use a newer copy: a mirror's, a monitor's, or that of a web server",
            )
        try:
            reader = LogReader(source.fetch, signed)
            fits = signed.size >= before.size and reader.root_at(before.size) == before.root
            missing = list(reader.entries(before.size, signed.size)) if fits else []
        except CertificateError as error:
            raise UnreachableLogError(
                f"The copy does not verify: {error.message}", remedy="use another copy"
            ) from error
        if not fits:
            raise LedgerError(
                "The log in the database is not the beginning of the copy: one of the two has forked.",
                remedy="restore another backup, or retire this log's origin",
            )
        for appended, body in zip(ledger.append_many(connection, missing), missing, strict=True):
            if wire.is_notice(body):
                notices.record(connection, notice_of(appended.leaf_index, wire.read(body)[0]))
        latest = ledger.latest_checkpoint(connection)
        if latest is None or latest.head.size < signed.size:
            ledger.store_checkpoint(connection, Checkpoint(TreeHead(signed.size, signed.root), note))
    write_durably(system.checkpoint_path, note.encode())
    return len(missing)


def public_copy(system: System) -> Source:
    """The deployment's own public files."""
    return FolderSource(log_folder(system.home))


def _public(system: System) -> TreeHead | None:
    path = log_folder(system.home) / CHECKPOINT
    return system.keyring.read_checkpoint(path.read_text("utf-8")) if path.exists() else None


def _checkpoint_of(system: System, source: Source) -> tuple[SignedHead, str]:
    data = source.fetch(CHECKPOINT)
    try:
        note = (data or b"").decode("utf-8")
        return verify_note(note, system.keyring.log_keys)[0], note
    except (CertificateError, UnicodeDecodeError) as error:
        raise UnreachableLogError("The copy has no checkpoint of this log.", remedy="use a copy of this log") from error


def _lost(system: System, connection: Connection) -> tuple[Lost, ...]:
    found = []
    for path in sorted((system.home / "certificates").glob("*/mdc.sigstore.json")):
        try:
            certificates.get(connection, path.parent.name)
        except RecordsError:
            found.append(_described(path.parent.name, path.read_bytes()))
    return tuple(found)


def _described(name: str, data: bytes) -> Lost:
    statement = from_payload(bundles.parse(data).dsse_envelope.payload)
    assert not isinstance(statement, CommitmentStatement), "folders of certificates hold deletions and absences"
    request, lineage = statement.predicate.request, statement.predicate.lineage
    return Lost(
        name,
        lineage.model_line,
        lineage.version,
        tuple(request.scope.modalities),
        request.scope.kind,
        request.requested_at.isoformat(),
        request.digest,
    )
