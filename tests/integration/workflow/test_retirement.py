"""A log's origin is retired: the next log commits to its last checkpoint, and nothing that it proved is lost."""

import shutil
from hashlib import sha256

import pytest
from pydantic import SecretStr

from certs import checkpoint as checkpoints
from certs import dsse
from certs import notice as wire
from certs.verification import verify
from mbd.cohort.modality import Modality
from mbd.errors import LedgerError, SettingsError
from mbd.records import certificates, fsck, ledger, lineage, models, notices
from mbd.records.database import begin_snapshot
from mbd.records.suppression import suppressions
from mbd.settings import Settings
from mbd.workflow import retirement
from mbd.workflow.log import sign_checkpoint
from mbd.workflow.log_source import FolderSource
from mbd.workflow.notices import reissue
from mbd.workflow.office import utc_now
from mbd.workflow.publication import log_folder
from mbd.workflow.retirement import retire
from mbd.workflow.revocation import revoke
from mbd.workflow.system import open_system
from mbd.workflow.training import train_line

AUDIO = Modality.AUDIO
NEXT = "log.example.org/second"


@pytest.fixture
def grown(home, people):
    """A deployment with one certificate; returns its folder, the certificate and the old log's last note."""
    with open_system(Settings(home=home), create=False) as system:
        (result,) = revoke(system, [(people[0], AUDIO)])
        note = sign_checkpoint(system).note
    return home, result, note


def retired(home, **settings):
    with open_system(Settings(home=home, **settings), create=False, inspect=True) as system:
        return retire(system, NEXT)


def check(home, result, note, people):
    """Everything that must hold after a retirement."""
    with open_system(Settings(home=home), create=False) as system:
        assert system.keyring.origin == NEXT
        with begin_snapshot(system.engine) as connection:
            predicate, envelope = wire.read(ledger.leaf(connection, 0))
            assert [known.leaf_index for known in notices.all_notices(connection)] == [0]
            (old,) = certificates.current(connection)
            assert suppressions(connection).channels
            assert models.live(connection, "main").version == 2
        last = checkpoints.parse(note)
        said = predicate.notice
        assert (said.origin, said.size, said.root) == (last.origin, last.size, last.root.hex())
        assert said.checkpoint == sha256(note.encode()).hexdigest()
        dsse.verify(envelope, system.keyring.certificate_key)
        assert (old.id, old.leaf_index) == (result.certificate, None)
        (again,) = revoke(system, [(people[1], AUDIO)])
        root = system.trusted_root_path.read_bytes()
        copies = [FolderSource(path).fetch for path in sorted((home / "published").glob("log*")) if path.is_dir()]
        assert len(copies) == 2
        for bundle, origin in ((result.bundle, last.origin), (again.bundle, NEXT)):
            verified = verify(bundle.read_bytes(), root, at=utc_now(), logs=copies)
            assert verified.origin == origin
        with begin_snapshot(system.engine) as connection:
            assert fsck.fsck(connection, verify_note=system.keyring.read_checkpoint).ok
            (step, *_) = certificates.certificates_between(connection, "main", 1, 3)
            assert [each.id for each in step.certificates] == [result.certificate]
            assert lineage.ancestry(connection, models.live(connection, "main").node).nodes
        new = reissue(system, result.certificate)
        assert new.leaf_index is not None
    assert not (home / "retiring").exists()
    assert len(list((home / "keys").glob("log-*.pem"))) == 1


def test_the_next_log_commits_to_the_last_and_old_certificates_stay_valid(grown, people):
    home, result, note = grown
    done = retired(home)
    assert (done.origin, done.old_size, done.own_database) == (NEXT, checkpoints.parse(note).size, True)
    check(home, result, note, people)
    with pytest.raises(SettingsError, match="already"):
        retired(home)


@pytest.mark.parametrize("calls", range(1, 9))
def test_a_retirement_that_dies_is_finished_by_the_same_command(calls, grown, people, monkeypatch):
    home, result, note = grown
    left = [calls]

    class DiedError(Exception):
        pass

    def dying(original):
        def run(*arguments, **named):
            left[0] -= 1
            if left[0] == 0:
                raise DiedError
            return original(*arguments, **named)

        return run

    with monkeypatch.context() as patched:
        for name in ("copy_records", "sign_checkpoint", "sync", "publish", "_move"):
            patched.setattr(retirement, name, dying(getattr(retirement, name)))
        with pytest.raises(DiedError):
            retired(home)
    if (home / "retiring" / "ready").exists():
        with (
            pytest.raises(SettingsError, match="interrupted") as failure,
            open_system(Settings(home=home), create=False),
        ):
            pass
        assert "mbd ledger retire" in failure.value.remedy
    retired(home)
    check(home, result, note, people)


def test_a_log_that_cannot_be_made_whole_is_retired(home, people, tmp_path):
    """An old backup, and no copy of what came after it but the checkpoint: the new log commits to that."""
    backup = shutil.copytree(home, tmp_path / "backup")
    with open_system(Settings(home=home), create=False) as system:
        revoke(system, [(people[0], AUDIO)])
        note = sign_checkpoint(system).note
    shutil.copy(home / "checkpoint", backup / "checkpoint")
    done = retired(backup)
    assert done.old_size == checkpoints.parse(note).size
    with open_system(Settings(home=backup), create=False) as system:
        (result,) = revoke(system, [(people[0], AUDIO)])
        assert verify(result.bundle.read_bytes(), system.trusted_root_path.read_bytes(), at=utc_now()).origin == NEXT


@pytest.fixture
def on_postgresql(postgres_url, cohort, recipe, tmp_path):
    """Settings of a deployment with one line, on PostgreSQL."""
    old = {"home": tmp_path / "home", "database_url": SecretStr(postgres_url)}
    with open_system(Settings(**old), create=True) as system:
        train_line(system, cohort, recipe, line="main", seed=0)
    return old


def test_on_postgresql_the_new_records_are_made_where_the_settings_say(on_postgresql, empty_postgres_url, people):
    old, home = on_postgresql, on_postgresql["home"]
    with open_system(Settings(**old), create=False) as system:
        (result,) = revoke(system, [(people[0], AUDIO)])
    with (
        pytest.raises(SettingsError, match="no place"),
        open_system(Settings(**old), create=False, inspect=True) as system,
    ):
        retire(system, NEXT)
    both = Settings(**old, next_database_url=SecretStr(empty_postgres_url))
    with open_system(both, create=False, inspect=True) as system:
        assert not retire(system, NEXT).own_database
    with pytest.raises(LedgerError, match="forked"), open_system(Settings(**old), create=False):
        pass
    with open_system(Settings(home=home, database_url=SecretStr(empty_postgres_url)), create=False) as system:
        (again,) = revoke(system, [(people[1], AUDIO)])
        for each in (result, again):
            assert verify(each.bundle.read_bytes(), system.trusted_root_path.read_bytes(), at=utc_now())
    assert log_folder(home).is_dir()
