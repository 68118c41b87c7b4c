"""The public copy of the log: a function of the database, whole whenever a process dies, and never rewritten."""

import fcntl
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from threading import Thread

import pytest
from sqlalchemy import Engine, event

from certs import checkpoint as checkpoints
from certs.checkpoint import Checkpoint as SignedHead
from certs.encoding import parse_json
from certs.keys import Ed25519Signer, PublicKey
from certs.log_reader import LogReader
from certs.note import NoteKey
from mbd.errors import LedgerError
from mbd.records import ledger
from mbd.records.database import begin_locked, begin_snapshot, open_database, upgrade
from mbd.records.ledger import Checkpoint, TreeHead
from mbd.settings import Settings
from mbd.workflow.log import commit_to_noise, sign_checkpoint
from mbd.workflow.publication import log_folder, publish
from mbd.workflow.system import open_system

ORIGIN = "example.org/log"
AT = datetime(2026, 3, 1, tzinfo=UTC)
SIGNER = Ed25519Signer.generate()
KEY = NoteKey(ORIGIN, PublicKey.from_spki(SIGNER.public_key))
OTHER = Ed25519Signer.generate()


def entry(index: int) -> bytes:
    return b"entry %d" % index


def read_note(note: str) -> TreeHead:
    checkpoint, _ = checkpoints.verify(note, [KEY])
    return TreeHead(checkpoint.size, checkpoint.root)


def grow(engine: Engine, size: int, make: Callable[[int], bytes] = entry) -> None:
    """Append up to a size."""
    with begin_locked(engine) as connection:
        ledger.append_many(connection, [make(index) for index in range(ledger.head(connection).size, size)])


def sign(engine: Engine, signer: Ed25519Signer = SIGNER) -> None:
    with begin_locked(engine) as connection:
        head = ledger.head(connection)
        note = checkpoints.sign(SignedHead(ORIGIN, head.size, head.root), [signer], at=AT)
        ledger.store_checkpoint(connection, Checkpoint(head, note))


def grow_and_sign(engine: Engine, *sizes: int) -> None:
    for size in sizes:
        grow(engine, size)
        sign(engine)


