"""Forget people: destroy what ties certificates to them. The certificates stay valid, and so do the withdrawals.

An opening is in the table of openings and in backups of it, and follows from the key of the manifest that it came from.
The first is destroyed, the journal sees to the second, and a live version with such a key gives way to one over the
same rows and weights under a new key. What still names people is in docs/erasure.md.
"""

import secrets
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass

from sqlalchemy import Connection

from certs.commitment import subject_commitment
from mbd.cohort import folder
from mbd.cohort.manifest import KEY_BYTES
from mbd.errors import DeletionError, UnknownSubjectError
from mbd.lattice.model import copy_model
from mbd.records import certificates, commitments, models, requests
from mbd.records.certificates import Certificate
from mbd.records.commitments import opening_id
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.models import ModelVersion
from mbd.records.scrubbing import scrub
from mbd.workflow.destroyed_keys import Destroyed, remember
from mbd.workflow.filing import live_cohorts
from mbd.workflow.live import load_version
from mbd.workflow.office import refuse_rollback
from mbd.workflow.openings import commitments_in
from mbd.workflow.registration import register_successor
from mbd.workflow.system import System, remove_unregistered
from mbd.workflow.transcripts import carry_transcript

OnStep = Callable[[str], None]
"""Told what happens next, in a few words."""


@dataclass(frozen=True)
class Forgotten:
    """What was done, and what was not.

    Attributes:
        certificates: those that are about the person, or the one that was named.
        destroyed: openings that this call destroyed; none when an earlier one had.
        versions: new live versions, in place of those whose manifest keys made the openings.
        named_in: live lines that hold rows of the person, under their name: what they did not withdraw.
        left: what the database still has to overwrite, as a sentence for the operator, or None.
    """

    certificates: tuple[str, ...]
    destroyed: int
    versions: tuple[ModelVersion, ...]
    named_in: tuple[str, ...]
    left: str | None


def forget_person(system: System, subject: str, *, on_step: OnStep = lambda step: None) -> Forgotten:
    """Destroy the person's openings of all certificates about them; other people's of the same certificates stay.

    Safe to repeat; a repeated call finishes what a crash interrupted.

    Raises:
        UnknownSubjectError: no certificate is about them.
        DeletionError: a request of theirs is not finished, and will have certificates of its own; or a live version's
            files are not those that were registered.
        SettingsError: another command is changing the deployment.
    """
    with system.exclusive():
        key = system.identities.subject_key(subject)
        with begin_snapshot(system.engine) as connection:
            refuse_rollback(system, connection)
            about = certificates.naming(connection, key)
            waiting = [found for found in requests.unfinished(connection) if _names(found, key)]
            kept = commitments.openings_of(connection, [certificate.id for certificate in about])
        if waiting:
            raise DeletionError(
                f"A request of '{subject}' is not finished: its certificates would be made after this.",
                remedy="finish it with `mbd revoke --resume`, then forget",
            )
        if not about:
            raise UnknownSubjectError(
                f"No certificate is about '{subject}'.",
                remedy="check the spelling: `mbd lineage --subject` lists a person's certificates",
            )
        theirs = {
            opening_id(opening)
            for certificate in about
            for opening in kept.get(certificate.id, ())
            if subject_commitment(opening, subject) in commitments_in(certificate)
        }
        named_in = tuple(live.line for live, cohort in live_cohorts(system) if subject in cohort.rows_of)
        return _forget(system, about, theirs, named_in, on_step)


def forget_certificate(system: System, certificate_id: str, *, on_step: OnStep = lambda step: None) -> Forgotten:
    """Destroy the openings of all people whom a certificate is about. It takes no name. Safe to repeat.

    Raises:
        RecordsError: there is no such certificate.
        DeletionError: a live version's files are not those that were registered.
        SettingsError: another command is changing the deployment.
    """
    with system.exclusive():
        with begin_snapshot(system.engine) as connection:
            refuse_rollback(system, connection)
            certificate = certificates.get(connection, certificate_id)
            kept = commitments.openings_of(connection, [certificate_id])
        ids = {opening_id(opening) for openings in kept.values() for opening in openings}
        return _forget(system, (certificate,), ids, (), on_step)


def _forget(
    system: System,
    about: tuple[Certificate, ...],
    ids: Collection[str],
    named_in: tuple[str, ...],
    on_step: OnStep,
) -> Forgotten:
    versions = sorted({(certificate.model_line, certificate.version) for certificate in about})
    with begin_locked(system.engine) as connection:
        refuse_rollback(system, connection)
        destroyed = _held_with(system, connection, versions, ids)
        on_step("journalling")
        if destroyed:
            remember(system.destroyed_keys_path, destroyed)
        # Crash point: from here on, the next opening of the deployment destroys them (`destroy_again`).
        on_step("destroying the openings")
        for entry in destroyed:
            commitments.destroy_openings(connection, entry.certificate, {entry.opening}, at=entry.destroyed_at)
    on_step("overwriting old rows")
    left = scrub(system.engine)
    with begin_snapshot(system.engine) as connection:
        live = [version for version in models.live_versions(connection) if (version.line, version.version) in versions]
    renewed = tuple(_renew_manifest(system, version, on_step) for version in live)
    with begin_locked(system.engine) as connection:
        on_step("destroying the retired versions")
        remove_unregistered(system, connection)
    return Forgotten(tuple(certificate.id for certificate in about), len(destroyed), renewed, named_in, left)


def _held_with(
    system: System, connection: Connection, versions: Collection[tuple[str, int]], ids: Collection[str]
) -> list[Destroyed]:
    """Where these openings are: also with other certificates about the same version, which call the person the same."""
    now = system.clock()
    return [
        Destroyed(certificate=certificate, opening=found, destroyed_at=now)
        for line, version in versions
        for certificate, openings in commitments.openings_of_version(connection, line, version).items()
        for found in map(opening_id, openings)
        if found in ids
    ]


def _renew_manifest(system: System, live: ModelVersion, on_step: OnStep) -> ModelVersion:
    """A version over the same rows and weights, whose manifest has a fresh key. It has no certificate: nothing changed.

    The old folder stays until the new version is registered, and goes with `remove_unregistered`. A crash before that
    leaves a folder which that call removes too; the next call of `forget_...` makes the version.
    """
    on_step(f"renewing the manifest of {live.line}")
    line, number = live.line, system.next_version(live.line)
    before = load_version(system, live, folder.read(system.cohort_folder(line, live.version)))
    shutil.rmtree(system.version_folder(line, number), ignore_errors=True)
    manifest = folder.write(before.cohort, system.cohort_folder(line, number), key=secrets.token_bytes(KEY_BYTES))
    saved = copy_model(before.saved.folder, system.model_folder(line, number), cohort_root=manifest.root)
    carry_transcript(system, line, live.version, number)
    with begin_locked(system.engine) as connection:
        refuse_rollback(system, connection)
        return register_successor(
            connection, live=live, manifest=manifest, model=before.model, saved=saved, now=system.clock()
        )


def _names(request: requests.Revocation, subject_key: str) -> bool:
    return any(channel.subject_key == subject_key for channel in request.scope)
