"""The deletion workflow: delete from every live line what was filed, certify, log, retire.

Recovery is the normal path. Each revocation ends completed, whatever dies in between: `resume` goes through the same
steps, and what a step had finished is found, not done again. One transaction makes a certificate, its log entry, the
new version and the charge to the budget real together; before it nothing is visible, after it only files are left.
"""

import json
import secrets
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from certs import rules
from certs.dsse import Envelope, sign
from certs.errors import Code
from certs.statement import DeletionStatement, to_payload
from mbd.cohort import folder
from mbd.cohort.cohort import EVERYONE, Cohort, Pair, Partition
from mbd.cohort.manifest import KEY_BYTES
from mbd.cohort.modality import Modality
from mbd.deletion import engine
from mbd.deletion.outcome import Outcome
from mbd.deletion.outcome import Revocation as Withdrawal
from mbd.durable import write_durably
from mbd.errors import DeletionError
from mbd.hashing import file_digest
from mbd.lattice.fit import training_rows
from mbd.lattice.model import PARTS, Saved, environment_digest, save_model
from mbd.records import certificates, commitments, ledger, lineage, models, requests
from mbd.records.certificates import Certificate
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.lineage import Kind, node_id
from mbd.records.models import ModelVersion
from mbd.records.requests import Revocation, State
from mbd.workflow import claim
from mbd.workflow.claim import Noise, Provenance, Request, Version
from mbd.workflow.filing import channel_of, complaint, file_revocation, require_possible
from mbd.workflow.live import load_live_model, spent_on
from mbd.workflow.log import append_envelope, commit_to_noise, evidence, sign_checkpoint
from mbd.workflow.registration import register_deletion
from mbd.workflow.system import System, refuse_rollback, remove_unregistered

OnStep = Callable[[str], None]
"""Told what happens next, in a few words."""


@dataclass(frozen=True)
class LineResult:
    """What a revocation did to one model line.

    Attributes:
        certificate: its id.
        folder: where the certificate's files lie.
        outcome: what the mechanism did; None when an earlier run of this command had finished it.
        deletion_seconds: from live model to released model, files apart; None likewise.
    """

    line: str
    version: int
    certificate: str
    folder: Path
    outcome: Outcome | None
    deletion_seconds: float | None

    @property
    def bundle(self) -> Path:
        """The certificate file."""
        return self.folder / "mdc.sigstore.json"


@dataclass(frozen=True)
class _Finished:
    """What became of each unfinished revocation, by its id."""

    results: dict[str, list[LineResult]]
    failures: dict[str, Exception]


def revoke(
    system: System, pairs: Iterable[Pair], *, regime: str = "gdpr", on_step: OnStep = lambda step: None
) -> list[LineResult]:
    """File a revocation and carry it out on every live line.

    Args:
        system: the deployment.
        pairs: (subject or EVERYONE, modality), each of which some live line's cohort must hold.
        regime: the law or policy that it is made under.
        on_step: told what happens next.

    Raises:
        UnknownSubjectError: no live line knows the person.
        NothingToDeleteError: no live line's cohort holds the channel.
        DeletionError: see `mbd.deletion.engine.delete`; the channel stays suppressed and `resume` tries again.
    """
    with system.exclusive():
        with begin_snapshot(system.engine) as connection:
            refuse_rollback(system, connection)
        wanted = frozenset(pairs)
        require_possible(system, wanted, regime)
        on_step("suppressing")
        revocation = file_revocation(system, wanted, regime)
        finished = _finish_all(system, on_step)
        if revocation.id in finished.failures:
            raise finished.failures[revocation.id]
        return finished.results[revocation.id]


def resume(system: System, *, on_step: OnStep = lambda step: None) -> list[LineResult]:
    """Finish every revocation that something interrupted, oldest first.

    Raises:
        Exception: one of them failed again; the others were finished all the same.
    """
    with system.exclusive():
        finished = _finish_all(system, on_step)
    for failure in finished.failures.values():
        raise failure
    return [result for results in finished.results.values() for result in results]