def files_in(folder: Path) -> dict[str, str]:
    """The digest of every file."""
    return {
        str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def reader_of(folder: Path) -> LogReader:
    """A reader that checks the signature, as a stranger would."""

    def fetch(path: str) -> bytes | None:
        return (folder / path).read_bytes() if (folder / path).exists() else None

    checkpoint, _ = checkpoints.verify((folder / "checkpoint").read_text(), [KEY])
    return LogReader(fetch, checkpoint)


@pytest.fixture
def lite(tmp_path: Path) -> Iterator[Callable[[str], Engine]]:
    """``lite("name")``: the engine of a new SQLite log."""
    engines = []

    def make(name: str) -> Engine:
        url = f"sqlite:///{tmp_path / name}.sqlite3"
        upgrade(url)
        engines.append(open_database(url))
        return engines[-1]

    yield make
    for engine in engines:
        engine.dispose()


def test_the_files_are_those_that_the_signed_sizes_call_for(engine, tmp_path):
    grow_and_sign(engine, 3, 250)
    grow(engine, 260)  # this size was never signed
    grow_and_sign(engine, 300, 600)
    done = publish(engine, tmp_path / "log", read_note=read_note)
    names = set(files_in(tmp_path / "log"))
    both = {"000", "001", "002.p/88"}
    tiles = {f"tile/{kind}/{name}" for kind in ("0", "entries") for name in both}
    assert names == tiles | {"checkpoint", "tile/1/000.p/1", "tile/1/000.p/2"}
    assert done.written == len(names) - 1
    hashes = [sha256(b"\x00" + entry(index)).digest() for index in range(600)]
    assert (tmp_path / "log/tile/0/002.p/88").read_bytes() == b"".join(hashes[512:])
    data = (tmp_path / "log/tile/entries/000").read_bytes()
    assert data == b"".join(len(entry(index)).to_bytes(2, "big") + entry(index) for index in range(256))
    with begin_snapshot(engine) as connection:
        halves = ledger.subtree_hashes(connection, 8, 0, 2)
    assert (tmp_path / "log/tile/1/000.p/2").read_bytes() == b"".join(halves)
    assert list(reader_of(tmp_path / "log").entries(0, 600)) == [entry(index) for index in range(600)]


def test_step_by_step_at_once_and_made_anew_give_the_same_bytes(lite, tmp_path):
    sizes = [1, 2, 7, 255, 256, 257, 258, 511, 513, 600, 601, 770]
    engine = lite("log")
    for size in sizes:
        grow_and_sign(engine, size)
        publish(engine, tmp_path / "each", read_note=read_note)
        assert reader_of(tmp_path / "each").size == size
    for name, check_all in (("once", False), ("again", True)):
        publish(engine, tmp_path / name, read_note=read_note, check_all=check_all)
        assert files_in(tmp_path / name) == files_in(tmp_path / "each")
    assert publish(engine, tmp_path / "each", read_note=read_note, check_all=True).written == 0


def test_one_more_entry_costs_what_is_new_and_no_full_file_is_written_again(lite, tmp_path):
    engine, folder = lite("log"), tmp_path / "log"
    grow_and_sign(engine, 1000)
    publish(engine, folder, read_note=read_note)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    grow_and_sign(engine, 1001)
    assert publish(engine, folder, read_note=read_note).written == 2
    changed = [path.name for path, time in before.items() if path.stat().st_mtime_ns != time]
    assert changed == ["checkpoint"]
    assert publish(engine, folder, read_note=read_note).written == 0


def test_one_more_entry_reads_as_much_of_a_large_log_as_of_a_small_one(lite, tmp_path):
    engine, folder, reads = lite("log"), tmp_path / "log", []
    event.listen(engine, "checkout", lambda driver, *_: driver.set_trace_callback(reads.append))
    counts = []
    for size in (1000, 3048):
        grow_and_sign(engine, size)
        publish(engine, folder, read_note=read_note)
        grow_and_sign(engine, size + 1)
        reads.clear()
        publish(engine, folder, read_note=read_note)
        counts.append(len(reads))
    assert counts[0] == counts[1]


def test_partial_files_stay_until_the_full_one_is_there(lite, tmp_path):
    engine, folder = lite("log"), tmp_path / "log"
    for size in (5, 200):
        grow_and_sign(engine, size)
        publish(engine, folder, read_note=read_note)
    assert sorted(path.name for path in (folder / "tile/0/000.p").iterdir()) == ["200", "5"]
    older = reader_of(folder)
    grow_and_sign(engine, 256)
    publish(engine, folder, read_note=read_note)
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.p")) == ["tile/1/000.p"]
    assert list(older.entries(0, 200)) == [entry(index) for index in range(200)]


def test_the_empty_log_has_a_checkpoint_and_no_tiles(lite, tmp_path):
    engine = lite("log")
    with pytest.raises(LedgerError, match="no signed checkpoint"):
        publish(engine, tmp_path / "log", read_note=read_note)
    sign(engine)
    publish(engine, tmp_path / "log", read_note=read_note)
    assert set(files_in(tmp_path / "log")) == {"checkpoint"}


def test_a_fork_is_not_published_over_the_log(lite, tmp_path):
    engine, fork, folder = lite("log"), lite("fork"), tmp_path / "log"
    grow_and_sign(engine, 300)
    publish(engine, folder, read_note=read_note)
    before = files_in(folder)
    grow(fork, 400, lambda index: b"other" if index == 17 else entry(index))
    sign(fork)
    for check_all in (False, True):
        with pytest.raises(LedgerError, match="forked"):
            publish(fork, folder, read_note=read_note, check_all=check_all)
    assert files_in(folder) == before


def test_an_old_copy_of_the_database_does_not_take_the_log_back(lite, tmp_path):
    engine, restored, unsigned, folder = lite("log"), lite("restored"), lite("unsigned"), tmp_path / "log"
    grow_and_sign(engine, 300)
    publish(engine, folder, read_note=read_note)
    before = files_in(folder)
    grow_and_sign(restored, 299)
    with pytest.raises(LedgerError, match="old copy"):
        publish(restored, folder, read_note=read_note)
    grow_and_sign(unsigned, 299)
    grow(unsigned, 301)  # the same entries again, but it has forgotten what it signed
    with pytest.raises(LedgerError, match="knows none above 299"):
        publish(unsigned, folder, read_note=read_note)
    assert files_in(folder) == before


@pytest.mark.parametrize("name", ["tile/0/000", "tile/0/001.p/44", "tile/entries/000", "tile/1/000.p/1"])
def test_a_file_with_other_bytes_is_refused_and_one_that_is_gone_is_made_anew(lite, tmp_path, name):
    engine, folder = lite("log"), tmp_path / "log"
    grow_and_sign(engine, 300)
    publish(engine, folder, read_note=read_note)
    before = files_in(folder)
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(LedgerError, match=name):
        publish(engine, folder, read_note=read_note, check_all=True)
    (folder / name).unlink()
    assert publish(engine, folder, read_note=read_note, check_all=True).written == 1
    assert files_in(folder) == before


def test_a_checkpoint_of_somebody_else_in_the_folder_is_refused(lite, tmp_path):
    engine, folder = lite("log"), tmp_path / "log"
    grow_and_sign(engine, 3)
    publish(engine, folder, read_note=read_note)
    for data in (b"nothing", b"\xff", (folder / "checkpoint").read_bytes().replace(b"\n3\n", b"\n2\n")):
        (folder / "checkpoint").write_bytes(data)
        with pytest.raises(LedgerError, match="not a checkpoint that this log signed"):
            publish(engine, folder, read_note=read_note)


def test_a_checkpoint_that_its_own_key_does_not_sign_is_not_published(lite, tmp_path):
    engine = lite("log")
    grow(engine, 3)
    sign(engine, OTHER)
    with pytest.raises(LedgerError, match="does not verify"):
        publish(engine, tmp_path / "log", read_note=read_note)
    assert not (tmp_path / "log/checkpoint").exists()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE leaf SET body = x'00' WHERE idx = 299",
        "UPDATE leaf SET hash = zeroblob(32) WHERE idx = 299",
        "UPDATE node SET hash = zeroblob(32) WHERE level = 8 AND idx = 0",
        "DELETE FROM leaf WHERE idx = 299",
    ],
)
def test_a_damaged_database_publishes_no_checkpoint(lite, tmp_path, damage):
    engine, folder = lite("log"), tmp_path / "log"
    grow_and_sign(engine, 2)
    publish(engine, folder, read_note=read_note)
    before = (folder / "checkpoint").read_bytes()
    grow_and_sign(engine, 300)
    with begin_locked(engine) as connection:
        for (trigger,) in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").all():
            connection.exec_driver_sql(f'DROP TRIGGER "{trigger}"')
        connection.exec_driver_sql(damage)
    with pytest.raises(LedgerError):
        publish(engine, folder, read_note=read_note)
    assert (folder / "checkpoint").read_bytes() == before


