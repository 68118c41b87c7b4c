"""Opens the database, upgrades it, and begins its transactions, alike on SQLite and PostgreSQL.

It knows no table but the schema's version. No message of its errors shows a URL, because a URL may hold a password.
"""

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError

from mbd.errors import RecordsError, SchemaVersionError

if TYPE_CHECKING:
    from alembic.config import Config

REVISION = "0010"
"""The schema that this program needs: the last one of `migrations/`. Alembic knows it too, and takes long to load."""

_LOCKED = "mbd_locked"
_ADVISORY_LOCK = int.from_bytes(b"mbd.log", "big")
# What begins a transaction, by the dialect's name.
_LOCK = {
    "sqlite": "BEGIN IMMEDIATE",
    "postgresql": f"BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})",
}
_SNAPSHOT = {"sqlite": "BEGIN", "postgresql": "BEGIN ISOLATION LEVEL REPEATABLE READ"}
_BUSY_SECONDS = 30
_IDLE_SECONDS = 300  # after which PostgreSQL takes the lock from a process that stands still in a transaction
_UPGRADE = "run mbd db upgrade"


def open_database(url: str) -> Engine:
    """An engine on a database whose schema is this program's. The caller disposes of it.

    Args:
        url: ``sqlite:///path`` or ``postgresql://user@host/name``.

    Raises:
        SchemaVersionError: the schema is missing, older or newer.
        RecordsError: the URL, the folder or the server is not usable.
    """
    location = _parse(url)
    if location.get_backend_name() == "sqlite" and not _sqlite_path(location).exists():
        raise SchemaVersionError(f"There is no database at {_sqlite_path(location)} yet.", remedy=_UPGRADE)
    engine = _engine(location)
    try:
        with begin_snapshot(engine) as connection:
            current = _revision(connection)
            if current != REVISION:
                raise _unsuitable(current)
    except BaseException:
        engine.dispose()
        raise
    return engine


def upgrade(url: str) -> None:
    """Bring the schema to this program's revision in one transaction; make the SQLite file (mode 0600) if need be.

    A database that is up to date stays as it is. Two processes that upgrade at once do it one after the other.

    Raises:
        SchemaVersionError: the schema is newer.
        RecordsError: the URL, the folder or the server is not usable.
    """
    from alembic import command  # noqa: PLC0415 - half a second, for upgrades alone

    location = _parse(url)
    if location.get_backend_name() == "sqlite":
        _make_private(_sqlite_path(location))
    config = _alembic_config()
    engine = _engine(location)
    try:
        with begin_locked(engine) as connection:
            current = _revision(connection)
            if current is not None and not _is_known(current):
                raise _unsuitable(current)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()


@contextmanager
def begin_locked(engine: Engine) -> Iterator[Connection]:
    """A transaction for writing: no other one runs until it ends. It commits when the block ends, else rolls back.

    The lock is taken by the transaction's *first* statement (BEGIN IMMEDIATE, or pg_advisory_xact_lock under READ
    COMMITTED), so that all it reads afterwards is what the previous writer left: read-then-insert cannot race.
    """
    with _transaction(engine, _LOCK) as connection:
        connection.execution_options(**{_LOCKED: True})
        yield connection


@contextmanager
def begin_snapshot(engine: Engine) -> Iterator[Connection]:
    """A transaction for reading: all its statements see the database as the first one did. It waits for no writer."""
    with _transaction(engine, _SNAPSHOT) as connection:
        yield connection


@contextmanager
def begin_nothing(engine: Engine) -> Iterator[Connection]:
    """A connection to PostgreSQL on which each statement stands alone, as VACUUM must."""
    with _transaction(engine, {}) as connection:
        yield connection


def is_locked(connection: Connection) -> bool:
    """Whether the connection comes from `begin_locked`."""
    return bool(connection.get_execution_options().get(_LOCKED, False))


def is_unreachable(error: BaseException) -> bool:
    """Whether the database gave out (away, locked, full), so that the same can be asked again when it is back."""
    cause = error.__cause__ if isinstance(error, RecordsError) else error
    return isinstance(cause, OperationalError | InterfaceError | sqlite3.OperationalError)


@contextmanager
def _transaction(engine: Engine, begin: Mapping[str, str]) -> Iterator[Connection]:
    try:
        connection = engine.connect()
    except DBAPIError as error:
        raise RecordsError(
            f"The database {_name(engine.url)} cannot be opened: {str(error.orig).strip()}.",
            remedy="check MBD_DATABASE_URL, and that the server runs or the file may be written",
        ) from error
    with connection:
        transaction = connection.begin()
        try:
            _begin(connection, begin.get(engine.dialect.name))
        except (DBAPIError, sqlite3.Error) as error:
            raise RecordsError(
                f"The database {_name(engine.url)} gives no transaction: {getattr(error, 'orig', error)}.",
                remedy="if another command is writing, let it finish, then try again",
            ) from error
        with transaction:
            yield connection


