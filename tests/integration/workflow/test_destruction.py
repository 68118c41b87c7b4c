"""Retired versions are destroyed, and a signed statement says so: one for each, wherever the process is killed."""

import json
import os
import shutil
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey
from sqlalchemy import Connection

from certs.destruction_statement import VersionDestruction, verify
from certs.errors import CertificateError, Code
from certs.keys import EcdsaP256Signer, PublicKey
from mbd.errors import SettingsError
from mbd.hashing import sha256_hex
from mbd.records import destruction, lineage, models
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.lineage import Kind, Node
from mbd.records.models import ModelVersion
from mbd.settings import Settings
from mbd.workflow import destruction as destroying
from mbd.workflow.system import System, open_system, remove_unregistered
from mbd.workflow.versions import promote_version, retire_version

FILES = {
    "cohort/features.safetensors": b"how a voice sounds",
    "cohort/manifest.json": b'{"key": "random"}',
    "cohort/rows.parquet": b"anna",
    "model/heads.safetensors": b"weights",
    "model/model.json": b"{}",
    "notes/\x1b[31m.txt": b"somebody left this here",
}
KILLED_AT = ["before counting", "counted", "half removed", "removed", "signed", "committed"]


def add_version(system: System, connection: Connection, number: int, parent: int | None, **more: bool) -> None:
    """A version with files, which no science has made."""
    for name, content in FILES.items():
        path = system.version_folder("main", number) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    key = sha256_hex(f"version {number}".encode())
    for kind in (Kind.COHORT, Kind.STATISTICS, Kind.BACKBONE):
        lineage.add_node(connection, Node(kind, key, key, "made up", system.clock()))
    digest = sha256_hex(FILES["model/model.json"])
    version = ModelVersion("main", number, digest, parent, None, key, key, key, system.clock())
    models.register(connection, version, **more)


@pytest.fixture
def home(tmp_path: Path, database_url: str) -> Settings:
    """Version 1 of a line has retired and is still on disk; version 2 is live."""
    settings = Settings(home=tmp_path / "home", database_url=database_url)
    with open_system(settings, create=True) as system, begin_locked(system.engine) as connection:
        add_version(system, connection, 1, None)
        add_version(system, connection, 2, 1)
    return settings


def clean_up(system: System) -> None:
    with begin_locked(system.engine) as connection:
        remove_unregistered(system, connection)


def statements(system: System) -> list[VersionDestruction]:
    """All that are kept, verified."""
    with begin_snapshot(system.engine) as connection:
        kept = destruction.every(connection)
    return [verify(each.envelope.encode(), system.keyring.certificate_key) for each in kept]


def test_the_statement_says_what_was_removed_and_nothing_of_the_rows(home: Settings) -> None:
    with open_system(home, create=False) as system:
        clean_up(system)
        assert not system.version_folder("main", 1).exists()
        assert system.version_folder("main", 2).exists()
        (said,) = statements(system)
        assert (said.lineage.model_line, said.lineage.version) == ("main", 1)
        assert said.lineage.model_digest == sha256_hex(b"{}")
        assert said.lineage.cohort_root == sha256_hex(b"version 1")
        hidden = {name for name, file in zip(sorted(FILES), said.removed, strict=True) if file.digest is None}
        assert hidden == {"cohort/features.safetensors", "cohort/rows.parquet", "notes/\x1b[31m.txt"}
        for name, file in zip(sorted(FILES), said.removed, strict=True):
            assert file.name == name.replace("\x1b", "\ufffd")
            expected = (None, None) if name in hidden else (len(FILES[name]), sha256_hex(FILES[name]))
            assert (file.bytes, file.digest) == expected
        clean_up(system)
        assert statements(system) == [said]
        assert not (system.home / "destroying").exists()


