"""Deletes from one model line what several requests ask for: one next version, and a certificate for each of them.

One transaction makes the certificates, their log entries, the new version and the charge to the budget real together:
before it nothing is visible, after it only files are left. It knows neither the other lines nor how far a request is.
"""

import json
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy import Connection

from certs.dsse import sign
from certs.payload import to_payload
from certs.statement import DeletionStatement
from mbd.attacks.report import Report
from mbd.cohort import folder
from mbd.cohort.cohort import EVERYONE, Cohort, Pair, Partition
from mbd.cohort.manifest import KEY_BYTES, Manifest
from mbd.cohort.modality import Modality
from mbd.deletion import engine
from mbd.deletion.outcome import Outcome
from mbd.deletion.outcome import Revocation as Withdrawal
from mbd.errors import DeletionError, UtilityError
from mbd.lattice.fit import training_rows
from mbd.lattice.model import environment_digest, save_model
from mbd.records import commitments, lineage, models
from mbd.records.certificates import Certificate
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.lineage import Kind, node_id
from mbd.records.models import ModelVersion
from mbd.records.requests import Revocation
from mbd.workflow import claim
from mbd.workflow.attacks import attack_deletion, keep_reports
from mbd.workflow.claim import Noise, Provenance, Request, Version, batch_digest
from mbd.workflow.filing import channel_of, complaint
from mbd.workflow.live import load_version, spent_on
from mbd.workflow.log import append_envelope, refuse_inconsistent
from mbd.workflow.office import refuse_rollback
from mbd.workflow.registration import register_deletion
from mbd.workflow.system import System
from mbd.workflow.transcripts import carry_transcript, keep_report


class Tell(Protocol):
    """Told what happens next, in a few words, and how much of it is done; never within a transaction."""

    def __call__(self, step: str, done: float = 0.0, /) -> None:
        """Go on, or raise to stop here: what was not certified was not done."""


@dataclass(frozen=True)
class Made:
    """The next version of one line, and the certificate of each revocation that it carries out, by id."""

    certificates: dict[str, Certificate] = field(default_factory=dict)
    outcome: Outcome | None = None
    seconds: float | None = None
    reports: tuple[Report, ...] = ()


def delete_from(system: System, batch: Sequence[Revocation], live: ModelVersion, tell: Tell) -> Made:
    """Make and register the next version of one line; nothing when its cohort holds none of the channels.

    Crash point: files of a version that no transaction has registered are removed by whoever comes next.

    Raises:
        DeletionError: see `mbd.deletion.engine.delete`.
        AttackError: the policy asks for attacks, and one broke a claim.
    """
    cohort = folder.read(system.cohort_folder(live.line, live.version))
    asked = {revocation: mine for revocation in batch if (mine := pairs_in(system, cohort, revocation))}
    if not asked:
        return Made()
    with begin_snapshot(system.engine) as connection:
        noise = commitments.noise_commitment(connection)
        spent = spent_on(connection, live.line)
        provenance = _provenance(connection, live)
    assert noise is not None, "commit_to_noise ran before"
    before = _load_before(system, live, cohort)
    tell("deleting")
    started = time.perf_counter()
    withdrawal = Withdrawal(
        frozenset[Pair]().union(*asked.values()), batch_digest(revocation.digest for revocation in asked)
    )
    outcome = _unlearn(system, live, before, withdrawal, spent=spent, tell=tell)
    seconds = time.perf_counter() - started
    reports: tuple[Report, ...] = ()
    if system.settings.attack:
        tell("attacking the deletion")
        reports = attack_deletion(before.model, cohort, withdrawal, outcome, line=live.line, spent=spent)
    tell("writing the new version")
    after = _write(system, live, cohort, withdrawal.pairs, outcome=outcome, reports=reports)
    if outcome.report is not None:
        provenance = keep_report(system, live.line, after.number, provenance.recipe_digest, outcome.report)
    statements = {
        revocation: claim.deletion_statement(
            line=live.line,
            request=Request(revocation.digest, revocation.regime, revocation.requested_at, mine),
            before=before,
            after=after,
            outcome=outcome,
            provenance=provenance,
            noise=Noise(noise.commitment, noise.leaf_index),
            spent=spent,
            # a clock may have been set back
            deleted_at=max(system.clock(), *(revocation.requested_at for revocation in asked)),
        )
        for revocation, mine in asked.items()
    }
    tell("signing and logging")
    certified = _certify(system, live, cohort, asked=asked, statements=statements, manifest=after.manifest)
    return Made(certified, outcome, seconds, reports)


