"""Retires a log's origin: a new log takes over, whose first entry commits to the last checkpoint of the old one.

For a log that cannot be made whole after a restored backup, or that is to have another name. Certificates under the old
origin stay valid: their bundles carry its proof, and the trusted root keeps its keys. Their log can grow no more.

The new log is made beside the old one, whole, and then put in its place by moves that can be repeated; while that is
under way, no other command opens the deployment.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from sqlalchemy import Connection

from certs import entry
from certs.checkpoint import parse as parse_note
from certs.keys import Ed25519Signer
from certs.note import NoteKey
from certs.notice import LogContinued
from certs.trusted_root import TrustedLog, ValidFor, build_trusted_root
from mbd.durable import sync
from mbd.errors import SettingsError
from mbd.records import certificates, ledger
from mbd.records.database import begin_locked, begin_snapshot, open_database, upgrade
from mbd.records.transfer import copy_records
from mbd.workflow.issuance import envelope_of
from mbd.workflow.keyring import add_key, key_path, publish
from mbd.workflow.log import sign_checkpoint
from mbd.workflow.log_source import CHECKPOINT
from mbd.workflow.notices import log_notice
from mbd.workflow.publication import log_folder
from mbd.workflow.signers import key_passphrase
from mbd.workflow.system import RETIRING, RETIRING_READY, System, is_retiring

_DATABASE = "mbd.sqlite3"


@dataclass(frozen=True)
class Retired:
    """What took over from what.

    Attributes:
        old_origin: the log that grows no more.
        old_size: its last signed size, to which the new one commits.
        origin: the new log.
        own_database: the records took the old ones' place; else the settings have to name the new ones.
    """

    old_origin: str
    old_size: int
    origin: str
    own_database: bool


def retire(system: System, origin: str, *, on_step: Callable[[str], None] = lambda step: None) -> Retired:
    """Put a new log in the place of the deployment's. Open the deployment to inspect it: it may be behind.

    Args:
        system: the deployment; it must be opened anew afterwards.
        origin: the new log's name.
        on_step: told what happens next.

    Crash points: until the marker ``ready`` is on disk nothing has changed, and the next call begins anew; after it,
    the next call goes on with the moves that are left.

    Raises:
        SettingsError: the origin is the old one, nothing was ever signed, or the new records have no place.
        RecordsError: that place cannot be used.
    """
    folder, settings = system.home / RETIRING, system.settings
    with system.exclusive():
        if not is_retiring(system.home):
            if origin == system.keyring.origin:
                raise SettingsError(f"{origin} is this log's name already.", remedy="give the new log another name")
            if (settings.database_url is None) != (settings.next_database_url is None):
                raise SettingsError(
                    "The new records have no place, or two.",
                    remedy="set MBD_NEXT_DATABASE_URL to an empty database exactly where MBD_DATABASE_URL is set",
                )
            on_step("making the new log")
            shutil.rmtree(folder, ignore_errors=True)
            next_url = settings.next_database_url
            _prepare(
                system, folder, origin, next_url.get_secret_value() if next_url else f"sqlite:///{folder / _DATABASE}"
            )
        on_step("putting it in place")
        last = parse_note((folder / "last").read_text("utf-8"))
        origin = (folder / RETIRING_READY).read_text("utf-8")
        _put_in_place(system, folder, last.origin)
    return Retired(last.origin, last.size, origin, own_database=settings.database_url is None)


def _prepare(system: System, folder: Path, origin: str, database: str) -> None:
    (folder / "published").mkdir(parents=True)
    last = _last_note(system)
    old = parse_note(last)
    (folder / "last").write_text(last, encoding="utf-8")
    passphrase, now = key_passphrase(system.settings), system.clock()
    signer = Ed25519Signer.generate()
    (folder / "keys").mkdir(mode=0o700)
    key = NoteKey(origin, add_key(folder, "log", signer, passphrase=passphrase))
    root = system.keyring.trusted
    ended = tuple(replace(log, valid_for=log.valid_for.ended(now)) for log in root.logs)
    published = build_trusted_root([TrustedLog(key, ValidFor(start=now)), *ended], root.signers, root.authorities)
    (folder / "trusted_root.json").write_bytes(published)
    second = tuple(each for each in system.keyring.logs if not isinstance(each, Ed25519Signer))
    keyring = replace(system.keyring, logs=(signer, *second), origin=origin, trusted_root=published)
    upgrade(database)
    engine = open_database(database)
    settings = system.settings.model_copy(update={"home": folder, "checkpoint": folder / CHECKPOINT})
    new = System(settings, folder, engine, system.identities, system.clock, keyring)
    try:
        with begin_snapshot(system.engine) as before, begin_locked(engine) as connection:
            if ledger.head(connection).size:
                raise SettingsError("The database for the new records is not empty.", remedy="give an empty one")
            copy_records(before, connection)
            continued = LogContinued(
                origin=old.origin, checkpoint=sha256(last.encode()).hexdigest(), size=old.size, root=old.root.hex()
            )
            log_notice(new, connection, continued)
            _log_waiting(new, connection)
        sign_checkpoint(new)
    finally:
        engine.dispose()
    (folder / RETIRING_READY).write_text(origin, encoding="utf-8")
    sync(folder / RETIRING_READY)
    sync(folder)


def _log_waiting(new: System, connection: Connection) -> None:
    """What the old log had and no bundle proves yet is logged here: it is completed under the new origin."""
    for waiting in certificates.incomplete(connection):
        envelope = envelope_of(waiting)
        key = new.keyring.trusted.signer_by_id(envelope.signature.keyid).key
        index = ledger.append(connection, entry.leaf(envelope, key)).leaf_index
        certificates.log_anew(connection, waiting.id, index)


def _last_note(system: System) -> str:
    """The largest checkpoint of the old log that is known to have been signed, wherever it is remembered."""
    places = (system.checkpoint_path, log_folder(system.home) / CHECKPOINT)
    notes = [path.read_text("utf-8") for path in places if path.exists()]
    with begin_snapshot(system.engine) as connection:
        latest = ledger.latest_checkpoint(connection)
    notes += [latest.note] if latest else []
    if not notes:
        raise SettingsError("Nothing was ever signed under this origin.", remedy="make a new deployment")
    return max(notes, key=lambda note: system.keyring.read_checkpoint(note).size)


def _put_in_place(system: System, folder: Path, old_origin: str) -> None:
    """Each move is done once, however often this is called; the marker goes last."""
    home, suffix = system.home, sha256(old_origin.encode()).hexdigest()[:16]
    old_keys = [log.key.key.key_id for log in system.keyring.trusted.logs if log.key.name == old_origin]
    system.engine.dispose()
    # From here on the old database does not fit what is remembered, and signs nothing.
    _move(folder / CHECKPOINT, system.checkpoint_path, aside=system.checkpoint_path.with_name(f"checkpoint-{suffix}"))
    for path in (folder / "keys").glob("*.pem"):
        path.rename(home / "keys" / path.name)
    sync(home / "keys")
    if (folder / "trusted_root.json").exists():
        publish(home, (folder / "trusted_root.json").read_bytes())
        (folder / "trusted_root.json").unlink()
    _move(folder / _DATABASE, home / _DATABASE, aside=home / f"mbd-{suffix}.sqlite3")
    _move(log_folder(folder), log_folder(home), aside=log_folder(home).with_name(f"log-{suffix}"))
    for name in ("noise-commitment.dsse.json", "noise-commitment.sigstore.json"):
        path = home / "published" / name
        aside = path.with_name(name.replace("commitment", f"commitment-{suffix}"))
        if path.exists() and not aside.exists():
            path.rename(aside)
    for key_id in old_keys:
        key_path(home, "log", key_id).unlink(missing_ok=True)
    sync(home)
    (folder / RETIRING_READY).unlink()
    shutil.rmtree(folder)


def _move(new: Path, place: Path, *, aside: Path) -> None:
    if new.exists():
        if place.exists():
            place.rename(aside)
        new.rename(place)
        sync(place.parent)
