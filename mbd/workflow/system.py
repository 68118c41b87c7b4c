"""A deployment, opened: its folder, database and keys, with one lock for whoever changes anything.

It decides nothing. Everything it opens, it closes.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import Connection

from mbd.cohort.modality import Modality
from mbd.errors import SettingsError
from mbd.records import models
from mbd.records.database import begin_snapshot, open_database, upgrade
from mbd.records.models import ModelVersion, VersionState
from mbd.records.promotion import discard_revoked
from mbd.records.suppression import Channel, suppressions
from mbd.settings import Settings
from mbd.workflow.destroyed_keys import destroy_again
from mbd.workflow.destruction import destroy_retired
from mbd.workflow.identities import load_identities
from mbd.workflow.keyring import Keyring, create_keyring, open_keyring
from mbd.workflow.office import Clock, Office, refuse_rollback, utc_now
from mbd.workflow.signers import external_signer, key_passphrase


@dataclass(frozen=True)
class System(Office):
    """A deployment that can delete and sign.

    Attributes:
        keyring: its keys.
    """

    keyring: Keyring

    def certificate_folder(self, certificate_id: str) -> Path:
        """A certificate's files."""
        return self.home / "certificates" / certificate_id

    @property
    def destroyed_keys_path(self) -> Path:
        """The journal of destroyed openings, outside the database."""
        return self.settings.destroyed_keys or self.home / "destroyed-keys"

    @property
    def revocable_training(self) -> Path:
        """Checkpoints of trainings of new lines that see revocable rows: gone with the next deletion."""
        return self.home / "training-on-everyone"

    def live(self, line: str) -> ModelVersion:
        """The live version of a line.

        Raises:
            SettingsError: the line does not exist, or nothing of it is in service.
        """
        with begin_snapshot(self.engine) as connection:
            found = models.live(connection, line)
            known = [version.line for version in models.live_versions(connection)]
            exists = found is None and line in models.lines(connection)
        if exists:
            raise SettingsError(
                f"No version of model line '{line}' is in service.",
                remedy="promote a candidate with `mbd lineage promote`, or use another line",
            )
        if found is None:
            raise SettingsError(
                f"There is no model line '{line}' in {self.home}.",
                remedy=f"use one of: {', '.join(known)}" if known else "train one with `mbd train`",
            )
        return found

    def next_version(self, line: str) -> int:
        """The number of a line's next version, which no candidate of it has."""
        with begin_snapshot(self.engine) as connection:
            return models.next_version(connection, line)

    def suppressed(self) -> Callable[[str, Modality], bool]:
        """The suppression list, as the question that the cohort package asks."""
        with begin_snapshot(self.engine) as connection:
            listed = suppressions(connection)
        return lambda subject, modality: listed.covers(Channel(self.identities.subject_key(subject), modality.value))

    def withdrew_anything(self) -> Callable[[str], bool]:
        """Whether a person has ever withdrawn a channel of their own."""
        with begin_snapshot(self.engine) as connection:
            people = {channel.subject_key for channel in suppressions(connection).channels}
        return lambda subject: self.identities.subject_key(subject) in people

    def with_current_keys(self, certificate_key: str | None = None) -> "System":
        """The same deployment with its keys read again, after some changed; perhaps with another external key (URI)."""
        settings = self.settings
        if certificate_key is not None:
            settings = settings.model_copy(update={"certificate_key": certificate_key})
        passphrase, external = key_passphrase(settings), external_signer(settings)
        keyring = open_keyring(self.home, passphrase=passphrase, now=self.clock(), external=external)
        return replace(self, settings=settings, keyring=keyring)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """One process at a time trains, deletes or cleans up; a second one is told so at once.

        Raises:
            SettingsError: another process holds it.
        """
        descriptor = os.open(self.home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SettingsError(
                    f"Another command is changing {self.home}.", remedy="wait for it to end, then try again"
                ) from None
            yield
        finally:
            os.close(descriptor)


RETIRING, RETIRING_READY = "retiring", "ready"
"""The folder in which a retirement makes the new log, and the marker that it has begun to put it in place."""


def is_retiring(home: Path) -> bool:
    """Whether a retirement was interrupted after it had begun to change the deployment."""
    return (home / RETIRING / RETIRING_READY).exists()


def is_deployment(settings: Settings) -> bool:
    """Whether there is one at this place."""
    return (settings.state / "keys").exists()


def suppressed_in(settings: Settings) -> Callable[[str, Modality], bool]:
    """What was withdrawn in a deployment; nothing where there is none yet.

    Raises:
        MbdError: as `open_system`.
    """
    if not is_deployment(settings):
        return lambda _subject, _modality: False
    with open_system(settings, create=False) as system:
        return system.suppressed()


@contextmanager
def open_system(settings: Settings, *, create: bool, clock: Clock = utc_now, inspect: bool = False) -> Iterator[System]:
    """Open a deployment. What the journal of destroyed openings says is destroyed is so before anybody reads.

    Args:
        settings: where it is.
        create: make folder, database and keys where there are none; otherwise their absence is an error.
        clock: the time.
        inspect: open it even if its database is behind the remembered checkpoint, to look at the damage.

    Raises:
        SettingsError: it is not there, or not usable; or its journal of destroyed openings is damaged.
        SignerError: the certificate key is in a token or service that cannot be reached.
        SchemaVersionError: its database is older or newer than this program.
        LedgerError: see `refuse_rollback`.
    """
    home = settings.state
    if create:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    elif not home.is_dir():
        raise SettingsError(f"There is no state folder {home}.", remedy="begin with `mbd train`, or give --home")
    if is_retiring(home) and not inspect:
        raise SettingsError(
            "A retirement of this log was interrupted.", remedy="finish it: run `mbd ledger retire` again"
        )
    passphrase, external = key_passphrase(settings), external_signer(settings)
    if create and not (home / "keys").exists():
        upgrade(settings.database)
        ml_dsa = settings.ml_dsa_checkpoints
        create_keyring(
            home, origin=settings.origin, passphrase=passphrase, ml_dsa=ml_dsa, now=clock(), external=external
        )
    keyring = open_keyring(home, passphrase=passphrase, now=clock(), external=external)
    identities = load_identities(home)
    engine = open_database(settings.database)
    system = System(settings, home, engine, identities, clock, keyring)
    try:
        destroy_again(engine, system.destroyed_keys_path)  # first: a restored backup is refused below
        if not inspect:
            with begin_snapshot(engine) as connection:
                refuse_rollback(system, connection)
        yield system
    finally:
        engine.dispose()


def remove_unregistered(system: System, connection: Connection) -> None:
    """Remove version folders that no live version and no candidate owns: left by a crash, or retired.

    Raises:
        SettingsError: a live version has no folder, so that what nobody owns may be the only copy of what is left.
        SignerError: see `destroy_retired`.

    A retired version's weights, statistics and raw features are destroyed here, and a signed statement says so; that is
    the point of a deletion. So are networks that a killed training of a new line left half-made of revocable people. A
    candidate in which something was revoked retires first.
    """
    for version in models.live_versions(connection):
        if not system.version_folder(version.line, version.version).is_dir():
            raise SettingsError(
                f"Version {version.version} of '{version.line}' is live, and its folder is not there.",
                remedy="restore database and state folder as they were at one time; nothing was removed",
            )
    shutil.rmtree(system.revocable_training, ignore_errors=True)
    lines, signer = system.home / "lines", system.keyring.certificate
    discard_revoked(connection)
    destroy_retired(connection, lines=lines, counts=system.home / "destroying", signer=signer, clock=system.clock)
    owned = models.in_states(connection, VersionState.LIVE, VersionState.CANDIDATE)
    kept = {(version.line, str(version.version)) for version in owned}
    for folder in sorted(lines.glob("*/*")):
        if (folder.parent.name, folder.name) not in kept:
            shutil.rmtree(folder)
