"""The journal of destroyed openings: appended durably, whole lines only, and refused where it is damaged."""

import os
from datetime import UTC, datetime

import pytest

from mbd.errors import SettingsError
from mbd.settings import Settings
from mbd.workflow.destroyed_keys import Destroyed, destroy_again, read, remember
from mbd.workflow.system import open_system

AT = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
ENTRIES = [Destroyed(certificate=f"mdc-{n}", opening=f"{n:064x}", destroyed_at=AT) for n in range(4)]


@pytest.fixture
def journal(tmp_path):
    path = tmp_path / "journal"
    remember(path, ENTRIES[:2])
    return path


def test_entries_come_back_in_order_and_there_are_none_without_a_file(journal, tmp_path):
    assert read(tmp_path / "absent") == []
    assert not (tmp_path / "absent").exists()
    remember(journal, ENTRIES[2:])
    assert read(journal) == ENTRIES
    assert journal.read_bytes().splitlines()[0] == (
        b'{"certificate":"mdc-0","destroyedAt":"2026-03-01T12:00:00Z",'
        b'"opening":"0000000000000000000000000000000000000000000000000000000000000000"}'
    )


@pytest.mark.parametrize("cut", range(1, 135, 19))
def test_a_line_that_a_crash_cut_short_is_none_and_the_next_one_begins_afresh(journal, cut):
    whole = journal.read_bytes()
    with journal.open("ab") as file:
        file.write(ENTRIES[2].line[:cut])
    assert read(journal) == ENTRIES[:2]
    remember(journal, ENTRIES[3:])
    assert read(journal) == [*ENTRIES[:2], ENTRIES[3]]
    assert journal.read_bytes() == whole + ENTRIES[3].line


def test_the_lines_are_on_disk_when_the_call_returns(journal, monkeypatch):
    synced = []
    fsync = os.fsync

    def watched(descriptor):
        synced.append(os.fstat(descriptor).st_size)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    remember(journal, ENTRIES[2:])
    assert synced[0] == journal.stat().st_size
    assert len(synced) == 2  # and the folder, which has the name


@pytest.mark.parametrize(
    "damage",
    [b"\n", b"{}\n", ENTRIES[0].line.replace(b"-03-", b"-13-"), b'{"certificate":"mdc-9","opening":"00"}\n', b"\xff\n"],
)
def test_a_damaged_journal_is_refused_and_so_is_its_deployment(trained_home, journal, damage):
    journal.write_bytes(damage + journal.read_bytes())
    with pytest.raises(SettingsError, match="is damaged"):
        read(journal)
    for inspect in (False, True):
        with (
            pytest.raises(SettingsError, match="is damaged"),
            open_system(Settings(home=trained_home, destroyed_keys=journal), create=False, inspect=inspect),
        ):
            pass


def test_entries_of_certificates_that_the_database_never_had_change_nothing(system, journal, caplog):
    assert destroy_again(system.engine, journal) == ()
    assert not caplog.records
