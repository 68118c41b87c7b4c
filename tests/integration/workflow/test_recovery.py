"""Failures, restored backups and other files than the right ones: nothing is lost, nothing withdrawn comes back."""

import itertools
import shutil
from datetime import timedelta

import pytest

from certs.errors import CertificateError
from mbd.cohort.modality import Modality
from mbd.deletion import engine
from mbd.errors import DeletionError, LedgerError, MbdError
from mbd.records import certificates, fsck, models, requests
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.exposure import live_descendants_of_revoked
from mbd.settings import Settings
from mbd.workflow import claim
from mbd.workflow.log import sign_checkpoint
from mbd.workflow.office import utc_now
from mbd.workflow.revocation import resume, revoke
from mbd.workflow.system import open_system
from mbd.workflow.training import train_line

AUDIO, TEXT, VISION = Modality.AUDIO, Modality.TEXT, Modality.VISION


def back_up(system, home):
    system.engine.dispose()
    shutil.copy(home / "mbd.sqlite3", home / "backup")


def restore(system, home):
    """What an operator does who puts the file back, and nothing else."""
    system.engine.dispose()
    for leftover in home.glob("mbd.sqlite3*"):
        leftover.unlink()
    shutil.copy(home / "backup", home / "mbd.sqlite3")


def test_a_restored_old_database_refuses_to_sign_or_delete(system, home, people):
    revoke(system, [(people[0], AUDIO)])
    back_up(system, home)
    revoke(system, [(people[1], AUDIO)])
    restore(system, home)
    with pytest.raises(LedgerError):
        sign_checkpoint(system)
    with pytest.raises(LedgerError):
        revoke(system, [(people[2], AUDIO)])
    with begin_snapshot(system.engine) as connection:
        assert len(certificates.current(connection)) == 1


def test_a_restored_database_cannot_be_opened_for_training(system, home, people, cohort):
    back_up(system, home)
    revoke(system, [(people[0], AUDIO)])
    restore(system, home)
    with pytest.raises(LedgerError), open_system(Settings(home=home), create=False):
        pass
    with open_system(Settings(home=home), create=False, inspect=True):
        pass


def test_the_files_of_an_earlier_version_are_not_taken_for_the_live_one(check, system, home, people):
    """The remedy "restore from a backup" must not bring a withdrawn voice back."""
    shutil.copytree(system.version_folder("main", 1), home / "old")
    revoke(system, [(people[0], AUDIO)])
    for part in ("model", "cohort"):
        shutil.move(system.version_folder("main", 2) / part, home / f"right-{part}")
        shutil.copytree(home / "old" / part, system.version_folder("main", 2) / part)
        with pytest.raises(MbdError, match=r"registered"):
            revoke(system, [(people[1], AUDIO)])
        assert system.live("main").version == 2
        shutil.rmtree(system.version_folder("main", 2) / part)
        shutil.move(home / f"right-{part}", system.version_folder("main", 2) / part)
    (result,) = resume(system)[:1]
    check(system, result)


def test_a_failed_deletion_keeps_the_channel_suppressed_and_is_finished_by_resume(check, system, people, monkeypatch):
    def broken(*args, **kwargs):
        raise DeletionError("planted", remedy="none")

    with monkeypatch.context() as patch:
        patch.setattr(engine, "delete", broken)
        with pytest.raises(DeletionError, match="planted"):
            revoke(system, [(people[0], AUDIO)])
    assert system.suppressed()(people[0], AUDIO)
    with begin_snapshot(system.engine) as connection:
        assert len(live_descendants_of_revoked(connection)) == 1
    (result,) = resume(system)
    check(system, result)
    with begin_locked(system.engine) as connection:
        assert live_descendants_of_revoked(connection) == ()
        assert requests.unfinished(connection) == ()
        assert models.mu_series(connection, "main")


def test_a_request_that_fails_neither_hides_nor_stops_the_next_person(check, system, people, monkeypatch):
    honest = engine.delete

    def broken(model, cohort, revocation, **kwargs):
        if (people[0], AUDIO) in revocation.pairs:
            raise DeletionError("planted", remedy="none")
        return honest(model, cohort, revocation, **kwargs)

    monkeypatch.setattr(engine, "delete", broken)
    with pytest.raises(DeletionError, match="planted"):
        revoke(system, [(people[0], AUDIO)])
    (result,) = revoke(system, [(people[1], AUDIO)])
    check(system, result)
    assert system.suppressed()(people[0], AUDIO)
    monkeypatch.undo()
    (late,) = resume(system)
    assert check(system, late).statement.predicate.lineage.version == 3


def test_a_line_that_fails_leaves_no_retired_features_of_one_that_succeeded(
    system, cohort, people, recipe, monkeypatch
):
    train_line(system, cohort, recipe, line="zweite", seed=1)
    honest = engine.delete

    def broken(*args, occasion, **kwargs):
        if occasion.startswith("zweite"):
            raise RuntimeError("planted")
        return honest(*args, occasion=occasion, **kwargs)

    monkeypatch.setattr(engine, "delete", broken)
    with pytest.raises(RuntimeError, match="planted"):
        revoke(system, [(people[0], AUDIO)])
    assert system.live("main").version == 2
    assert not system.version_folder("main", 1).exists()
    monkeypatch.undo()
    assert {result.line for result in resume(system)} == {"main", "zweite"}


def test_a_clock_that_was_set_back_does_not_spoil_a_certificate(check, home, people):
    ticks = itertools.count()
    with open_system(Settings(home=home), create=False) as system:
        import dataclasses

        wound_back = dataclasses.replace(system, clock=lambda: utc_now() - timedelta(seconds=next(ticks)))
        (result,) = revoke(wound_back, [(people[0], AUDIO)])
        check(system, result)


def test_a_statement_that_the_verifier_would_refuse_is_never_logged(system, people, monkeypatch):
    monkeypatch.setattr(claim, "_untouched", lambda absent, outcome: ("vision",))
    with pytest.raises(CertificateError, match="untouched"):
        revoke(system, [(people[0], AUDIO)])
    with begin_snapshot(system.engine) as connection:
        assert fsck.fsck(connection).head.size == 1
    assert system.live("main").version == 1
    monkeypatch.undo()
    assert len(resume(system)) == 1