def _unlearn(
    system: System, live: ModelVersion, before: Version, withdrawal: Withdrawal, *, spent: Sequence[float], tell: Tell
) -> Outcome:
    """What the mechanism makes of the live version; a refusal is charged for, because it tells something too."""
    number = system.next_version(live.line)
    checkpoints = system.home / "training" / live.line / str(number)
    try:
        outcome = engine.delete(
            before.model,
            before.cohort,
            withdrawal,
            noise=system.keyring.noise,
            occasion=f"{live.line}/{number}",
            spent=spent,
            salt=secrets.token_bytes(KEY_BYTES),
            entangled=system.settings.entangled,
            on_progress=lambda epoch, epochs, numbers: tell(
                f"training again, epoch {epoch} of at most {epochs}", epoch / epochs
            ),
            checkpoint_dir=checkpoints / withdrawal.digest[:16],  # other requests, another run
        )
    except UtilityError as error:
        with begin_locked(system.engine) as connection:
            models.record_refusal(connection, live, withdrawal.digest[:16], error.mu)
        raise
    shutil.rmtree(checkpoints, ignore_errors=True)  # also of runs that died: networks of people who leave now
    return outcome


def _write(
    system: System,
    live: ModelVersion,
    cohort: Cohort,
    pairs: frozenset[Pair],
    *,
    outcome: Outcome,
    reports: tuple[Report, ...],
) -> Version:
    """The next version's files, in place of what an interrupted run may have left of them."""
    number = system.next_version(live.line)
    shutil.rmtree(system.version_folder(live.line, number), ignore_errors=True)
    remaining = cohort.without(pairs)
    manifest = folder.write(remaining, system.cohort_folder(live.line, number), key=secrets.token_bytes(KEY_BYTES))
    saved = save_model(outcome.model, system.model_folder(live.line, number), cohort_root=manifest.root)
    keep_reports(system.version_folder(live.line, number), reports)
    if outcome.report is None:
        carry_transcript(system, live.line, live.version, number)
    return Version(number, saved, outcome.model, remaining, manifest)


def _certify(
    system: System,
    live: ModelVersion,
    cohort: Cohort,
    *,
    asked: Mapping[Revocation, frozenset[Pair]],
    statements: Mapping[Revocation, DeletionStatement],
    manifest: Manifest,
) -> dict[str, Certificate]:
    """Sign and log every statement and register the version, in one transaction: all of a batch, or nothing."""
    payloads = {revocation: to_payload(statement) for revocation, statement in statements.items()}
    certified = {}
    with begin_locked(system.engine) as connection:
        refuse_rollback(system, connection)
        for revocation, statement in statements.items():
            refuse_inconsistent(system, connection, statement, made_at=statement.predicate.deleted_at)
            envelope = sign(payloads[revocation], system.keyring.certificate)
            closure = cohort.closure(asked[revocation])
            certificate = register_deletion(
                connection,
                revocation=revocation,
                live=live,
                statement=statement,
                envelope=envelope,
                entry=append_envelope(connection, envelope, system.keyring),
                dropped=[channel_of(system, pair) for pair in closure],
            )
            people = sorted({subject for subject, _ in closure} - {EVERYONE})
            openings = b"".join(manifest.opening(person) for person in people)
            commitments.keep_key(connection, certificate.id, openings)
            certified[revocation.id] = certificate
    return certified


def _load_before(system: System, live: ModelVersion, cohort: Cohort) -> Version:
    """The live version, held against what was registered: files, statistics, rows, and the libraries' arithmetic.

    Raises:
        DeletionError: the rows are not those that were registered, or give other statistics on this machine.
    """
    before = load_version(system, live, cohort)
    model = before.model
    made_by = json.loads((before.saved.folder / "model.json").read_bytes())["environment"]
    if made_by != environment_digest() and model.featurizer.statistics(training_rows(cohort)) != model.statistics:
        raise DeletionError(
            "The libraries or the processor have changed since this version was made, and the features with them.",
            remedy="delete with the versions that made it, or train the line anew",
        )
    return before


def pairs_in(system: System, cohort: Cohort, revocation: Revocation) -> frozenset[Pair]:
    """The request's channels in this cohort, by plain names: subject keys are matched by hashing every subject."""
    wanted = {(channel.subject_key, Modality(channel.modality)) for channel in revocation.scope}
    revocable = dict.fromkeys(row.subject for row in cohort.rows if row.partition is Partition.REVOCABLE)
    names = {system.identities.subject_key(subject): subject for subject in revocable} | {EVERYONE: EVERYONE}
    pairs = {(names[key], modality) for key, modality in wanted if key in names}
    return frozenset(pair for pair in pairs if complaint(cohort, pair) is None)


def _provenance(connection: Connection, live: ModelVersion) -> Provenance:
    backbone = node_id(Kind.BACKBONE, live.backbone)
    (node,) = (node for node in lineage.ancestry(connection, backbone).nodes if node.id == backbone)
    return Provenance(node.attributes["recipe_digest"], node.attributes["transcript_digest"])
