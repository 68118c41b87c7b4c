"""The journal of destroyed openings, a file outside of the database and its backups, and its replay on a database.

A backup that is restored brings openings back; the journal has them destroyed again. It holds no name and no opening,
only each one's id, and is only ever appended to. One line each, in JSON:

    {"certificate":"mdc-...","destroyedAt":"2026-03-01T12:00:00Z","opening":"<SHA-256 of the opening, hex>"}

It decides nothing; what is destroyed is for `mbd.workflow.erasure` to say.
"""

import logging
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Engine

from certs.wire import format_timestamp
from mbd.durable import sync
from mbd.errors import SettingsError
from mbd.hashing import canonical_json
from mbd.records import commitments
from mbd.records.certificates import about_live_versions
from mbd.records.commitments import opening_id
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.scrubbing import scrub

_log = logging.getLogger(__name__)

_LINE = re.compile(
    rb'\{"certificate":"([A-Za-z0-9._+-]+)","destroyedAt":"([0-9]{4}-[0-9:T-]{14}Z)","opening":"([0-9a-f]{64})"\}'
)


@dataclass(frozen=True)
class Destroyed:
    """One opening that is to exist nowhere any more.

    Attributes:
        certificate: whose it was.
        opening: its id (`mbd.records.commitments.opening_id`).
        destroyed_at: when that was decided; UTC, whole seconds.
    """

    certificate: str
    opening: str
    destroyed_at: datetime

    @property
    def line(self) -> bytes:
        """How the journal says it: canonical JSON (RFC 8785) and a line feed."""
        at = format_timestamp(self.destroyed_at)
        return canonical_json({"certificate": self.certificate, "destroyedAt": at, "opening": self.opening}) + b"\n"


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
        file.writelines(entry.line for entry in destroyed)
        file.flush()
        os.fsync(descriptor)
    sync(path.parent)


def read(path: Path) -> list[Destroyed]:
    """All that was ever destroyed, in order; a last line without its end is none. No file, no entries.

    Raises:
        SettingsError: another line is damaged, so that nobody knows what must stay destroyed.
    """
    body = path.read_bytes() if path.exists() else b""
    try:
        return [_parse(line) for line in body.split(b"\n")[:-1]]
    except ValueError:
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


def _parse(line: bytes) -> Destroyed:
    found = _LINE.fullmatch(line)
    if found is None:
        raise ValueError("not a line of the journal")
    certificate, at, opening = (part.decode() for part in found.groups())
    return Destroyed(certificate, opening, datetime.fromisoformat(at))
