"""What the log says later: revokes certificates, and issues those that take the place of others.

A notice is signed with the certificate key and logged with all it says, so that every copy of the log shows it.
"""

from sqlalchemy import Connection

from certs import bundle as bundles
from certs import entry
from certs import notice as wire
from certs.dsse import sign
from certs.merkle import leaf_hash
from certs.notice import CertificateRevoked, Content, Predicate, Reason
from certs.payload import from_payload, to_payload
from certs.statement import CommitmentStatement
from mbd.errors import RecordsError
from mbd.records import certificates, commitments, ledger, notices
from mbd.records.certificates import Certificate
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.ledger import Appended
from mbd.records.notices import Notice
from mbd.workflow.issuance import envelope_of
from mbd.workflow.log import refuse_inconsistent
from mbd.workflow.office import refuse_rollback
from mbd.workflow.registration import register_reissue
from mbd.workflow.system import System


def log_notice(system: System, connection: Connection, content: Content) -> Appended:
    """Sign and append a notice, in the caller's locked transaction.

    Raises:
        CertificateError: ``notice-malformed``.
    """
    predicate = Predicate(issued_at=system.clock(), notice=content)
    appended = ledger.append(connection, wire.leaf(predicate, system.keyring.certificate))
    notices.record(connection, notice_of(appended.leaf_index, predicate))
    return appended


def notice_of(index: int, predicate: Predicate) -> Notice:
    """How the records index a notice."""
    about = wire.notice_statement(predicate).subject[0].digest.sha256
    return Notice(index, predicate.notice.kind, about, predicate.issued_at)


def leaf_hash_of(connection: Connection, certificate: Certificate) -> str:
    """How notices name a certificate: the hash of its log entry, hex."""
    if certificate.leaf_index is not None:
        return leaf_hash(ledger.leaf(connection, certificate.leaf_index)).hex()
    assert certificate.bundle is not None, "a log is retired when all its certificates are whole"
    return leaf_hash(bundles.parse(certificate.bundle.encode()).entry.canonicalized_body).hex()


def revoke_certificate(system: System, certificate_id: str, reason: Reason) -> Notice:
    """Say in the log that a certificate must not be relied upon. Saying it again changes nothing.

    Crash point: the notice and its index are one transaction.

    Raises:
        RecordsError: there is no such certificate, or its reason is that of `reissue`.
    """
    if reason is Reason.SUPERSEDED:
        raise RecordsError(
            "A certificate is superseded by another one.", remedy="issue that with `mbd certificate reissue`"
        )
    with system.exclusive(), begin_locked(system.engine) as connection:
        refuse_rollback(system, connection)
        about = leaf_hash_of(connection, certificates.get(connection, certificate_id))
        known = notices.about(connection, about)
        if not known:
            log_notice(system, connection, CertificateRevoked(leaf_hash=about, reason=reason, superseded_by=None))
            known = notices.about(connection, about)
    return known[0]


def reissue(system: System, certificate_id: str) -> Certificate:
    """Sign what a certificate says once more, with today's key; the log says that the old one is superseded.

    Crash point: the new certificate, its leaf and the notice are one transaction; its bundle is made afterwards.

    Raises:
        RecordsError: there is no such certificate, it is superseded already, or it was revoked for another reason.
        CertificateError: the statement contradicts itself under today's key.
    """
    with system.exclusive(), begin_locked(system.engine) as connection:
        refuse_rollback(system, connection)
        old = certificates.get(connection, certificate_id)
        about = leaf_hash_of(connection, old)
        if old.superseded_by is None and notices.about(connection, about):
            raise RecordsError(
                f"The certificate '{old.id}' was revoked, and what it says with it.", remedy="make the deletion anew"
            )
        statement = from_payload(envelope_of(old).payload)
        assert not isinstance(statement, CommitmentStatement), "records hold deletions and absences"
        predicate = statement.predicate.model_copy(update={"supersedes": about})
        renewed = statement.model_copy(update={"predicate": predicate})
        refuse_inconsistent(system, connection, renewed, made_at=old.created_at)
        envelope = sign(to_payload(renewed), system.keyring.certificate)
        appended = ledger.append(connection, entry.leaf(envelope, system.keyring.certificate_key))
        new = register_reissue(connection, old=old, envelope=envelope, entry=appended, now=system.clock())
        openings = commitments.key_of(connection, old.id)
        if openings is not None:
            commitments.keep_key(connection, new.id, openings)
        revoked = CertificateRevoked(leaf_hash=about, reason=Reason.SUPERSEDED, superseded_by=appended.leaf_hash.hex())
        log_notice(system, connection, revoked)
    return new


def signed_by(system: System, key_id: str) -> list[Certificate]:
    """The current certificates under one key, in the log's order."""
    with begin_snapshot(system.engine) as connection:
        issued = certificates.current(connection)
    return [each for each in issued if envelope_of(each).signature.keyid == key_id]
