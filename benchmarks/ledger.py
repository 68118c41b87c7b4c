"""The ledger at a million leaves, beside plain durable INSERTs and beside pymerkle, in one run.

    OMP_NUM_THREADS=1 python -m benchmarks.ledger [--leaves N]

Writes ``benchmarks/results/ledger.json``, from which ``benchmarks.readme`` makes the table of docs/ledger.md. All
leaves are the same everywhere, as long as a certificate's. What is compared takes turns, and figures are medians of
wall time, because waiting for the disk is what an append costs. Appends and proofs go the way that a caller goes: a
transaction of `database` each. Plain INSERTs are one row (or one batch) a transaction into a table that has nothing
but its key, in a database of the same settings; *driver* ones leave SQLAlchemy out. pymerkle's trees keep leaves alone,
so an append there has a root only after `get_root`; its cache of subtrees is filled before its proofs are measured.
"""

import argparse
import hashlib
import json
import os
import platform
import random
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psycopg
from pymerkle import SqliteTree
from sqlalchemy import Engine, make_url

from benchmarks import postgresql
from certs.verification import verify
from mbd.records import ledger
from mbd.records.database import begin_locked, begin_snapshot, open_database, upgrade
from mbd.records.fsck import fsck

ROOT = Path(__file__).resolve().parents[1]
TARGET = Path(__file__).with_name("results") / "ledger.json"
STAMPED = ROOT / "certs" / "vectors" / "stamped-v1"
BODY_BYTES = 489  # a certificate's leaf: hashedrekord with a P-256 signature and key
BATCH = 1_000
SINGLES, BATCHES, PROOFS, OPENINGS, VERIFICATIONS = 400, 30, 1_000, 5, 300
CACHED_WIDTH = 128  # pymerkle keeps subtrees of so many leaves and more
CHOICE = random.Random(0)  # noqa: S311 which leaf is proved is no secret

Work = dict[str, Callable[[int], object]]


def body(number: int) -> bytes:
    """A leaf's bytes."""
    return hashlib.shake_256(number.to_bytes(8, "big")).digest(BODY_BYTES)


def bodies(first: int) -> list[bytes]:
    """A batch of them."""
    return [body(number) for number in range(first, first + BATCH)]


def say(text: str) -> None:
    """One line of progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def in_turns(work: Work, rounds: int, *, warm: int = 10) -> dict[str, float]:
    """Median seconds of each; they take turns, and the first rounds do not count. Each is given the round's number."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for number in range(-warm, rounds):
        for name, do in work.items():
            started = time.perf_counter()
            do(number)
            if number >= 0:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(found) for name, found in seconds.items()}


def append_one(engine: Engine, data: bytes) -> None:
    """Ours, one leaf."""
    with begin_locked(engine) as connection:
        ledger.append(connection, data)


def append_batch(engine: Engine, batch: list[bytes]) -> None:
    """Ours, a batch."""
    with begin_locked(engine) as connection:
        ledger.append_many(connection, batch)


def fill(engine: Engine, leaves: int, step: Callable[[list[bytes]], None]) -> None:
    """Append that many leaves by batches, and the same by `step` in turns."""
    for first in range(0, leaves, BATCH):
        batch = bodies(first)
        append_batch(engine, batch)
        step(batch)
        if (first + BATCH) % 100_000 == 0:
            say(f"  {first + BATCH:,} of {leaves:,} leaves")


def proofs(engine: Engine, leaves: int) -> Work:
    """Ours, each in a snapshot of its own."""

    def inclusion(_: int) -> None:
        with begin_snapshot(engine) as connection:
            ledger.inclusion_proof(connection, CHOICE.randrange(leaves), leaves)

    def consistency(_: int) -> None:
        with begin_snapshot(engine) as connection:
            ledger.consistency_proof(connection, CHOICE.randrange(1, leaves), leaves)

    def root(_: int) -> None:
        with begin_snapshot(engine) as connection:
            ledger.root_at(connection, CHOICE.randrange(1, leaves))

    return {"inclusion": inclusion, "consistency": consistency, "root": root}


