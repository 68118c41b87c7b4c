"""A deployment as those see it who file and decide: its records and its people. It has no key that signs, and no model.

The API opens an office; `mbd.workflow.system.System` is one that can delete and sign as well.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from sqlalchemy import Connection, Engine

from certs import checkpoint as checkpoints
from certs.trusted_root import parse
from mbd.errors import SettingsError
from mbd.records import ledger
from mbd.records.database import open_database
from mbd.records.ledger import TreeHead
from mbd.settings import Settings
from mbd.workflow.identities import Identities, load_identities

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The time, in whole seconds, as certificates say it."""
    return datetime.now(UTC).replace(microsecond=0)


@dataclass(frozen=True)
class Office:
    """A deployment's records.

    Attributes:
        settings: as given.
        home: its folder.
        engine: its database.
        identities: its people's names, as the database has them.
        clock: the time, in UTC and whole seconds.
    """

    settings: Settings
    home: Path
    engine: Engine
    identities: Identities
    clock: Clock

    def version_folder(self, line: str, version: int) -> Path:
        """Where a version's ``cohort`` and ``model`` folders lie."""
        return self.home / "lines" / line / str(version)

    def cohort_folder(self, line: str, version: int) -> Path:
        """The rows that a version's statistics were made of."""
        return self.version_folder(line, version) / "cohort"

    def model_folder(self, line: str, version: int) -> Path:
        """A version's files."""
        return self.version_folder(line, version) / "model"

    @property
    def trusted_root_path(self) -> Path:
        """What verifiers need to trust. Read anew each time: keys come and go while a service runs."""
        return self.home / "published" / "trusted_root.json"

    @property
    def checkpoint_path(self) -> Path:
        """The last signed checkpoint, outside the database."""
        return self.settings.checkpoint or self.home / "checkpoint"


def refuse_rollback(office: Office, connection: Connection) -> None:
    """Hold the log against the checkpoint that is kept outside the database.

    Raises:
        LedgerError: the database is behind it or forked from it: an old backup was restored, in which withdrawn
            channels may live and be unsuppressed.
    """
    if office.checkpoint_path.exists():
        remembered = _remembered(office.checkpoint_path.read_text(), office.trusted_root_path.read_bytes())
        ledger.check_not_behind(connection, remembered)


@lru_cache(maxsize=4)
def _remembered(note: str, trusted_root: bytes) -> TreeHead:
    """The head that a checkpoint of this log signs. Kept, because every decision asks, and few change the answer."""
    logs = [log.key for log in parse(trusted_root).logs]
    checkpoint, _ = checkpoints.verify(note, [key for key in logs if key.name == logs[0].name])
    return TreeHead(checkpoint.size, checkpoint.root)


@contextmanager
def open_office(settings: Settings, *, clock: Clock = utc_now) -> Iterator[Office]:
    """Open a deployment that is there.

    Raises:
        SettingsError: it is not there, or its secret is not.
        SchemaVersionError: its database is missing, older or newer than this program.
        RecordsError: the database cannot be reached.
    """
    home = settings.state
    if not home.is_dir():
        raise SettingsError(f"There is no state folder {home}.", remedy="begin with `mbd train`, or give --home")
    identities = load_identities(home)
    engine = open_database(settings.database)
    try:
        yield Office(settings, home, engine, identities, clock)
    finally:
        engine.dispose()