def _finish_all(system: System, on_step: OnStep) -> _Finished:
    """Carry out all that is unfinished, oldest first. One that fails stays unfinished and does not stop the others."""
    commit_to_noise(system)
    with begin_locked(system.engine) as connection:
        refuse_rollback(system, connection)
        waiting = requests.unfinished(connection)
        remove_unregistered(system, connection)
    finished = _Finished({}, {})
    for revocation in waiting:
        try:
            finished.results[revocation.id] = _carry_out(system, revocation, on_step)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not stop the next person's request
            finished.failures[revocation.id] = error
            with begin_locked(system.engine) as connection:
                refuse_rollback(system, connection)
                remove_unregistered(system, connection)
                requests.advance(connection, revocation.id, State.FAILED, at=system.clock())
    return finished


def _carry_out(system: System, revocation: Revocation, on_step: OnStep) -> list[LineResult]:
    with begin_locked(system.engine) as connection:
        requests.advance(connection, revocation.id, State.IN_PROGRESS, at=system.clock())
        lines = models.live_versions(connection)
        done = {line.line: certificates.find(connection, revocation.id, line.line) for line in lines}
    results = []
    for version in lines:
        found = done[version.line]
        made = None if found else _delete_from(system, revocation, version, on_step)
        certificate = found or (made[0] if made else None)
        if certificate is None:
            continue  # this line's cohort never held the channels
        on_step("publishing the certificate")
        target = _publish(system, certificate)
        outcome, seconds = (made[1], made[2]) if made else (None, None)
        results.append(LineResult(version.line, certificate.version, certificate.id, target, outcome, seconds))
    with begin_locked(system.engine) as connection:
        on_step("destroying the retired version")
        remove_unregistered(system, connection)
        requests.advance(connection, revocation.id, State.COMPLETED, at=system.clock())
    return results


def _delete_from(
    system: System, revocation: Revocation, live: ModelVersion, on_step: OnStep
) -> tuple[Certificate, Outcome, float] | None:
    """Make and register the next version of one line; None when its cohort holds none of the channels."""
    cohort_folder = system.cohort_folder(live.line, live.version)
    cohort = folder.read(cohort_folder)
    pairs = _pairs_in(system, cohort, revocation)
    if not pairs:
        return None
    with begin_snapshot(system.engine) as connection:
        noise = commitments.noise_commitment(connection)
        spent = spent_on(connection, live.line)
        provenance = _provenance(connection, live)
    assert noise is not None, "commit_to_noise ran before"
    number = live.version + 1
    before = _load_before(system, live, cohort)
    model = before.model
    on_step("deleting")
    started = time.perf_counter()
    outcome = engine.delete(
        model,
        cohort,
        Withdrawal(pairs, revocation.digest),
        noise=system.keyring.noise,
        occasion=f"{live.line}/{number}",
        spent=spent,
        salt=secrets.token_bytes(KEY_BYTES),
    )
    seconds = time.perf_counter() - started
    on_step("writing the new version")
    shutil.rmtree(system.version_folder(live.line, number), ignore_errors=True)
    remaining = cohort.without(pairs)
    manifest = folder.write(remaining, system.cohort_folder(live.line, number), key=secrets.token_bytes(KEY_BYTES))
    saved = save_model(outcome.model, system.model_folder(live.line, number), cohort_root=manifest.root)
    statement = claim.deletion_statement(
        line=live.line,
        request=Request(revocation.digest, revocation.regime, revocation.requested_at, pairs),
        before=before,
        after=Version(number, saved, outcome.model, remaining, manifest),
        outcome=outcome,
        provenance=provenance,
        noise=Noise(noise.commitment, noise.leaf_index),
        spent=spent,
        deleted_at=max(system.clock(), revocation.requested_at),  # a clock may have been set back
    )
    on_step("signing and logging")
    payload = to_payload(statement)
    with begin_locked(system.engine) as connection:
        refuse_rollback(system, connection)
        _refuse_inconsistent(system, connection, statement)
        envelope = sign(payload, system.keyring.certificate)
        certificate = register_deletion(
            connection,
            revocation=revocation,
            live=live,
            statement=statement,
            envelope=envelope,
            entry=append_envelope(connection, envelope, system.keyring),
            dropped=[channel_of(system, pair) for pair in cohort.closure(pairs)],
        )
        people = sorted({subject for subject, _ in cohort.closure(pairs)} - {EVERYONE})
        openings = b"".join(manifest.opening(person) for person in people)
        commitments.keep_key(connection, certificate.id, openings)
    return certificate, outcome, seconds


