from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, select

from mbd.errors import RecordsError
from mbd.records import certificates, commitments, ledger, lineage, models, requests, tables
from mbd.records.certificates import Certificate
from mbd.records.commitments import NoiseCommitment
from mbd.records.database import begin_locked, begin_snapshot, open_database
from mbd.records.lineage import Kind, Node
from mbd.records.models import ModelVersion
from mbd.records.requests import WORKER, Revocation
from mbd.records.suppression import Channel

KEY = bytes(range(200, 232))
OTHER_KEY = bytes(range(32))


def prepare(engine: Engine, at: datetime) -> None:
    """A line 'mosi' with versions 1 and 2, and requests r1 and r2."""
    with begin_locked(engine) as connection:
        for kind in (Kind.BACKBONE, Kind.STATISTICS, Kind.COHORT):
            lineage.add_node(connection, Node(kind, "x", "x", "x", at))
        for number, parent in ((1, None), (2, 1)):
            models.register(connection, ModelVersion("mosi", number, "d", parent, None, "x", "x", "x", at))
        for name in ("r1", "r2"):
            scope = (Channel(f"subject of {name}", "audio"),)
            requests.file(connection, Revocation(name, name, "gdpr", scope, at, at.date()), by=WORKER)


@pytest.fixture
def prepared(engine: Engine, now: datetime) -> Engine:
    prepare(engine, now)
    return engine


def issue(connection: Connection, at: datetime, **changes: str | int) -> Certificate:
    appended = ledger.append(connection, b"leaf of a certificate")
    certificate = Certificate("c1", "r1", "mosi", 2, appended.leaf_index, "digest", '{"payload": "..."}', at)
    return certificates.issue(connection, replace(certificate, **changes))


def test_a_certificate_and_its_leaf_are_one_transaction(prepared: Engine, now: datetime) -> None:
    with pytest.raises(ZeroDivisionError), begin_locked(prepared) as connection:
        issue(connection, now)
        raise ZeroDivisionError
    with begin_snapshot(prepared) as connection:
        assert certificates.current(connection) == ()
        assert ledger.head(connection).size == 0


def test_a_certificate_is_found_by_its_request_its_id_and_in_the_list(prepared: Engine, now: datetime) -> None:
    with begin_locked(prepared) as connection:
        issued = issue(connection, now)
    with begin_snapshot(prepared) as connection:
        assert certificates.find(connection, "r1", "mosi") == issued
        assert certificates.find(connection, "r2", "mosi") is None
        assert certificates.get(connection, "c1") == issued
        assert certificates.current(connection) == (issued,)
        with pytest.raises(RecordsError, match="no certificate 'c2'"):
            certificates.get(connection, "c2")


def test_a_request_is_certified_once_on_a_line(prepared: Engine, now: datetime) -> None:
    with begin_locked(prepared) as connection:
        issue(connection, now)
    with pytest.raises(RecordsError, match="certified on mosi already"), begin_locked(prepared) as connection:
        issue(connection, now, id="c2", dsse_digest="another", version=1)
    with begin_snapshot(prepared) as connection:
        assert ledger.head(connection).size == 1


def test_the_bundle_comes_later_and_the_first_one_stays(prepared: Engine, now: datetime) -> None:
    with begin_locked(prepared) as connection:
        issued = issue(connection, now)
        assert certificates.incomplete(connection) == (issued,)
        completed = certificates.complete(connection, "c1", "first bundle")
        assert completed == replace(issued, bundle="first bundle")
        assert certificates.complete(connection, "c1", "second bundle") == completed
        assert certificates.incomplete(connection) == ()
        with pytest.raises(RecordsError):
            certificates.complete(connection, "c2", "bundle")