def on_sqlite(folder: Path, leaves: int) -> dict[str, Any]:
    """Every row of the table on SQLite."""
    url, plain_url, small_url = (f"sqlite:///{folder / name}" for name in ("ledger.db", "plain.db", "small.db"))
    for made in (url, plain_url, small_url):
        upgrade(made)
    engine, plain_engine = open_database(url), open_database(plain_url)
    with begin_locked(plain_engine) as connection:
        connection.exec_driver_sql("CREATE TABLE plain (idx INTEGER PRIMARY KEY, body BLOB NOT NULL)")
    driver = sqlite3.connect(folder / "plain.db", isolation_level=None)
    for pragma in ("synchronous = FULL", "secure_delete = ON"):
        driver.execute(f"PRAGMA {pragma}")
    tree, wal_tree = SqliteTree(str(folder / "pymerkle.db")), SqliteTree(str(folder / "pymerkle-wal.db"))
    wal_tree.con.execute("PRAGMA journal_mode = WAL")

    def plain(batch: list[bytes]) -> None:
        with begin_locked(plain_engine) as connection:
            connection.exec_driver_sql("INSERT INTO plain (body) VALUES (?)", [(data,) for data in batch])

    def by_driver(batch: list[bytes]) -> None:
        driver.execute("BEGIN IMMEDIATE")
        driver.executemany("INSERT INTO plain (body) VALUES (?)", [(data,) for data in batch])
        driver.execute("COMMIT")

    def everywhere_else(batch: list[bytes]) -> None:
        plain(batch)
        tree.append_entries(batch)
        wal_tree.append_entries(batch)

    say(f"SQLite: {leaves:,} leaves")
    fill(engine, leaves, everywhere_else)
    say("SQLite: pymerkle's cache")
    for index in range(1, leaves + 1, CACHED_WIDTH):
        tree.prove_inclusion(index, leaves)
    tree.get_root()
    found: dict[str, Any] = {}
    say("SQLite: proofs")
    ours = proofs(engine, leaves)
    theirs: Work = {
        "inclusion": lambda _: tree.prove_inclusion(CHOICE.randrange(1, leaves + 1), leaves),
        "consistency": lambda _: tree.prove_consistency(CHOICE.randrange(1, leaves), leaves),
        "root": lambda _: tree.get_root(CHOICE.randrange(1, leaves)),
    }
    for name, prove in ours.items():
        found[name] = in_turns({"ours": prove, "pymerkle": theirs[name]}, PROOFS)
    say("SQLite: appends one by one")
    found["single"] = in_turns(
        {
            "ours": lambda n: append_one(engine, body(leaves + n)),
            "plain": lambda n: plain([body(leaves + n)]),
            "driver": lambda n: by_driver([body(leaves + n)]),
            "pymerkle": lambda n: tree.append_entry(body(leaves + n)),
            "pymerkle_wal": lambda n: wal_tree.append_entry(body(leaves + n)),
        },
        SINGLES,
    )
    say("SQLite: appends in batches")
    batch = bodies(leaves)
    found["batch"] = in_turns(
        {
            "ours": lambda _: append_batch(engine, batch),
            "plain": lambda _: plain(batch),
            "driver": lambda _: by_driver(batch),
            "pymerkle": lambda _: (tree.append_entries(batch), tree.get_root()),
            "pymerkle_no_root": lambda _: wal_tree.append_entries(batch),
        },
        BATCHES,
        warm=3,
    )
    driver.close()
    plain_engine.dispose()
    engine.dispose()
    tree.close()
    wal_tree.close()
    found |= whole_log(folder, url, small_url, leaves // 10)
    return found


def whole_log(folder: Path, url: str, small_url: str, small: int) -> dict[str, Any]:
    """Opening and checking the whole log, each in new processes; fsck's memory at a tenth of the leaves, too."""
    engine = open_database(small_url)
    for first in range(0, small, BATCH):
        append_batch(engine, bodies(first))
    engine.dispose()
    trees = str(folder / "pymerkle.db")
    say("SQLite: opening in new processes")
    openings = {
        name: [in_a_process(f"opening-{name}", place) for _ in range(OPENINGS)]
        for name, place in (("ours", url), ("pymerkle", trees))
    }
    say("SQLite: the whole log")
    large, little = in_a_process("check-ours", url), in_a_process("check-ours", small_url)
    theirs = in_a_process("check-pymerkle", trees)
    return {
        "opening": {name: statistics.median(one["seconds"] for one in several) for name, several in openings.items()},
        "imports": {"ours": imports("mbd.records.ledger"), "pymerkle": imports("pymerkle")},
        "check": {"ours": large["seconds"], "pymerkle": theirs["seconds"], "pymerkle_trusting": theirs["trusting"]},
        "check_memory_mib": {str(little["leaves"]): little["memory_mib"], str(large["leaves"]): large["memory_mib"]},
    }


def in_a_process(task: str, place: str) -> dict[str, float]:
    """Run one of `TASKS` in a new process."""
    command = [sys.executable, "-m", "benchmarks.ledger", "--task", task, place]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def imports(module: str) -> float:
    """Median seconds that a new process needs to import a module."""
    program = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    run = [sys.executable, "-c", program]
    return statistics.median(float(subprocess.check_output(run, cwd=ROOT)) for _ in range(OPENINGS))


def opening_ours(url: str) -> dict[str, float]:
    """From the URL to size and root. The imports, which a program pays once, are measured apart by `imports`."""
    started = time.perf_counter()
    engine = open_database(url)
    with begin_snapshot(engine) as connection:
        ledger.head(connection)
    seconds = time.perf_counter() - started
    engine.dispose()
    return {"seconds": seconds}


def opening_pymerkle(path: str) -> dict[str, float]:
    """From the file to the size; the root would take `trusting` of `check_pymerkle`."""
    started = time.perf_counter()
    tree = SqliteTree(path)
    tree.get_size()
    seconds = time.perf_counter() - started
    tree.close()
    return {"seconds": seconds}


def check_ours(url: str) -> dict[str, float]:
    """Re-hash all: bodies, leaves, subtrees, heads. Memory is the process's highest, libraries included."""
    engine = open_database(url)
    started = time.perf_counter()
    with begin_snapshot(engine) as connection:
        report = fsck(connection)
    seconds = time.perf_counter() - started
    engine.dispose()
    assert report.ok
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "leaves": report.head.size, "memory_mib": memory}