def _load_before(system: System, live: ModelVersion, cohort: Cohort) -> Version:
    """The live version, held against what was registered: files, statistics, rows, and the libraries' arithmetic.

    Raises:
        DeletionError: the rows are not those that were registered, or give other statistics on this machine.
    """
    where = system.model_folder(live.line, live.version)
    model = load_live_model(system, live)
    manifest = folder.read_manifest(system.cohort_folder(live.line, live.version))
    if manifest.root != live.cohort:
        raise DeletionError(
            f"The rows of {live.line} version {live.version} are not those that were registered.",
            remedy="restore that version's own cohort folder; another version's holds what has been deleted since",
        )
    made_by = json.loads((where / "model.json").read_bytes())["environment"]
    if made_by != environment_digest() and model.featurizer.statistics(training_rows(cohort)) != model.statistics:
        raise DeletionError(
            "The libraries or the processor have changed since this version was made, and the features with them.",
            remedy="delete with the versions that made it, or train the line anew",
        )
    saved = Saved(where, {name: file_digest(where / name) for name in (*PARTS, "model.json")})
    return Version(live.version, saved, model, cohort, manifest)


def _refuse_inconsistent(system: System, connection: Connection, statement: DeletionStatement) -> None:
    """Never log what a verifier would refuse: a leaf is for ever.

    Raises:
        CertificateError: the statement contradicts itself.
    """
    window = system.keyring.trusted.signer(system.keyring.certificate_key.hint).valid_for
    at = max(system.clock(), statement.predicate.deleted_at)
    rules.check(statement, signer_window=window, leaf_index=ledger.head(connection).size, at=at)


def _pairs_in(system: System, cohort: Cohort, revocation: Revocation) -> frozenset[Pair]:
    """The request's channels in this cohort, by plain names: subject keys are matched by hashing every subject."""
    wanted = {(channel.subject_key, Modality(channel.modality)) for channel in revocation.scope}
    revocable = dict.fromkeys(row.subject for row in cohort.rows if row.partition is Partition.REVOCABLE)
    names = {system.keyring.subject_key(subject): subject for subject in revocable} | {EVERYONE: EVERYONE}
    pairs = {(names[key], modality) for key, modality in wanted if key in names}
    return frozenset(pair for pair in pairs if complaint(cohort, pair) is None)


def _provenance(connection: Connection, live: ModelVersion) -> Provenance:
    backbone = node_id(Kind.BACKBONE, live.backbone)
    (node,) = (node for node in lineage.ancestry(connection, backbone).nodes if node.id == backbone)
    return Provenance(node.attributes["recipe_digest"], node.attributes["transcript_digest"])


def _publish(system: System, certificate: Certificate) -> Path:
    """Sign a checkpoint over the certificate's leaf, complete its bundle, and write its files."""
    target = system.certificate_folder(certificate.id)
    signed = sign_checkpoint(system)
    envelope = Envelope.parse(certificate.envelope.encode(), Code.STATEMENT_MALFORMED, remedy="run `mbd ledger fsck`")
    with begin_locked(system.engine) as connection:
        made = evidence(connection, envelope, certificate.leaf_index, signed, system.keyring)
        bundle = certificates.complete(connection, certificate.id, made.bundle.decode()).bundle
    assert bundle is not None, "complete stores a bundle"
    target.mkdir(parents=True, exist_ok=True)
    write_durably(target / "mdc.sigstore.json", bundle.encode())
    write_durably(target / "mdc.tlog-proof", made.proof.encode())
    return target
