import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
import pytest
from sqlalchemy import Connection, Engine, make_url, text
from sqlalchemy.exc import DBAPIError

from mbd.records import cosignatures, ledger, requests
from mbd.records.database import begin_locked, begin_snapshot, open_database
from mbd.records.ledger import Checkpoint
from mbd.records.requests import WORKER, Revocation
from mbd.records.roles import grant_application_role

ROOT = "0" * 64
TABLES = ("leaf", "node", "head", "checkpoint", "cosignature", "revocation_event")

CHANGES = [
    "UPDATE leaf SET body = hash WHERE idx = 1",
    "UPDATE leaf SET idx = 9 WHERE idx = 3",
    "UPDATE node SET hash = hash",
    "UPDATE head SET size = size + 1 WHERE size = 8",
    "UPDATE checkpoint SET note = 'forged'",
    "UPDATE cosignature SET line = 'forged'",
    "UPDATE revocation_event SET reason = 'forged'",
    *(f"DELETE FROM {table}" for table in TABLES),
]

EVENT = "(revocation_id, number, action, state, role, actor, at)"

# In each, the next row is idx 8, node 3/1 or 4/0, head 9 (after leaf 8), checkpoint above 8,
# and the second step of request r.
INSERTIONS = [
    ("leaf", "(idx, body, hash)", "(1, {b}, {h})"),  # again
    ("leaf", "(idx, body, hash)", "(9, {b}, {h})"),  # a gap
    ("leaf", "(idx, body, hash)", "(-1, {b}, {h})"),
    ("node", "(level, idx, hash)", "(3, 0, {h})"),  # again
    ("node", "(level, idx, hash)", "(3, 2, {h})"),  # a gap
    ("node", "(level, idx, hash)", "(4, 1, {h})"),
    ("head", "(size, root)", "(8, {h})"),  # again
    ("head", "(size, root)", "(7, {h})"),  # smaller
    ("head", "(size, root)", "(9, {h})"),  # without its leaf
    ("checkpoint", "(size, root, note)", "(8, {h}, 'forged')"),  # again
    ("checkpoint", "(size, root, note)", "(2, {h}, 'forged')"),  # smaller
    ("cosignature", "(size, witness, line)", "(8, 'w', 'forged')"),  # again
    ("revocation_event", EVENT, "('r', 0, 'file', 'filed', 'officer', 'forged', '2026-01-01 00:00:00')"),  # again
    ("revocation_event", EVENT, "('r', 2, 'deny', 'denied', 'officer', 'forged', '2026-01-01 00:00:00')"),  # a gap
]


def fill(engine: Engine) -> None:
    """Leaves 0 to 7 in two steps, a checkpoint of size 8 that one witness cosigned, and a request."""
    for bodies in ([b"a", b"b"], [b"c", b"d", b"e", b"f", b"g", b"h"]):
        with begin_locked(engine) as connection:
            head = ledger.append_many(connection, bodies)[-1].head
    with begin_locked(engine) as connection:
        ledger.store_checkpoint(connection, Checkpoint(head, "note"))
        cosignatures.keep_cosignatures(connection, head.size, {"w": "line"})
        at = datetime(2026, 1, 1, tzinfo=UTC)
        requests.file(connection, Revocation("r", "d", "gdpr", (), at, at.date()), by=WORKER)


@pytest.fixture
def filled(engine: Engine) -> Engine:
    fill(engine)
    return engine


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[Engine]:
    engine = open_database(postgres_url)
    fill(engine)
    yield engine
    engine.dispose()


def contents(connection: Connection) -> dict[str, list[tuple[object, ...]]]:
    return {table: [tuple(row) for row in connection.execute(text(f"SELECT * FROM {table}"))] for table in TABLES}


def values(engine: Engine, template: str) -> str:
    """The row with 32 zero bytes for {b} and {h}."""
    quoted = f"x'{ROOT}'" if engine.dialect.name == "sqlite" else f"'\\x{ROOT}'"
    return template.format(b=quoted, h=quoted)


def assert_refused(engine: Engine, *statements: str) -> None:
    """The last statement is refused, and nothing has changed."""
    with begin_snapshot(engine) as connection:
        before = contents(connection)
    with begin_locked(engine) as connection:
        for statement in statements[:-1]:
            connection.execute(text(statement))
        with pytest.raises(DBAPIError, match="append-only"):
            connection.execute(text(statements[-1]))
        connection.rollback()
    with begin_snapshot(engine) as connection:
        assert contents(connection) == before


def insertions(engine: Engine) -> list[str]:
    return [f"INSERT INTO {table} {columns} VALUES {values(engine, row)}" for table, columns, row in INSERTIONS]


def test_no_row_is_changed_or_removed(filled: Engine, subtests: pytest.Subtests) -> None:
    for statement in CHANGES:
        with subtests.test(statement):
            assert_refused(filled, statement)


def test_only_the_next_row_is_taken(filled: Engine, subtests: pytest.Subtests) -> None:
    for statement in insertions(filled):
        with subtests.test(statement):
            assert_refused(filled, statement)


def test_a_subtree_that_is_folded_from_its_leaves_has_no_row(filled: Engine) -> None:
    with begin_locked(filled) as connection:
        with pytest.raises(DBAPIError, match="ck_node_place"):
            connection.execute(text(f"INSERT INTO node (level, idx, hash) VALUES {values(filled, '(2, 0, {h})')}"))
        connection.rollback()


