"""A restored old database: what it lacks is told; the log is brought back whole or not at all; nothing is hidden."""

import shutil

import pytest

from certs.notice import Reason
from certs.verification import verify
from mbd.cohort.modality import Modality
from mbd.errors import LedgerError, UnreachableLogError
from mbd.records import fsck, ledger, notices
from mbd.records.database import begin_locked, begin_snapshot
from mbd.settings import Settings
from mbd.workflow.log import sign_checkpoint
from mbd.workflow.log_source import FolderSource
from mbd.workflow.notices import revoke_certificate
from mbd.workflow.office import utc_now
from mbd.workflow.publication import log_folder
from mbd.workflow.restoration import check_restored, public_copy, recover_log
from mbd.workflow.revocation import revoke
from mbd.workflow.system import open_system

AUDIO = Modality.AUDIO


@pytest.fixture
def backup(home, tmp_path):
    """The whole state folder as it was before anything was withdrawn."""
    return shutil.copytree(home, tmp_path / "backup")


@pytest.fixture
def restored(home, backup, people, tmp_path):
    """A deployment that deleted, revoked a certificate, and then got database and rows back from before.

    What it remembers outside of the backup stands: checkpoint, public files and certificates.
    """
    with open_system(Settings(home=home), create=False) as system:
        (result,) = revoke(system, [(people[0], AUDIO)])
        revoke_certificate(system, result.certificate, Reason.ISSUED_IN_ERROR)
        sign_checkpoint(system)
    for name in ("certificates", "published", "checkpoint"):
        target = backup / name
        if target.is_dir():
            shutil.rmtree(target)
        (shutil.copytree if (home / name).is_dir() else shutil.copy)(home / name, target)
    with open_system(Settings(home=backup), create=False, inspect=True) as system:
        yield system, result


def test_a_deployment_that_lacks_nothing_says_so(system, people):
    revoke(system, [(people[0], AUDIO)])
    found = check_restored(system)
    assert found.whole
    assert (found.missing, found.forked, found.lost, found.copy) == (0, False, (), found.head.size)


def test_what_a_restored_database_lacks_is_named(restored):
    system, result = restored
    found = check_restored(system)
    assert not found.whole
    assert (found.missing, found.forked) == (2, False)
    assert found.copy == found.remembered.size
    (lost,) = found.lost
    assert (lost.id, lost.line, lost.version, lost.modalities) == (result.certificate, "main", 2, ("audio",))
    with pytest.raises(LedgerError, match="old copy has been restored"):
        sign_checkpoint(system)


def test_the_log_is_brought_back_from_its_public_files_and_signs_again(restored, people):
    system, result = restored
    assert recover_log(system, public_copy(system)) == 2
    assert recover_log(system, public_copy(system)) == 0
    with begin_snapshot(system.engine) as connection:
        assert fsck.fsck(connection, verify_note=system.keyring.read_checkpoint).ok
        assert [notice.kind for notice in notices.all_notices(connection)] == ["certificate-revoked"]
    found = check_restored(system)
    assert (found.missing, len(found.lost)) == (0, 1)
    with open_system(system.settings, create=False) as whole:
        (again,) = revoke(whole, [(people[0], AUDIO)])
        root = whole.trusted_root_path.read_bytes()
    for bundle in (result.bundle, again.bundle):
        assert verify(bundle.read_bytes(), root, at=utc_now())


def test_a_copy_that_is_too_old_damaged_or_of_another_log_changes_nothing(restored, backup, tmp_path):
    system, _ = restored
    with begin_snapshot(system.engine) as connection:
        before = ledger.head(connection)
    damaged = shutil.copytree(log_folder(system.home), tmp_path / "damaged")
    entries = max((damaged / "tile" / "entries").glob("*.p/*"), key=lambda path: int(path.name))
    entries.write_bytes(entries.read_bytes()[:-1] + b"x")
    with pytest.raises(UnreachableLogError, match="does not verify"):
        recover_log(system, FolderSource(damaged))
    with pytest.raises(UnreachableLogError, match="no checkpoint of this log"):
        recover_log(system, FolderSource(tmp_path))
    with begin_snapshot(system.engine) as connection:
        assert ledger.head(connection) == before


def test_an_old_copy_does_not_bring_back_half(home, backup, people, tmp_path):
    with open_system(Settings(home=home), create=False) as system:
        revoke(system, [(people[0], AUDIO)])
        old = shutil.copytree(log_folder(home), tmp_path / "old")
        revoke(system, [(people[1], AUDIO)])
    shutil.copy(home / "checkpoint", backup / "checkpoint")
    with open_system(Settings(home=backup), create=False, inspect=True) as system:
        with pytest.raises(LedgerError, match="were signed"):
            recover_log(system, FolderSource(old))
        assert check_restored(system).missing > 0


def test_a_forked_log_is_not_mended(restored):
    system, _ = restored
    with begin_locked(system.engine) as connection:
        ledger.append_many(connection, [b"another history", b"of it", b"and more"])
    found = check_restored(system)
    assert found.forked
    assert not found.whole
    with pytest.raises(LedgerError, match="forked"):
        recover_log(system, public_copy(system))
