"""The deletion workflow: delete from every live line what was filed, certify, log, retire.

A line that holds nothing of a request has its certificate of absence from the filing, or none; here it is published.
Recovery is the normal path. Each revocation ends completed, whatever dies in between: `resume` goes through the same
steps, and what a step had finished is found, not done again. One transaction makes a certificate, its log entry, the
new version and the charge to the budget real together; before it nothing is visible, after it only files are left.
"""

import json
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

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
from mbd.errors import DeletionError, TimeStampError, UtilityError, WitnessError
from mbd.lattice.fit import training_rows
from mbd.lattice.model import environment_digest, save_model
from mbd.records import certificates, commitments, lineage, models, requests
from mbd.records.certificates import Certificate, CertificateKind
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.lifecycle import Action, State
from mbd.records.lineage import Kind, node_id
from mbd.records.models import ModelVersion
from mbd.records.requests import WORKER, Revocation
from mbd.workflow import claim
from mbd.workflow.attacks import attack_deletion, keep_reports, watch_for_leaks
from mbd.workflow.claim import Noise, Provenance, Request, Version, batch_digest
from mbd.workflow.filing import channel_of, complaint, file_revocations, live_cohorts, require_possible
from mbd.workflow.issuance import publish_certificate
from mbd.workflow.live import load_version, spent_on
from mbd.workflow.log import append_envelope, commit_to_noise, refuse_inconsistent
from mbd.workflow.registration import register_deletion
from mbd.workflow.system import System, refuse_rollback, remove_unregistered
from mbd.workflow.transcripts import carry_transcript, keep_report

OnStep = Callable[[str], None]
"""Told what happens next, in a few words."""


@dataclass(frozen=True)
class LineResult:
    """What a revocation did to one model line.

    Attributes:
        version: the one that a deletion made, or that holds nothing of the request.
        kind: which of the two the certificate says.
        certificate: its id.
        folder: where the certificate's files lie.
        outcome: what the mechanism did; None when an earlier run of this command had finished it, and of an absence.
        deletion_seconds: from live model to released model, files apart; None likewise.
        reports: what attacks on the deletion found, where the policy asks for them.
    """

    line: str
    version: int
    kind: CertificateKind
    certificate: str
    folder: Path
    outcome: Outcome | None
    deletion_seconds: float | None
    reports: tuple[Report, ...] = ()

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
        pairs: (subject or EVERYONE, modality), each of which some live line's cohort must hold; where the policy
            certifies absence, a line that holds none of them certifies that instead.
        regime: the law or policy that it is made under.
        on_step: told what happens next.

    Raises:
        UnknownSubjectError: no live line knows the person.
        NothingToDeleteError: no live line's cohort holds the channel.
        DeletionError: see `mbd.deletion.engine.delete`; the channel stays suppressed and `resume` tries again.
    """
    (results,) = revoke_batch(system, [pairs], regime=regime, on_step=on_step)
    return results


def revoke_batch(
    system: System,
    wanted: Sequence[Iterable[Pair]],
    *,
    regime: str = "gdpr",
    on_step: OnStep = lambda step: None,
) -> list[list[LineResult]]:
    """File many revocations and carry them out together: each line is solved once, each revocation has its certificate.

    Returns:
        The results of each, in the order given.

    Raises:
        DeletionError: as `revoke`. If one of them cannot be carried out, none is filed; if one fails later on, the
            others are finished all the same.
    """
    asked = [frozenset(pairs) for pairs in wanted]
    with system.exclusive():
        with begin_snapshot(system.engine) as connection:
            refuse_rollback(system, connection)
        require_possible(system, asked, regime)
        on_step("suppressing")
        filed = file_revocations(system, asked, regime, on_step)
        finished = _finish_all(system, on_step)
        for revocation in filed:
            if revocation.id in finished.failures:
                raise finished.failures[revocation.id]
        return [finished.results[revocation.id] for revocation in filed]


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
    """Carry out all that is unfinished in one batch. If that fails, one by one: a failure stops nobody else's."""
    commit_to_noise(system)
    with begin_locked(system.engine) as connection:
        refuse_rollback(system, connection)
        waiting = requests.unfinished(connection)
        remove_unregistered(system, connection)
    swept = watch_for_leaks(system, _still_held(system, waiting)) if system.settings.attack else None
    finished = _Finished({}, {})
    try:
        finished.results.update(_carry_out(system, waiting, on_step))
    except (TimeStampError, WitnessError) as error:  # they wait for the same others; to try one by one helps nobody
        for revocation in waiting:
            _note_failure(system, finished, revocation, error)
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not stop the next person's request
        if len(waiting) == 1:
            _note_failure(system, finished, waiting[0], error)
        for revocation in waiting if len(waiting) > 1 else ():
            try:
                finished.results.update(_carry_out(system, [revocation], on_step))
            except Exception as own:  # noqa: BLE001 - likewise
                _note_failure(system, finished, revocation, own)
    if swept is not None and not finished.failures:  # what failed is still there to be found
        on_step("searching for what was withdrawn")
        leaks = tuple(report for report in (swept(),) if report)
        for results in finished.results.values():
            results[:] = [replace(result, reports=(*result.reports, *leaks)) for result in results]
    return finished


def _still_held(system: System, waiting: Sequence[Revocation]) -> frozenset[Pair]:
    cohorts = [cohort for _, cohort in live_cohorts(system)]
    return frozenset(pair for cohort in cohorts for each in waiting for pair in _pairs_in(system, cohort, each))