def test_an_upsert_is_refused(filled: Engine) -> None:
    row = values(filled, "(1, {b}, {h})")
    assert_refused(
        filled,
        f"INSERT INTO leaf VALUES {row} ON CONFLICT (idx) DO UPDATE SET body = excluded.body, hash = excluded.hash",
    )


@pytest.fixture
def attacker(sqlite_url: str) -> Iterator[sqlite3.Connection]:
    """A connection to a filled SQLite file with SQLite's defaults: recursive_triggers and foreign_keys off."""
    engine = open_database(sqlite_url)
    fill(engine)
    engine.dispose()
    connection = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    assert connection.execute("PRAGMA recursive_triggers").fetchone() == (0,)
    yield connection
    connection.close()


@pytest.mark.parametrize("verb", ["REPLACE", "INSERT OR REPLACE", "INSERT OR IGNORE"])
def test_replace_is_refused_without_recursive_triggers(attacker: sqlite3.Connection, verb: str) -> None:
    before = list(attacker.iterdump())
    for table, columns, row in INSERTIONS:
        zeros = f"x'{ROOT}'"
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            attacker.execute(f"{verb} INTO {table} {columns} VALUES {row.format(b=zeros, h=zeros)}")
    assert list(attacker.iterdump()) == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE OR REPLACE leaf SET idx = 2 WHERE idx = 3",
        "UPDATE leaf SET rowid = 9 WHERE rowid = 3",
        f"INSERT INTO leaf (body, hash) VALUES (x'', x'{ROOT}')",  # an automatic row id
        f"INSERT INTO leaf VALUES (1.5, x'', x'{ROOT}')",
    ],
)
def test_sqlite_offers_no_way_round(attacker: sqlite3.Connection, statement: str) -> None:
    with pytest.raises(sqlite3.IntegrityError, match=r"append-only|datatype mismatch"):
        attacker.execute(statement)


@pytest.mark.postgres
def test_truncate_is_refused(postgres: Engine, subtests: pytest.Subtests) -> None:
    for table in TABLES:
        with subtests.test(table):
            assert_refused(postgres, f"TRUNCATE {table} CASCADE")


@pytest.mark.postgres
def test_a_replica_session_is_refused_too(postgres: Engine, subtests: pytest.Subtests) -> None:
    for statement in [
        *CHANGES,
        *insertions(postgres),
        "TRUNCATE leaf, node, head, checkpoint, cosignature, revocation CASCADE",
    ]:
        with subtests.test(statement):
            assert_refused(postgres, "SET LOCAL session_replication_role = replica", statement)


@pytest.mark.postgres
def test_a_temporary_table_does_not_hide_the_log_from_its_trigger(postgres: Engine) -> None:
    assert_refused(
        postgres,
        "CREATE TEMPORARY TABLE leaf (idx bigint) ON COMMIT DROP",
        "INSERT INTO pg_temp.leaf VALUES (6)",
        f"INSERT INTO public.leaf VALUES {values(postgres, '(7, {b}, {h})')}",
    )


@pytest.mark.postgres
def test_many_rows_in_one_statement_are_each_checked(postgres: Engine) -> None:
    row = values(postgres, "({{}}, {b}, {h})")
    rows = [row.format(idx) for idx in (8, 10)]
    assert_refused(postgres, f"INSERT INTO leaf VALUES {', '.join(rows)}")
    with begin_locked(postgres) as connection:
        connection.execute(text(f"INSERT INTO leaf VALUES {row.format(8)}, {row.format(9)}"))
        connection.rollback()


@pytest.fixture
def application(postgres: Engine) -> Iterator[Engine]:
    """The same database as a role with no more rights than the application needs."""
    role = f"app_{postgres.url.database}"
    with begin_locked(postgres) as connection:
        connection.execute(text(f'CREATE ROLE "{role}" LOGIN'))
        grant_application_role(connection, role)
    engine = open_database(make_url(postgres.url).set(username=role).render_as_string(hide_password=False))
    yield engine
    engine.dispose()
    with begin_locked(postgres) as connection:
        connection.execute(text(f'DROP OWNED BY "{role}"'))
        connection.execute(text(f'DROP ROLE "{role}"'))


@pytest.mark.postgres
def test_the_applications_role_can_append_sign_and_prove(application: Engine) -> None:
    with begin_locked(application) as connection:
        head = ledger.append(connection, b"e").head
        ledger.store_checkpoint(connection, Checkpoint(head, "note"))
        cosignatures.keep_cosignatures(connection, head.size, {"w": "line"})
        assert ledger.inclusion_proof(connection, 4, head.size)


@pytest.mark.postgres
def test_the_applications_role_can_do_no_more(application: Engine, subtests: pytest.Subtests) -> None:
    for statement in [
        *CHANGES,
        "TRUNCATE checkpoint",
        "ALTER TABLE leaf DISABLE TRIGGER ALL",
        "DROP TRIGGER leaf_no_change ON leaf",
        "SET session_replication_role = replica",
        "DELETE FROM suppression",
        "DELETE FROM model_version",
    ]:
        with subtests.test(statement), begin_locked(application) as connection:
            with pytest.raises(DBAPIError) as refused:
                connection.execute(text(statement))
            assert isinstance(refused.value.orig, psycopg.errors.InsufficientPrivilege)
            connection.rollback()