def test_each_opening_is_kept_until_it_is_destroyed(prepared: Engine, now: datetime) -> None:
    ids = [commitments.opening_id(opening) for opening in (KEY, OTHER_KEY)]
    with begin_locked(prepared) as connection:
        issue(connection, now)
        commitments.keep_key(connection, "c1", KEY + OTHER_KEY)
        assert commitments.openings_of(connection, ["c1", "c2"]) == {"c1": (KEY, OTHER_KEY)}
        assert commitments.destroy_openings(connection, "c1", [ids[0]], at=now) == 1
        assert commitments.openings_of_version(connection, "mosi", 2) == {"c1": (OTHER_KEY,)}
        assert commitments.destroy_openings(connection, "c1", ids, at=now) == 1
        assert commitments.destroy_openings(connection, "c1", ids, at=now + timedelta(days=1)) == 0
    with begin_snapshot(prepared) as connection:
        assert commitments.openings_of(connection, ["c1"]) == {}
        assert commitments.openings_of_version(connection, "mosi", 2) == {}
        assert connection.execute(select(tables.commitment_key)).one().destroyed_at == now
        assert commitments.key_of(connection, "c1") is None
        with pytest.raises(RecordsError, match="no key"):
            commitments.key_of(connection, "c2")


def test_openings_of_more_certificates_than_one_query_takes(prepared: Engine, now: datetime) -> None:
    with begin_locked(prepared) as connection:
        issue(connection, now)
        commitments.keep_key(connection, "c1", KEY)
        many = [f"absent-{n}" for n in range(70_000)]  # more than a statement of either database has parameters
        assert commitments.openings_of(connection, [*many, "c1"]) == {"c1": (KEY,)}


def test_a_certificate_about_everyone_has_no_opening(prepared: Engine, now: datetime) -> None:
    with begin_locked(prepared) as connection:
        issue(connection, now)
        commitments.keep_key(connection, "c1", b"")
        assert commitments.openings_of(connection, ["c1"]) == {}
        assert commitments.destroy_openings(connection, "c1", [commitments.opening_id(KEY)], at=now) == 0
        assert commitments.key_of(connection, "c1") == b""


def test_the_certificates_of_a_person_are_those_of_requests_that_name_them(prepared: Engine, now: datetime) -> None:
    with begin_locked(prepared) as connection:
        issued = issue(connection, now)
        other = issue(connection, now, id="c2", revocation_id="r2", version=1, dsse_digest="another")
        assert certificates.naming(connection, "subject of r1") == (issued,)
        assert certificates.naming(connection, "subject of r2") == (other,)
        assert certificates.naming(connection, "somebody else") == ()


def test_of_two_certificates_one_is_about_the_live_version(prepared: Engine, now: datetime) -> None:
    with begin_locked(prepared) as connection:
        issue(connection, now)
        issue(connection, now, id="c2", revocation_id="r2", version=1, dsse_digest="another")
        assert certificates.about_live_versions(connection) == {"c1": ("mosi", 2)}


def files_with(folder: Path, secret: bytes) -> list[str]:
    """The files that hold any four bytes in a row of the secret."""
    pieces = [secret[start : start + 4] for start in range(len(secret) - 3)]
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    return [name for name, content in files.items() if any(piece in content for piece in pieces)]


@pytest.fixture
def closed(sqlite_url: str, now: datetime) -> Iterator[str]:
    """A SQLite file with two kept keys, closed."""
    engine = open_database(sqlite_url)
    prepare(engine, now)
    with begin_locked(engine) as connection:
        issue(connection, now)
        commitments.keep_key(connection, "c1", KEY)
        issue(connection, now, id="c2", revocation_id="r2", version=1, dsse_digest="another")
        commitments.keep_key(connection, "c2", OTHER_KEY)
    engine.dispose()
    return sqlite_url


def test_a_destroyed_key_is_in_no_file_of_a_closed_database(closed: str, tmp_path: Path, now: datetime) -> None:
    assert files_with(tmp_path, KEY) == ["records.sqlite3"]
    engine = open_database(closed)
    with begin_locked(engine) as connection:
        commitments.destroy_openings(connection, "c1", [commitments.opening_id(KEY)], at=now)
    engine.dispose()
    assert files_with(tmp_path, KEY) == []
    assert files_with(tmp_path, OTHER_KEY) == ["records.sqlite3"]


def test_the_latest_noise_commitment_is_in_force(engine: Engine, now: datetime) -> None:
    with begin_locked(engine) as connection:
        assert commitments.noise_commitment(connection) is None
        for name in ("first", "second"):
            index = ledger.append(connection, name.encode()).leaf_index
            commitments.record_noise_commitment(connection, NoiseCommitment(name, index, now))
    with begin_snapshot(engine) as connection:
        assert commitments.noise_commitment(connection) == NoiseCommitment("second", 1, now)
