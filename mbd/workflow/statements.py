"""Statements of destruction as they are read: each verified under the key that signed it. It destroys nothing."""

from dataclasses import dataclass

from certs.destruction_statement import VersionDestruction, verify
from certs.dsse import Envelope
from certs.errors import Code
from mbd.records import destruction
from mbd.records.database import begin_snapshot
from mbd.records.destruction import Destruction
from mbd.workflow.system import System


@dataclass(frozen=True)
class Stated:
    """A statement as it is kept, and what it says."""

    record: Destruction
    said: VersionDestruction


def stated(system: System, line: str | None = None) -> tuple[Stated, ...]:
    """All statements, or those about one line, by line and version.

    Raises:
        CertificateError: one of them does not verify under a key of the trusted root: the database was changed.
    """
    with begin_snapshot(system.engine) as connection:
        kept = destruction.every(connection, line)
    return tuple(Stated(each, _verified(system, each)) for each in kept)


def _verified(system: System, kept: Destruction) -> VersionDestruction:
    data = kept.envelope.encode()
    remedy = "restore the database from a backup; trust no statement in it that does not verify"
    key_id = Envelope.parse(data, Code.STATEMENT_MALFORMED, remedy=remedy).signature.keyid
    return verify(data, system.keyring.trusted.signer_by_id(key_id).key)
