import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.command import downgrade
from alembic.command import upgrade as migrate
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, text

from mbd.errors import LedgerError, RecordsError, SchemaVersionError
from mbd.records import certificates, database, ledger, tables
from mbd.records.certificates import CertificateKind
from mbd.records.database import begin_locked, begin_snapshot, open_database, upgrade


def test_the_upgraded_schema_is_the_declared_one(engine: Engine) -> None:
    with begin_snapshot(engine) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, tables.metadata) == []


def test_every_constraint_has_its_declared_name(engine: Engine) -> None:
    inspector = inspect(engine)
    for table in tables.metadata.sorted_tables:
        declared = {str(constraint.name) for constraint in table.constraints}
        found = {inspector.get_pk_constraint(table.name)["name"]}
        found |= {entry["name"] for entry in inspector.get_foreign_keys(table.name)}
        found |= {entry["name"] for entry in inspector.get_check_constraints(table.name)}
        found |= {entry["name"] for entry in inspector.get_unique_constraints(table.name)}
        assert found == declared, table.name


def test_upgrading_twice_changes_nothing(database_url: str) -> None:
    upgrade(database_url)
    open_database(database_url).dispose()


def test_upgrading_works_from_any_folder(empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    upgrade(empty_url)
    open_database(empty_url).dispose()


def test_the_program_needs_the_last_revision():
    scripts = ScriptDirectory.from_config(database._alembic_config())
    assert scripts.get_current_head() == database.REVISION


def test_an_empty_database_is_not_opened(empty_url: str) -> None:
    with pytest.raises(SchemaVersionError, match="mbd db upgrade"):
        open_database(empty_url)


def test_processes_upgrade_one_after_the_other(empty_url: str) -> None:
    program = "import sys; from mbd.records.database import upgrade; upgrade(sys.argv[1])"
    processes = [subprocess.Popen([sys.executable, "-c", program, empty_url]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    open_database(empty_url).dispose()


def set_revision(engine: Engine, revision: str) -> None:
    with begin_locked(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})


def test_an_older_database_is_not_opened(engine: Engine, database_url: str) -> None:
    set_revision(engine, "0001")
    with pytest.raises(SchemaVersionError, match=r"older.*mbd db upgrade"):
        open_database(database_url)


def test_a_newer_database_is_neither_opened_nor_upgraded(engine: Engine, database_url: str) -> None:
    set_revision(engine, "9999")
    for use in (open_database, upgrade):
        with pytest.raises(SchemaVersionError, match="newer"):
            use(database_url)


def test_nothing_is_downgraded(engine: Engine) -> None:
    for revision, target in (
        ("0010", "0009"),
        ("0009", "0008"),
        ("0008", "0007"),
        ("0007", "0006"),
        ("0006", "0005"),
        ("0005", "0004"),
        ("0004", "0003"),
        ("0003", "0002"),
        ("0002", "0001"),
        ("0001", "base"),
    ):
        set_revision(engine, revision)
        config = database._alembic_config()
        with pytest.raises(RecordsError, match="downgraded") as refused, begin_locked(engine) as connection:
            config.attributes["connection"] = connection
            downgrade(config, target)
        assert isinstance(refused.value, LedgerError) == (target in ("base", "0003", "0004"))
    assert set(tables.metadata.tables) <= set(inspect(engine).get_table_names())


# One line with one certificate, as revision 0002 had them; every column that it wants.
OLD_ROWS = """
INSERT INTO lineage_node VALUES ('model_version:l/1', 'model_version', 'd', 'n', '2026-01-01 00:00:00', '{}');
INSERT INTO model_version
VALUES ('l', 1, 'model_version:l/1', 'd', NULL, 'live', NULL, 'b', 's', 'c', '2026-01-01 00:00:00');
INSERT INTO revocation (id, digest, regime, scope, requested_at, due, state, changed_at, extended, filed_by)
VALUES ('r', 'd', 'gdpr', '[]', '2026-01-01 00:00:00', '2026-02-01', 'completed', '2026-01-01 00:00:00', false, 'k')
"""


def test_the_certificates_of_an_older_database_are_of_deletions(empty_url: str) -> None:
    location = database._parse(empty_url)
    if location.get_backend_name() == "sqlite":
        database._make_private(database._sqlite_path(location))
    engine, config = database._engine(location), database._alembic_config()
    with begin_locked(engine) as connection:
        config.attributes["connection"] = connection
        migrate(config, "0002")
        for row in OLD_ROWS.split(";"):
            connection.execute(text(row))
        index = ledger.append(connection, b"leaf").leaf_index
        connection.execute(
            text(
                "INSERT INTO certificate (id, revocation_id, model_line, version, leaf_index, dsse_digest, envelope,"
                " created_at) VALUES ('c', 'r', 'l', 1, :leaf, 'd', '{}', '2026-01-01 00:00:00')"
            ),
            {"leaf": index},
        )
    engine.dispose()
    upgrade(empty_url)
    opened = open_database(empty_url)
    with begin_snapshot(opened) as connection:
        (found,) = certificates.of_version(connection, "l", 1)
    opened.dispose()
    assert (found.id, found.kind) == ("c", CertificateKind.DELETION)