def _note_failure(system: System, finished: _Finished, failed: Revocation, error: Exception) -> None:
    finished.failures[failed.id] = error
    with begin_locked(system.engine) as connection:
        refuse_rollback(system, connection)
        remove_unregistered(system, connection)
        now, why = system.clock(), type(error).__name__  # its words may name a person
        requests.act(connection, failed.id, Action.FAIL, by=WORKER, at=now, reason=why)


def _carry_out(system: System, batch: Sequence[Revocation], on_step: OnStep) -> dict[str, list[LineResult]]:
    """Delete what all of these ask for, line by line, and give each its certificates."""
    with begin_locked(system.engine) as connection:
        for revocation in batch:
            if requests.get(connection, revocation.id).state is State.FAILED:
                requests.act(connection, revocation.id, Action.RETRY, by=WORKER, at=system.clock())
            requests.act(connection, revocation.id, Action.START, by=WORKER, at=system.clock())
        lines = models.live_versions(connection)
        issued = {
            (revocation.id, line.line): found
            for revocation in batch
            for line in lines
            if (found := certificates.find(connection, revocation.id, line.line))
        }
    results: dict[str, list[LineResult]] = {revocation.id: [] for revocation in batch}
    unwitnessed: TimeStampError | WitnessError | None = None
    for live in lines:
        waiting = [revocation for revocation in batch if (revocation.id, live.line) not in issued]
        made = _delete_from(system, waiting, live, on_step) if waiting else _Made()
        for revocation in batch:
            certificate = issued.get((revocation.id, live.line)) or made.certificates.get(revocation.id)
            if certificate is None or unwitnessed is not None:
                continue  # this line's cohort never held the channels, or the bundle waits for others
            on_step("publishing the certificate")
            try:
                target = publish_certificate(system, certificate)
            except (TimeStampError, WitnessError) as error:  # no deletion on the next line waits for them
                unwitnessed = error
                continue
            mine = made if revocation.id in made.certificates else _Made()
            results[revocation.id].append(
                LineResult(
                    live.line,
                    certificate.version,
                    certificate.kind,
                    certificate.id,
                    target,
                    mine.outcome,
                    mine.seconds,
                    mine.reports,
                )
            )
    if unwitnessed is not None:
        raise unwitnessed
    with begin_locked(system.engine) as connection:
        on_step("destroying the retired version")
        remove_unregistered(system, connection)
        for revocation in batch:
            requests.act(connection, revocation.id, Action.COMPLETE, by=WORKER, at=system.clock())
    return results


@dataclass(frozen=True)
class _Made:
    """The next version of one line, and the certificate of each revocation that it carries out, by id."""

    certificates: dict[str, Certificate] = field(default_factory=dict)
    outcome: Outcome | None = None
    seconds: float | None = None
    reports: tuple[Report, ...] = ()


def _delete_from(system: System, batch: Sequence[Revocation], live: ModelVersion, on_step: OnStep) -> _Made:
    """Make and register the next version of one line; nothing when its cohort holds none of the channels."""
    cohort = folder.read(system.cohort_folder(live.line, live.version))
    asked = {revocation: mine for revocation in batch if (mine := _pairs_in(system, cohort, revocation))}
    if not asked:
        return _Made()
    with begin_snapshot(system.engine) as connection:
        noise = commitments.noise_commitment(connection)
        spent = spent_on(connection, live.line)
        provenance = _provenance(connection, live)
    assert noise is not None, "commit_to_noise ran before"
    number = live.version + 1
    before = _load_before(system, live, cohort)
    on_step("deleting")
    started = time.perf_counter()
    pairs = frozenset[Pair]().union(*asked.values())
    digest = batch_digest(revocation.digest for revocation in asked)
    checkpoints = system.home / "training" / live.line / str(number)
    try:
        outcome = engine.delete(
            before.model,
            cohort,
            Withdrawal(pairs, digest),
            noise=system.keyring.noise,
            occasion=f"{live.line}/{number}",
            spent=spent,
            salt=secrets.token_bytes(KEY_BYTES),
            entangled=system.settings.entangled,
            on_progress=lambda epoch, epochs, numbers: on_step(f"training again, epoch {epoch} of at most {epochs}"),
            checkpoint_dir=checkpoints / digest[:16],  # other requests, another run
        )
    except UtilityError as error:
        with begin_locked(system.engine) as connection:
            models.record_refusal(connection, live, digest[:16], error.mu)
        raise
    seconds = time.perf_counter() - started
    shutil.rmtree(checkpoints, ignore_errors=True)  # also of runs that died: networks of people who leave now
    reports: tuple[Report, ...] = ()
    if system.settings.attack:
        on_step("attacking the deletion")
        reports = attack_deletion(before.model, cohort, Withdrawal(pairs, digest), outcome, line=live.line, spent=spent)
    on_step("writing the new version")
    shutil.rmtree(system.version_folder(live.line, number), ignore_errors=True)
    remaining = cohort.without(pairs)
    manifest = folder.write(remaining, system.cohort_folder(live.line, number), key=secrets.token_bytes(KEY_BYTES))
    saved = save_model(outcome.model, system.model_folder(live.line, number), cohort_root=manifest.root)
    keep_reports(system.version_folder(live.line, number), reports)
    if outcome.report is None:
        carry_transcript(system, live.line, live.version, number)
    else:
        provenance = keep_report(system, live.line, number, provenance.recipe_digest, outcome.report)
    after = Version(number, saved, outcome.model, remaining, manifest)
    # a clock may have been set back
    deleted_at = max(system.clock(), *(revocation.requested_at for revocation in asked))
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
            deleted_at=deleted_at,
        )
        for revocation, mine in asked.items()
    }
    on_step("signing and logging")
    certified = _certify(system, live, cohort, asked=asked, statements=statements, manifest=manifest)
    return _Made(certified, outcome, seconds, reports)


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
