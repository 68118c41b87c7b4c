import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine

from mbd.records import ledger
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.fsck import fsck

PROCESSES = 4
APPENDS = 25


def start(*arguments: str) -> "subprocess.Popen[str]":
    script = Path(__file__).with_name("appender.py")
    return subprocess.Popen([sys.executable, script, *arguments], stdout=subprocess.PIPE, text=True)


def test_processes_append_without_a_gap_or_a_fork(engine: Engine, database_url: str) -> None:
    processes = [start(database_url, str(APPENDS), f"process {number}") for number in range(PROCESSES)]
    printed = [process.communicate()[0].split("\n")[:-1] for process in processes]
    assert [process.returncode for process in processes] == [0] * PROCESSES

    said = dict(line.split() for lines in printed for line in lines)
    assert sorted(map(int, said)) == list(range(PROCESSES * APPENDS))
    with begin_snapshot(engine) as connection:
        assert ledger.head(connection).size == PROCESSES * APPENDS
        # Each process was told a root of the one log, whatever the others did meanwhile.
        for index, root in said.items():
            assert ledger.root_at(connection, int(index) + 1).hex() == root
        bodies = [ledger.leaf(connection, index).decode() for index in range(PROCESSES * APPENDS)]
        assert fsck(connection).ok
    for number in range(PROCESSES):
        own = [body for body in bodies if body.startswith(f"process {number} ")]
        assert own == [f"process {number} {count}" for count in range(APPENDS)]


@pytest.mark.parametrize("statement", ["INSERT INTO leaf", "INSERT INTO node", "INSERT INTO head"])
def test_a_process_killed_between_two_writes_leaves_no_trace(engine: Engine, database_url: str, statement: str) -> None:
    with begin_locked(engine) as connection:
        before = ledger.append_many(connection, [bytes([number]) for number in range(7)])[-1].head
    process = start(database_url, "1", "killed", statement)
    assert process.stdout is not None
    assert process.stdout.readline() == "stopped\n"
    process.kill()
    process.communicate()

    with begin_locked(engine) as connection:  # waits until the dead process's lock is gone
        assert ledger.head(connection) == before
        assert ledger.append(connection, b"the eighth completes a subtree").leaf_index == 7
    with begin_snapshot(engine) as connection:
        report = fsck(connection)
        assert report.ok
        assert report.head.size == 8
