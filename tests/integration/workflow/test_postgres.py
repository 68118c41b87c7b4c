"""The same story with the records in a real PostgreSQL."""

from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from certs.verification import verify
from mbd.cohort.cohort import EVERYONE
from mbd.cohort.modality import Modality
from mbd.records import fsck
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.exposure import live_descendants_of_revoked
from mbd.settings import Settings
from mbd.workflow.leaks import hits_now, needles_before, sweep_deployment
from mbd.workflow.office import utc_now
from mbd.workflow.revocation import revoke
from mbd.workflow.system import open_system
from mbd.workflow.training import train_line

pytestmark = pytest.mark.postgres


def test_train_withdraw_verify_and_check_the_log(empty_postgres_url, tmp_path, cohort, people, recipe):
    settings = Settings(home=tmp_path / "home", database_url=SecretStr(empty_postgres_url))
    with open_system(settings, create=True) as system:
        train_line(system, cohort, recipe, line="main", seed=0)
        for pairs in ([(people[0], Modality.AUDIO)], [(EVERYONE, Modality.VISION)]):
            (result,) = revoke(system, pairs)
            verify(result.bundle.read_bytes(), system.trusted_root_path.read_bytes(), at=utc_now())
    with open_system(settings, create=False) as system, begin_snapshot(system.engine) as connection:
        assert system.live("main").version == 3
        assert system.suppressed()(people[0], Modality.AUDIO)
        assert live_descendants_of_revoked(connection) == ()
        report = fsck.fsck(connection, verify_note=system.keyring.read_checkpoint)
    assert report.ok
    assert report.head.size == 3
    assert not (tmp_path / "home" / "mbd.sqlite3").exists()


def test_absence_is_certified_once_a_line(empty_postgres_url, tmp_path, cohort, recipe):
    url = SecretStr(empty_postgres_url)
    settings = Settings(home=tmp_path / "home", database_url=url, certify_absence=True)
    with open_system(settings, create=True) as system:
        for line in ("main", "second"):
            train_line(system, cohort, recipe, line=line, seed=0)
        results = revoke(system, [("nobody here", Modality.AUDIO)])
        assert [(result.line, result.version, result.kind) for result in results] == [
            ("main", 1, "absence"),
            ("second", 1, "absence"),
        ]
        for result in results:
            verify(result.bundle.read_bytes(), system.trusted_root_path.read_bytes(), at=utc_now())
        with begin_snapshot(system.engine) as connection:
            assert fsck.fsck(connection, verify_note=system.keyring.read_checkpoint).ok


def test_nothing_withdrawn_is_in_the_servers_own_files(empty_postgres_url, tmp_path, cohort, people, recipe):
    """Tables, old row versions and the write-ahead log; a value that was in a row for a moment is still found there."""
    settings = Settings(home=tmp_path / "home", database_url=SecretStr(empty_postgres_url))
    pairs = frozenset({(people[0], Modality.AUDIO)})
    with open_system(settings, create=True) as system:
        train_line(system, cohort, recipe, line="main", seed=0)
        needles = needles_before(system, pairs)
        found = hits_now(system, needles)
        revoke(system, pairs)
        with begin_snapshot(system.engine) as connection:
            server = Path(connection.execute(text("show data_directory")).scalar_one())
        report = sweep_deployment(system, needles, before=found, also=[server])
        assert report.verdict == "held", report.details["found"]
        assert report.details["bytes"] > 10_000_000  # the write-ahead log is among them
        row = next(i for i in cohort.rows_of[people[0]] if Modality.AUDIO in cohort.present(i))
        value = cohort.feature(row, Modality.AUDIO).tobytes()
        with begin_locked(system.engine) as connection:
            connection.execute(text("create table notes (body bytea)"))
            connection.execute(text("insert into notes values (:body)"), {"body": value})
        with begin_locked(system.engine) as connection:
            connection.execute(text("drop table notes"))
            connection.execute(text("select pg_switch_wal()"))
        again = sweep_deployment(system, needles, before=found, also=[server])
        assert again.verdict == "broken"
        assert all(str(server) in hit["source"] for hit in again.details["found"])
