"""Certificates of absence: the answer of a live line that holds nothing of a request, where the policy asks for one.

A proof of absence needs the person's plain name, which is known only while the request is filed. So it is made before
the filing's transaction and signed and logged in it: what is left is to publish the files, which needs no name. When
this may happen is for `mbd.workflow.filing` to say.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from certs import absence_statement as wire
from certs.dsse import sign
from certs.encoding import MAX_BYTES
from certs.payload import to_payload
from certs.statement import Request, Scope
from mbd.cohort.cohort import EVERYONE, Cohort, Pair, Partition
from mbd.cohort.modality import Modality, in_order
from mbd.errors import DeletionError
from mbd.records import commitments
from mbd.records.certificates import Certificate
from mbd.records.models import ModelVersion
from mbd.records.requests import Revocation
from mbd.workflow.claim import Version, kept_by_policy, wire_artifacts, wire_manifest
from mbd.workflow.live import load_version
from mbd.workflow.log import append_envelope, refuse_inconsistent
from mbd.workflow.registration import register_absence
from mbd.workflow.system import System

_MAX_PAYLOAD = MAX_BYTES // 2
"""The bundle holds it in base64, with a signature and a log proof, and is itself at most `MAX_BYTES` long."""


@dataclass(frozen=True)
class Absence:
    """That a live version holds nothing of a request, proven and not yet signed.

    Attributes:
        payload: the statement's bytes, which are to be signed.
        openings: of the people whom it commits to, 32 bytes each, by name.
    """

    revocation: Revocation
    live: ModelVersion
    statement: wire.AbsenceStatement
    payload: bytes
    openings: bytes


def prove_absences(
    system: System, live: ModelVersion, cohort: Cohort, asked: Mapping[Revocation, frozenset[Pair]]
) -> list[Absence]:
    """Prove for each request that a live version holds none of its channels, nor any that would fall with them.

    Raises:
        CohortError: it does hold one.
        DeletionError: the rows are not those that were registered, or the proofs are too many for one certificate.
        TrainingError: nor are the model's files.
    """
    version = load_version(system, live, cohort)
    return [_prove(system, live, version, revocation, pairs) for revocation, pairs in asked.items()]


def certify_absence(system: System, connection: Connection, absence: Absence) -> Certificate:
    """Sign, log and register, in the transaction that files the request.

    Raises:
        CertificateError: the statement contradicts itself.
    """
    statement = absence.statement
    checked_at = statement.predicate.checked_at
    refuse_inconsistent(system, connection, statement, made_at=checked_at)
    envelope = sign(absence.payload, system.keyring.certificate)
    certificate = register_absence(
        connection,
        revocation=absence.revocation,
        live=absence.live,
        envelope=envelope,
        entry=append_envelope(connection, envelope, system.keyring),
        checked_at=checked_at,
    )
    commitments.keep_key(connection, certificate.id, absence.openings)
    return certificate


def _prove(
    system: System, live: ModelVersion, version: Version, revocation: Revocation, pairs: frozenset[Pair]
) -> Absence:
    manifest = version.manifest
    closure = version.cohort.closure(pairs)
    people = sorted({subject for subject, _ in closure} - {EVERYONE})
    proofs = [
        wire.ChannelAbsence.model_validate(manifest.absence(subject, modality, partition))
        for subject, modality in sorted(closure)
        # nobody can withdraw what the public partition holds; a person who withdraws is not in it
        for partition in ((Partition.REVOCABLE,) if subject == EVERYONE else (Partition.PUBLIC, Partition.REVOCABLE))
    ]
    predicate = wire.ModalityAbsence(
        request=Request(
            digest=revocation.digest,
            regime=revocation.regime,
            requested_at=revocation.requested_at,
            scope=_scope(pairs),
        ),
        subject_commitments=tuple(manifest.commitment(person) for person in people),
        lineage=wire.LiveVersion(model_line=live.line, version=live.version, model_digest=version.saved.digest),
        dataset=wire.CheckedDataset(manifest=wire_manifest(manifest), absence=tuple(proofs)),
        not_covered=_not_covered(version.cohort, pairs),
        supersedes=None,
        checked_at=max(system.clock(), revocation.requested_at),  # a clock may have been set back
    )
    statement = wire.absence_statement(wire_artifacts(version.saved), predicate)
    if len(statement.canonical()) > _MAX_PAYLOAD:
        raise DeletionError(
            f"A certificate of absence for {len(people)} people in one request is larger than a verifier reads.",
            remedy="make a request for each person; `mbd revoke --file` carries out many together",
        )
    openings = b"".join(manifest.opening(person) for person in people)
    return Absence(revocation, live, statement, to_payload(statement), openings)


def _scope(pairs: frozenset[Pair]) -> Scope:
    """What was asked for, by the request alone: it must not tell what the person has elsewhere."""
    subjects = {subject for subject, _ in pairs}
    modalities = in_order(modality for _, modality in pairs)
    kind = "several"
    if len(subjects) == 1 and len(modalities) == 1:
        kind = "modality" if subjects == {EVERYONE} else "subject-modality"
    elif len(subjects) == 1 and EVERYONE not in subjects and set(modalities) == set(Modality):
        kind = "subject"
    return Scope.model_validate({"kind": kind, "modalities": tuple(modality.value for modality in modalities)})


def _not_covered(cohort: Cohort, pairs: frozenset[Pair]) -> tuple[str, ...]:
    """What this certificate does not speak of; nothing in it depends on what the cohort holds of the person."""
    subjects = {subject for subject, _ in pairs}
    sentences = [
        "Other versions of this model line. If an earlier one held the channels, the deletion has its own certificate.",
        "Copies of other releases that someone kept, and predictions that were served.",
        "Copies of the data outside of this service.",
        "Other model lines, those trained later among them.",
    ]
    if subjects - {EVERYONE}:
        sentences.append("Rows under another name than exactly the one given: another spelling is another name.")
    if EVERYONE in subjects:
        sentences.append("Rows of the public partition, which nobody can withdraw.")
    return (*sentences, *kept_by_policy(cohort, pairs))