def _begin(connection: Connection, statement: str | None) -> None:
    """Not by a listener to the engine's "begin", which makes everything slower that the engine does."""
    if statement is None:
        return
    if connection.dialect.name == "sqlite":
        # By the driver itself: around so short a statement, SQLAlchemy's result costs ten times as much as running it.
        connection.connection.cursor().execute(statement).close()
    else:
        connection.exec_driver_sql(statement)


def _parse(url: str) -> URL:
    try:
        location = make_url(url)
    except (ArgumentError, ValueError):  # from None: the cause may quote the URL, and with it a password
        raise RecordsError("The database URL cannot be parsed.", remedy="see MBD_DATABASE_URL") from None
    if location.drivername == "sqlite":
        return location
    if location.drivername in ("postgresql", "postgresql+psycopg"):
        return location.set(drivername="postgresql+psycopg")
    raise RecordsError(
        f"'{location.drivername}' is not a database this program runs on.",
        remedy="use sqlite:///path or postgresql://user@host/name",
    )


def _sqlite_path(location: URL) -> Path:
    database = location.database or ":memory:"
    if database.startswith((":memory:", "file:")):
        raise RecordsError(
            "The records need a file: a ledger in memory would be lost with the program.",
            remedy="use sqlite:///path",
        )
    path = Path(database)
    if not path.parent.is_dir():
        raise RecordsError(f"The folder {path.parent} does not exist.", remedy=f"make it: mkdir -p {path.parent}")
    return path


def _make_private(path: Path) -> None:
    """Make the file before SQLite does: mode 0600 from the first byte, which its -wal and -shm inherit."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise RecordsError(
            f"The database {path} cannot be made: {error.strerror}.", remedy="use a folder that you may write to"
        ) from error


def _name(location: URL) -> str:
    if location.get_backend_name() == "sqlite":
        return str(location.database)
    return f"'{location.database}' on {location.host or 'the local server'}"


def _engine(location: URL) -> Engine:
    # hide_parameters: an SQL error would otherwise print subject keys and commitment keys.
    if location.get_backend_name() == "postgresql":
        # AUTOCOMMIT: the driver would send a BEGIN of its own, which is a journey to the server more.
        options = f"-c idle_in_transaction_session_timeout={_IDLE_SECONDS}s"
        return create_engine(
            location, isolation_level="AUTOCOMMIT", hide_parameters=True, connect_args={"options": options}
        )
    engine = create_engine(location, connect_args={"timeout": _BUSY_SECONDS}, hide_parameters=True)
    event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(dbapi_connection: sqlite3.Connection, _record: object) -> None:
    # The driver would begin only before the first write, with a plain BEGIN: `_begin` does it instead.
    dbapi_connection.isolation_level = None
    for pragma in (
        "journal_mode = WAL",  # readers and the one writer do not wait for each other
        "synchronous = FULL",  # a commit that returned survives a power cut
        "foreign_keys = ON",
        "recursive_triggers = ON",  # REPLACE fires the triggers that refuse DELETE
        "secure_delete = ON",  # what is overwritten or deleted leaves no copy in free space
    ):
        dbapi_connection.execute(f"PRAGMA {pragma}").close()


def _alembic_config() -> "Config":
    from alembic.config import Config  # noqa: PLC0415 - half a second, for upgrades alone

    config = Config()
    # By name, so that records does not import the package that imports its tables.
    config.set_main_option("script_location", str(resources.files("migrations")).replace("%", "%%"))
    return config


def _revision(connection: Connection) -> str | None:
    """The schema's, where Alembic keeps it; None where there is none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


def _is_known(revision: str) -> bool:
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - half a second, for upgrades alone

    scripts = ScriptDirectory.from_config(_alembic_config())
    return revision in {script.revision for script in scripts.walk_revisions()}


def _unsuitable(current: str | None) -> SchemaVersionError:
    """What is wrong with another schema than ours."""
    if current is None:
        return SchemaVersionError("The database has no schema yet.", remedy=_UPGRADE)
    if _is_known(current):
        return SchemaVersionError(f"The database's schema, {current}, is older than this program.", remedy=_UPGRADE)
    return SchemaVersionError(
        f"The database's schema, {current}, is newer than this program.",
        remedy="install the version of missing-by-design that last upgraded it",
    )
