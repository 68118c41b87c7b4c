"""The journal of destroyed openings, a file outside of the database and its backups, and its replay on a database.

A backup that is restored brings openings back; the journal has them destroyed again. It holds no name and no opening,
only each one's id, and is only ever appended to. One line each, in JSON:

    {"certificate":"mdc-...","destroyedAt":"2026-03-01T12:00:00Z","opening":"<SHA-256 of the opening, hex>"}

It decides nothing; what is destroyed is for `mbd.workflow.erasure` to say.
"""

import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError
from sqlalchemy import Engine

from certs.wire import Digest, Slug, Timestamp, Wire
from mbd.durable import sync
from mbd.errors import SettingsError
from mbd.records import commitments
from mbd.records.certificates import about_live_versions
from mbd.records.commitments import opening_id
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.scrubbing import scrub

_log = logging.getLogger(__name__)


class Destroyed(Wire):
    """One opening that is to exist nowhere any more.

    Attributes:
        certificate: whose it was.
        opening: its id (`mbd.records.commitments.opening_id`).
        destroyed_at: when that was decided.
    """

    certificate: Slug
    opening: Digest
    destroyed_at: Timestamp


def remember(path: Path, destroyed: Sequence[Destroyed]) -> None:
    """Append to the journal; it is on disk when this returns. One process at a time.

    Crash points: a line that a crash cut short counts as never written, and the next call removes it. Nothing was
    destroyed for it yet: the database is changed only after this has returned.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        whole = file.read().rfind(b"\n") + 1
        file.truncate(whole)
        file.seek(whole)
        file.writelines(entry.canonical() + b"\n" for entry in destroyed)
        file.flush()
        os.fsync(descriptor)
    sync(path.parent)


def read(path: Path) -> list[Destroyed]:
    """All that was ever destroyed, in order; a last line without its end is none. No file, no entries.

    Raises:
        SettingsError: another line is damaged, so that nobody knows what must stay destroyed.
    """
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    try:
        return [Destroyed.model_validate_json(line, strict=True, by_alias=True, by_name=False) for line in lines]
    except ValidationError:
        raise SettingsError(
            f"The journal of destroyed keys, {path}, is damaged.", remedy="restore it from its latest copy"
        ) from None


def destroy_again(engine: Engine, path: Path) -> tuple[str, ...]:
    """Destroy what the journal says is destroyed and the database has: a backup was restored, or a crash came between.

    Where a live version's manifest key could make such an opening, the log says what to do: that takes long.

    Crash point: until it has committed, the next opening of the deployment does it again.

    Returns:
        The certificates whose openings were there again.

    Raises:
        SettingsError: see `read`.
    """
    known: dict[str, dict[str, datetime]] = defaultdict(dict)
    for entry in read(path):
        known[entry.certificate][entry.opening] = entry.destroyed_at
    if not known:
        return ()
    with begin_snapshot(engine) as connection:
        kept = commitments.openings_of(connection, known)
        live = {version: name for name, version in about_live_versions(connection).items() if name in known}
    back = {
        name: found for name, openings in kept.items() if (found := known[name].keys() & set(map(opening_id, openings)))
    }
    if back:
        with begin_locked(engine) as connection:
            for name, ids in back.items():
                at = max(known[name][found] for found in ids)
                commitments.destroy_openings(connection, name, ids, at=at)
        left = scrub(engine)
        _log.warning(
            "Openings that had been destroyed were in the database, as after a crash or from a restored backup. They "
            "were destroyed again, of certificates: %s.%s",
            ", ".join(sorted(back)),
            f" {left}" if left else "",
        )
    for (line, number), name in live.items():
        _log.warning(
            "Version %d of '%s' is live, and its cohort folder can make openings that were destroyed. Run: "
            "mbd forget --certificate %s",
            number,
            line,
            name,
        )
    return tuple(sorted(back))
