import os
import socket
import sqlite3
import stat
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert, select, text
from sqlalchemy.exc import IntegrityError, StatementError

from mbd.errors import RecordsError
from mbd.records import database, tables
from mbd.records.database import begin_locked, begin_snapshot, open_database, upgrade

SECRET = "hunter2"


def test_the_sqlite_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite3"
    url = f"sqlite:///{path}"
    old = os.umask(0)
    try:
        upgrade(url)
        engine = open_database(url)
        with begin_locked(engine) as connection:
            connection.execute(text("UPDATE model_version SET digest = digest"))
            files = sorted(tmp_path.iterdir())
            modes = [stat.S_IMODE(file.stat().st_mode) for file in files]
        engine.dispose()
    finally:
        os.umask(old)
    assert [file.name for file in files] == ["records.sqlite3", "records.sqlite3-shm", "records.sqlite3-wal"]
    assert modes == [0o600] * 3


def test_sqlite_runs_with_the_settings_that_the_ledger_needs(sqlite_url: str) -> None:
    engine = open_database(sqlite_url)
    expected = {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "recursive_triggers": 1,
        "secure_delete": 1,
        "busy_timeout": 30_000,
    }
    with begin_snapshot(engine) as connection:
        found = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in expected}
    engine.dispose()
    assert found == expected


def test_opening_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match="mbd db upgrade"):
        open_database(f"sqlite:///{tmp_path / 'records.sqlite3'}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("use", [open_database, upgrade])
def test_a_missing_folder_is_named(tmp_path: Path, use) -> None:
    with pytest.raises(RecordsError, match=r"nowhere does not exist.*mkdir -p"):
        use(f"sqlite:///{tmp_path / 'nowhere' / 'records.sqlite3'}")


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:memory?mode=memory&uri=true"])
@pytest.mark.parametrize("use", [open_database, upgrade])
def test_a_database_in_memory_is_refused(url: str, use) -> None:
    with pytest.raises(RecordsError, match="need a file"):
        use(url)


def test_a_file_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match="cannot be made: File name too long"):
        upgrade(f"sqlite:///{tmp_path / ('x' * 300)}")


def test_a_file_that_is_no_database_is_an_error_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are notes, and not a database; " * 100)
    before = path.read_bytes()
    for use in (open_database, upgrade):
        with pytest.raises(RecordsError, match=r"notes\.txt"):
            use(f"sqlite:///{path}")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://anna:{SECRET}@localhost/mbd",
        f"postgresql+psycopg2://anna:{SECRET}@localhost/mbd",
        f"postgresql://anna:{SECRET}@localhost:port/mbd",
        f"anna:{SECRET}@localhost",
        "",
    ],
)
@pytest.mark.parametrize("use", [open_database, upgrade])
def test_an_unusable_url_is_an_error_without_its_password(url: str, use) -> None:
    with pytest.raises(RecordsError) as refused:
        use(url)
    assert_silent(refused.value)


@pytest.mark.postgres
@pytest.mark.parametrize(
    "url", ["postgresql://anna:{}@127.0.0.1:{}/mbd", "postgresql://127.0.0.1:{1}/mbd?password={0}"]
)
def test_an_absent_server_is_an_error_without_its_password(url: str) -> None:
    with socket.socket() as reserved:  # bound and not listening: nobody answers there
        reserved.bind(("127.0.0.1", 0))
        with pytest.raises(RecordsError, match=r"'mbd' on 127\.0\.0\.1") as refused:
            open_database(url.format(SECRET, reserved.getsockname()[1]))
    assert_silent(refused.value)


def assert_silent(error: BaseException | None) -> None:
    """Neither the error nor what a traceback would print above it shows the password."""
    while error is not None:
        assert SECRET not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_an_sql_error_shows_no_values(engine: Engine) -> None:
    row = {"certificate_id": "none", "key": SECRET.encode()}
    with begin_locked(engine) as connection:
        with pytest.raises(IntegrityError) as refused:
            connection.execute(insert(tables.commitment_key).values(**row))
            connection.commit()
        connection.rollback()
    assert SECRET not in str(refused.value)


def test_begin_immediate_is_really_the_first_statement(sqlite_url: str) -> None:
    engine = open_database(sqlite_url)
    statements: list[str] = []
    with engine.connect() as connection:
        connection.connection.driver_connection.set_trace_callback(statements.append)  # type: ignore[union-attr]
    with begin_locked(engine) as connection:
        connection.execute(text("SELECT 1"))
    with begin_snapshot(engine) as connection:
        connection.execute(text("SELECT 2"))
    engine.dispose()
    assert statements == ["BEGIN IMMEDIATE", "SELECT 1", "COMMIT", "BEGIN", "SELECT 2", "COMMIT"]


@pytest.mark.postgres
def test_the_advisory_lock_is_really_the_first_statement(postgres_url: str) -> None:
    engine = open_database(postgres_url)
    with begin_locked(engine) as connection:
        held = connection.scalar(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"))
        assert held == 1
        assert connection.scalar(text("SHOW transaction_isolation")) == "read committed"
    with begin_snapshot(engine) as connection:
        assert connection.scalar(text("SHOW transaction_isolation")) == "repeatable read"
        assert connection.scalar(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")) == 0
    engine.dispose()


def test_a_database_that_stays_locked_is_an_error(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0)
    engine = open_database(sqlite_url)
    other = sqlite3.connect(str(engine.url.database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(RecordsError, match="locked"), begin_locked(engine):
        pass
    other.rollback()
    other.close()
    with begin_locked(engine) as connection:
        assert connection.scalar(text("SELECT 1")) == 1
    engine.dispose()


def test_a_time_comes_back_in_utc_and_in_whole_seconds(engine: Engine) -> None:
    summer = timezone(timedelta(hours=2))
    given = datetime(2026, 7, 1, 0, 30, 15, 999_999, tzinfo=summer)
    row = {"id": "cohort:x", "kind": "cohort", "digest": "x", "name": "x", "attributes": {}}
    with begin_locked(engine) as connection:
        connection.execute(insert(tables.lineage_node).values(**row, created_at=given))
        stored = connection.scalar(select(tables.lineage_node.c.created_at))
    assert stored == datetime(2026, 6, 30, 22, 30, 15, tzinfo=UTC)
    assert stored.utcoffset() == timedelta(0)


def test_a_time_without_a_zone_is_refused(engine: Engine) -> None:
    row = {"id": "cohort:x", "kind": "cohort", "digest": "x", "name": "x", "attributes": {}}
    with begin_locked(engine) as connection, pytest.raises(StatementError, match="no time zone"):
        connection.execute(insert(tables.lineage_node).values(**row, created_at=datetime(2026, 7, 1)))  # noqa: DTZ001