def test_strangers_verify_it_with_a_library_that_is_not_ours(home: Settings) -> None:
    with open_system(home, create=False) as system:
        clean_up(system)
        key = system.keyring.certificate_key
        with begin_snapshot(system.engine) as connection:
            (kept,) = destruction.every(connection)
    theirs = SSlibKey(key.key_id, "ecdsa", "ecdsa-sha2-nistp256", {"public": key.pem.decode()})
    envelope = Envelope.from_dict(json.loads(kept.envelope))
    assert set(envelope.verify([theirs], threshold=1)) == {key.key_id}
    assert sha256_hex(envelope.pae()) == kept.dsse_digest
    assert json.loads(envelope.payload)["predicateType"] == "https://missing-by-design.dev/version-destruction/v1"
    other = PublicKey.from_spki(EcdsaP256Signer.generate().public_key)
    with pytest.raises(VerificationError):
        envelope.verify([SSlibKey(key.key_id, "ecdsa", "ecdsa-sha2-nistp256", {"public": other.pem.decode()})], 1)
    with pytest.raises(CertificateError) as refused:
        verify(kept.envelope.encode(), other)
    assert refused.value.code is Code.SIGNATURE_INVALID


def die_at(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process kill itself at one point of a clean-up."""

    def die(*_arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def half_removed(folder: Path) -> None:
        shutil.rmtree(folder / "model")
        die()

    if where == "before counting":
        monkeypatch.setattr(destroying, "_counted", die)
    elif where == "counted":
        monkeypatch.setattr(destroying, "_remove", die)
    elif where == "half removed":
        monkeypatch.setattr(destroying, "_remove", half_removed)
    elif where == "removed":
        monkeypatch.setattr(destroying, "_statement", die)
    elif where == "signed":
        monkeypatch.setattr(models, "in_states", die)


@pytest.mark.parametrize("where", KILLED_AT)
def test_a_killed_destruction_is_stated_exactly_once(
    home: Settings, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = os.fork()
    if child == 0:
        with open_system(home, create=False) as system:
            die_at(where, monkeypatch)
            clean_up(system)
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    with open_system(home, create=False) as system:
        before = [said.model_dump_json() for said in statements(system)]
        assert len(before) == (where == "committed")
        clean_up(system)
        (said,) = statements(system)
        assert len(said.removed) == len(FILES)
        assert [path.name for path in (system.home / "lines" / "main").iterdir()] == ["2"]
        clean_up(system)
        assert statements(system) == [said]
        assert before in ([], [said.model_dump_json()])
        assert not (system.home / "destroying").exists()


def test_a_version_that_is_not_there_is_not_said_to_have_been_removed(home: Settings) -> None:
    with open_system(home, create=False) as system:
        shutil.rmtree(system.version_folder("main", 1))
        clean_up(system)
        assert [said.removed for said in statements(system)] == [()]


def test_a_clock_that_was_set_back_makes_no_statement_that_contradicts_itself(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = datetime(2030, 1, 1, tzinfo=UTC)
    times = iter([later, later - timedelta(days=1)])
    with open_system(home, create=False, clock=lambda: next(times, later)) as system:
        times = iter([later, later - timedelta(days=1)])
        clean_up(system)
        (said,) = statements(system)
        assert said.counted_at == said.destroyed_at == later


def test_nothing_is_destroyed_while_a_live_version_is_gone(home: Settings) -> None:
    with open_system(home, create=False) as system:
        shutil.rmtree(system.version_folder("main", 2))
        with pytest.raises(SettingsError, match="nothing was removed"):
            clean_up(system)
        assert system.version_folder("main", 1).exists()
        assert statements(system) == []


def test_a_candidate_is_kept_until_it_takes_over_or_is_discarded(home: Settings) -> None:
    with open_system(home, create=False) as system:
        with begin_locked(system.engine) as connection:
            add_version(system, connection, 3, 2, candidate=True)
            add_version(system, connection, 4, 2, candidate=True)
        clean_up(system)
        assert {path.name for path in (system.home / "lines" / "main").iterdir()} == {"2", "3", "4"}
        retire_version(system, "main", 4)
        assert system.live("main").version == 2
        promote_version(system, "main", 3)
        assert system.live("main").version == 3
        assert [path.name for path in (system.home / "lines" / "main").iterdir()] == ["3"]
        assert sorted(said.lineage.version for said in statements(system)) == [1, 2, 4]
        assert system.next_version("main") == 5
        retire_version(system, "main", 3)
        assert list((system.home / "lines" / "main").iterdir()) == []
        assert len(statements(system)) == 4
        with pytest.raises(SettingsError, match="No version of model line 'main' is in service"):
            system.live("main")
        with pytest.raises(SettingsError, match="no model line 'other'"):
            system.live("other")
