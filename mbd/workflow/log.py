"""The pen of the log: signs checkpoints after commits, publishes what was logged, never signs a second history."""

from datetime import datetime

from sqlalchemy import Connection

from certs import bundle as bundles
from certs import checkpoint as checkpoints
from certs import entry, rules
from certs.bundle import Bundle
from certs.checkpoint import Checkpoint as SignedHead
from certs.dsse import Envelope, sign
from certs.errors import Code
from certs.payload import Statement, to_payload
from certs.statement import NoiseCommitment, commitment_statement
from mbd.durable import write_durably
from mbd.errors import LedgerError, TimeStampError, WitnessError
from mbd.privacy.noise import ALGORITHM
from mbd.records import commitments, ledger
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.ledger import Appended, Checkpoint
from mbd.workflow.cosigning import collect, policy_for_verifiers
from mbd.workflow.keyring import Keyring, publish_derived
from mbd.workflow.office import refuse_rollback
from mbd.workflow.publication import log_folder, publish
from mbd.workflow.system import System
from mbd.workflow.time_stamping import stamp

_ROUNDS = 5


def refuse_inconsistent(system: System, connection: Connection, statement: Statement, *, made_at: datetime) -> None:
    """Never log what a verifier would refuse: a leaf is for ever. `made_at` may be ahead of a clock that was set back.

    Raises:
        CertificateError: the statement contradicts itself.
    """
    window = system.keyring.trusted.signer(system.keyring.certificate_key.hint).valid_for
    at = max(system.clock(), made_at)
    rules.check(statement, signer_window=window, leaf_index=ledger.head(connection).size, at=at)


def append_envelope(connection: Connection, envelope: Envelope, keyring: Keyring) -> Appended:
    """Append a signed envelope's leaf, in the caller's locked transaction."""
    return ledger.append(connection, entry.leaf(envelope, keyring.certificate_key))


def sign_checkpoint(system: System) -> Checkpoint:
    """Sign the log's head, unless it was signed already, remember it outside the database, and publish it.

    Crash points: between the commit and the file the remembered checkpoint is older than the database, which is safe;
    so is the published one, until the next call brings it up to date.

    Raises:
        LedgerError: see `refuse_rollback` and `publish`.
    """
    with begin_locked(system.engine) as connection:
        refuse_rollback(system, connection)
        head = ledger.head(connection)
        latest = ledger.latest_checkpoint(connection)
        if latest is None or latest.head != head:
            signed = SignedHead(system.keyring.origin, head.size, head.root)
            note = checkpoints.sign(signed, system.keyring.logs, at=system.clock())
            latest = ledger.store_checkpoint(connection, Checkpoint(head, note))
    write_durably(system.checkpoint_path, latest.note.encode())
    publish(system.engine, log_folder(system.home), read_note=system.keyring.read_checkpoint)
    return latest


def cosigned_checkpoint(system: System) -> Checkpoint:
    """Sign the log's head unless it was signed already, and have it cosigned as the policy wants.

    Raises:
        LedgerError: see `refuse_rollback`, and `mbd.workflow.cosigning.collect` for the alarms of witnesses.
        WitnessError: too few witnesses cosigned.
    """
    for _ in range(_ROUNDS):
        signed = sign_checkpoint(system)
        cosigned = collect(system, signed)
        if cosigned is not None:
            if cosigned != signed:
                publish(system.engine, log_folder(system.home), read_note=system.keyring.read_checkpoint)
            return cosigned
    raise WitnessError(
        "The log has grown each time before its witnesses had answered.",
        remedy="try again when fewer are writing to it",
    )


def evidence(system: System, envelope: Envelope, index: int) -> Bundle:
    """The bundle of a logged envelope: a time stamp over its signature, and its proof under a signed checkpoint.

    Raises:
        TimeStampError: there is no time stamp to be had; nothing is lost, a later call gets one.
        WitnessError: too few witnesses cosigned; likewise.
        LedgerError: see `refuse_rollback`.
    """
    keyring = system.keyring
    signer = keyring.trusted.signer_by_id(envelope.signature.keyid)
    token = stamp(system, envelope.signature.sig)
    signed = cosigned_checkpoint(system)
    with begin_snapshot(system.engine) as connection:
        path = ledger.inclusion_proof(connection, index, signed.head.size)
        body = ledger.leaf(connection, index)
    return bundles.build(
        envelope,
        signer.key,
        log_id=keyring.note_key.log_id,
        index=index,
        tree_size=signed.head.size,
        path=path,
        body=body,
        checkpoint=signed.note,
        timestamps=[token],
    )


def commit_to_noise(system: System) -> bool:
    """Log the commitment to the noise secret, once, before any request is known, and publish its own certificate.

    What verifiers need beside it is published too: the keys and the policy, as they are now.

    Returns whether that certificate is published: it waits, as every one does, for a time stamp and enough witnesses,
    and nobody's deletion waits for it.

    Crash points: the envelope is on disk before its leaf is, and the published bundle is made from both; whatever is
    missing is made when this is called again.

    Raises:
        LedgerError: the log holds a commitment to another secret.
    """
    keyring, published = system.keyring, system.home / "published"
    publish_derived(system.home)
    write_durably(published / "tlog-policy", policy_for_verifiers(system))
    envelope_path, bundle_path = published / "noise-commitment.dsse.json", published / "noise-commitment.sigstore.json"
    with begin_locked(system.engine) as connection:
        refuse_rollback(system, connection)
        known = commitments.noise_commitment(connection)
        if known is None:
            now = system.clock()
            predicate = NoiseCommitment(commitment=keyring.noise.commitment, algorithm=ALGORITHM, created_at=now)
            envelope = sign(to_payload(commitment_statement(predicate)), keyring.certificate)
            write_durably(envelope_path, envelope.canonical())
            index = append_envelope(connection, envelope, keyring).leaf_index
            known = commitments.NoiseCommitment(keyring.noise.commitment, index, now)
            commitments.record_noise_commitment(connection, known)
    if not keyring.noise.matches(known.commitment):
        raise LedgerError(
            "The noise secret in the key folder is not the one that the log commits to.",
            remedy="restore keys/noise.secret from its backup",
        )
    if bundle_path.exists():
        return True
    envelope = Envelope.parse(
        envelope_path.read_bytes(), Code.STATEMENT_MALFORMED, remedy=f"restore {envelope_path} from a backup"
    )
    try:
        bundle = evidence(system, envelope, known.leaf_index)
    except (TimeStampError, WitnessError):
        return False
    write_durably(bundle_path, bundle.canonical())
    return True
