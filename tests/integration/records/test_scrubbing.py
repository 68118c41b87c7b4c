"""After openings are destroyed, none of their bytes is in the database's own files; or it says what is left to do."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert, make_url, text

from mbd.records import commitments, scrubbing, tables
from mbd.records.database import begin_locked, begin_snapshot, open_database
from mbd.records.roles import grant_application_role
from mbd.records.scrubbing import scrub

OPENINGS = [bytes(range(first, first + 32)) for first in (0, 64, 128, 192)]
KEPT = bytes(range(100, 132))
NAME = "mdc-0123456789abcdef"
ON_POSTGRES = pytest.mark.parametrize(
    "database_url", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True
)


@pytest.fixture
def loose(engine: Engine, now: datetime) -> Engine:
    """Openings of certificates that are not there, for which the database's rule is lifted."""
    if engine.dialect.name == "sqlite":
        raw = engine.raw_connection()
        raw.cursor().execute("PRAGMA foreign_keys = OFF")
        raw.close()
    else:
        with begin_locked(engine) as connection:
            rule = "fk_commitment_key_certificate_id"
            connection.execute(text(f"ALTER TABLE commitment_key DROP CONSTRAINT {rule}"))
    with begin_locked(engine) as connection:
        for name, key in (("kept", KEPT), (NAME, b"".join(OPENINGS))):
            connection.execute(insert(tables.commitment_key).values(certificate_id=name, key=key))
    return engine


def destroy(engine: Engine, at: datetime) -> None:
    with begin_locked(engine) as connection:
        ids = [commitments.opening_id(opening) for opening in OPENINGS]
        assert commitments.destroy_openings(connection, NAME, ids, at=at) == len(ids)


def files(engine: Engine) -> set[str]:
    """The database's files that hold eight bytes in a row of a destroyed opening; those of tables, of PostgreSQL's."""
    if engine.dialect.name == "sqlite":
        folder = Path(str(engine.url.database)).parent
    else:
        with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text("CHECKPOINT"))  # pages in memory to files
            oid = connection.execute(text("SELECT oid FROM pg_database WHERE datname = current_database()"))
            folder = Path(connection.execute(text("SHOW data_directory")).scalar_one()) / "base" / str(oid.scalar_one())
    pieces = [opening[start : start + 8] for opening in OPENINGS for start in range(len(opening) - 7)]
    bodies = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name for name, body in bodies.items() if any(piece in body for piece in pieces)}


def test_no_byte_of_a_destroyed_opening_is_in_the_databases_files(loose: Engine, now: datetime) -> None:
    assert files(loose)
    destroy(loose, now)
    assert files(loose), "without scrubbing they would be gone too"
    assert scrub(loose) is None
    assert files(loose) == set()
    with begin_snapshot(loose) as connection:
        assert commitments.key_of(connection, "kept") == KEPT
    assert scrub(loose) is None


def test_a_reader_that_sees_the_old_rows_is_reported_and_the_next_scrubbing_is_whole(
    loose: Engine, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrubbing, "_WAIT_MS", 100)
    with begin_snapshot(loose) as reader:
        reader.execute(text("SELECT count(*) FROM head"))
        destroy(loose, now)
        left = scrub(loose)
        assert left is not None
        assert files(loose)
    assert scrub(loose) is None
    assert files(loose) == set()


@ON_POSTGRES
def test_a_table_in_use_is_not_waited_for_long(loose: Engine, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrubbing, "_WAIT_MS", 100)
    destroy(loose, now)
    with begin_snapshot(loose) as reader:
        commitments.key_of(reader, "kept")
        left = scrub(loose)
    assert left is not None
    assert "was in use" in left


@pytest.fixture
def application(loose: Engine) -> Iterator[Engine]:
    """The same database as a role with no more rights than the application needs."""
    role = f"app_{loose.url.database}"
    with begin_locked(loose) as connection:
        connection.execute(text(f'CREATE ROLE "{role}" LOGIN'))
        grant_application_role(connection, role)
    engine = open_database(make_url(loose.url).set(username=role).render_as_string(hide_password=False))
    yield engine
    engine.dispose()
    with begin_locked(loose) as connection:
        connection.execute(text(f'DROP OWNED BY "{role}"'))
        connection.execute(text(f'DROP ROLE "{role}"'))


@ON_POSTGRES
def test_a_role_that_may_not_write_the_table_anew_says_so(application: Engine, loose: Engine, now: datetime) -> None:
    destroy(application, now)
    left = scrub(application)
    assert left is not None
    assert "Run as its owner: VACUUM (FULL) commitment_key" in left
    assert files(loose)
    assert scrub(loose) is None
    assert files(loose) == set()