def test_whoever_had_to_wait_publishes_what_was_signed_meanwhile(lite, tmp_path):
    engine, folder, results = lite("log"), tmp_path / "log", []
    grow_and_sign(engine, 3)
    publish(engine, folder, read_note=read_note)
    with (tmp_path / ".log.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = Thread(target=lambda: results.append(publish(engine, folder, read_note=read_note)))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        grow_and_sign(engine, 9)
    waiting.join()
    assert results[0].head.size == reader_of(folder).size == 9


def test_killed_before_any_change_the_copy_is_whole_and_the_next_call_finishes_it(lite, tmp_path):
    engine, folder, target = lite("log"), tmp_path / "log", tmp_path / "killed"
    grow_and_sign(engine, 250)
    publish(engine, folder, read_note=read_note)
    grow_and_sign(engine, 254, 258, 259)
    script = Path(__file__).parent / "publish_and_die.py"
    url = f"sqlite:///{tmp_path / 'log.sqlite3'}"
    target.mkdir()
    subprocess.run([sys.executable, script, url, folder, KEY.vkey, target], check=True)
    copies = sorted(target.glob("[0-9]*"), key=lambda path: int(path.name))
    *killed, survived = copies
    wanted = files_in(survived)
    assert len(killed) > 15
    sizes = []
    for copy in killed:
        reader = reader_of(copy)
        assert list(reader.entries(0, reader.size)) == [entry(index) for index in range(reader.size)]
        sizes.append(reader.size)
        publish(engine, copy, read_note=read_note)
        assert {name: d for name, d in files_in(copy).items() if ".partial-" not in name} == wanted
        publish(engine, copy, read_note=read_note, check_all=True)
        assert files_in(copy) == wanted
    assert set(sizes) == {250}  # the checkpoint's rename is the last change of all


def test_whatever_is_signed_is_public(tmp_path):
    with open_system(Settings(home=tmp_path / "home"), create=True) as system:
        commit_to_noise(system)
        folder = log_folder(system.home)

        def entries() -> list[bytes]:
            key = system.keyring.note_key
            checkpoint, _ = checkpoints.verify((folder / "checkpoint").read_text(), [key])
            reader = LogReader(lambda path: (folder / path).read_bytes(), checkpoint)
            return list(reader.entries(0, checkpoint.size))

        assert [parse_json(data)["kind"] for data in entries()] == ["hashedrekord"]
        with begin_locked(system.engine) as connection:
            ledger.append(connection, b"more")
        sign_checkpoint(system)
        assert entries()[1:] == [b"more"]


def test_what_is_missing_of_the_published_keys_is_made_again(tmp_path):
    with open_system(Settings(home=tmp_path / "home"), create=True) as system:
        published = system.home / "published"
        commit_to_noise(system)
        whole = files_in(published)
        assert {"trusted_root.json", "tlog-policy", "time-stamp-chain-0.pem"} < {str(name) for name in whole}
        for path in (*published.glob("*.pem"), *published.glob("*.vkey")):
            path.unlink()
        commit_to_noise(system)
        assert files_in(published) == whole