def check_pymerkle(path: str) -> dict[str, float]:
    """Re-hash all that it keeps, by its own functions: entries to leaves, leaves to the root."""
    tree = SqliteTree(path)
    started = time.perf_counter()
    tree.get_root()
    trusting = time.perf_counter() - started
    for index in range(1, tree.get_size() + 1):
        assert tree.hash_buff(tree.get_entry(index)) == tree.get_leaf(index)
    seconds = time.perf_counter() - started
    tree.close()
    return {"seconds": seconds, "trusting": trusting}


TASKS = {
    "opening-ours": opening_ours,
    "opening-pymerkle": opening_pymerkle,
    "check-ours": check_ours,
    "check-pymerkle": check_pymerkle,
}


def on_postgresql(url: str, leaves: int) -> dict[str, Any]:
    """The rows of the table on PostgreSQL."""
    upgrade(url)
    engine = open_database(url)
    with begin_locked(engine) as connection:
        connection.exec_driver_sql(
            "CREATE TABLE plain (idx bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body bytea NOT NULL)"
        )
        settings = ("server_version", "fsync", "synchronous_commit")
        shown = {name: connection.exec_driver_sql(f"SHOW {name}").scalar() for name in settings}
    driver = psycopg.connect(make_url(url).render_as_string(hide_password=False), autocommit=True)

    def plain(batch: list[bytes]) -> None:
        with begin_locked(engine) as connection:
            connection.exec_driver_sql("INSERT INTO plain (body) VALUES (%b)", [(data,) for data in batch])

    def by_driver(batch: list[bytes]) -> None:
        with driver.transaction(), driver.cursor() as cursor:
            for data in batch:
                cursor.execute("INSERT INTO plain (body) VALUES (%b)", (data,))

    def by_driver_in_bulk(batch: list[bytes]) -> None:
        with driver.transaction(), driver.cursor() as cursor:
            cursor.executemany("INSERT INTO plain (body) VALUES (%b)", [(data,) for data in batch])

    say(f"PostgreSQL: {leaves:,} leaves")
    fill(engine, leaves, plain)
    found: dict[str, Any] = {"settings": shown}
    say("PostgreSQL: proofs")
    for name, prove in proofs(engine, leaves).items():
        found[name] = in_turns({"ours": prove}, PROOFS)
    say("PostgreSQL: appends one by one")
    found["single"] = in_turns(
        {
            "ours": lambda n: append_one(engine, body(leaves + n)),
            "plain": lambda n: plain([body(leaves + n)]),
            "driver": lambda n: by_driver([body(leaves + n)]),
        },
        SINGLES,
    )
    say("PostgreSQL: appends in batches")
    batch = bodies(leaves)
    found["batch"] = in_turns(
        {
            "ours": lambda _: append_batch(engine, batch),
            "plain": lambda _: plain(batch),
            "driver": lambda _: by_driver_in_bulk(batch),
        },
        BATCHES,
        warm=3,
    )
    driver.close()
    engine.dispose()
    return found


def verification(bundle: Path, trusted_root: Path) -> dict[str, Any]:
    """Median seconds of a full offline verification of a certificate, on one core."""
    data, root = bundle.read_bytes(), trusted_root.read_bytes()
    stamped = bool(json.loads(data)["verificationMaterial"].get("timestampVerificationData"))
    at = datetime.now(UTC)
    seconds = in_turns({"ours": lambda _: verify(data, root, at=at)}, VERIFICATIONS)
    return {**seconds, "certificate": bundle.stem.partition(".")[0], "time_stamp": stamped}


def main(leaves: int) -> None:
    """Measure everything and write the results."""
    with tempfile.TemporaryDirectory(prefix="mbd-ledger-") as folder:
        say("verification of a certificate")
        verified = verification(STAMPED / "successor.sigstore.json", STAMPED / "trusted_root.json")
        sqlite = on_sqlite(Path(folder), leaves)
    with postgresql.serve(fsync=True) as url:
        postgres = on_postgresql(url, leaves)
    result = {
        "environment": {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            "postgresql": postgres.pop("settings"),
            **{name: metadata.version(name) for name in ("pymerkle", "sqlalchemy", "psycopg")},
        },
        "leaves": leaves,
        "body_bytes": BODY_BYTES,
        "batch": BATCH,
        "verification": verified,
        "sqlite": sqlite,
        "postgresql": postgres,
    }
    TARGET.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
    say(f"written to {TARGET.relative_to(ROOT)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure the ledger.")
    parser.add_argument("--leaves", type=int, default=1_000_000, help="leaves in each log (a multiple of 10,000)")
    parser.add_argument("--task", nargs=2, metavar=("TASK", "PLACE"), help="one measurement, for a new process")
    given = parser.parse_args()
    if given.task is None:
        main(given.leaves)
    else:
        print(json.dumps(TASKS[given.task[0]](given.task[1])))
