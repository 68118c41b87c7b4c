import shutil
import sqlite3
import tracemalloc
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from mbd.errors import LedgerError
from mbd.hashing import leaf_hash, tree_root
from mbd.records import cosignatures, ledger
from mbd.records.database import begin_locked, begin_snapshot, open_database
from mbd.records.fsck import FsckReport, Problem, fsck
from mbd.records.ledger import Checkpoint, TreeHead

SIZE = 21


def note(head: TreeHead) -> str:
    return f"{head.size} {head.root.hex()}"


def read_note(text: str) -> TreeHead:
    size, root = text.split()
    return TreeHead(int(size), bytes.fromhex(root))


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """21 leaves one by one, and checkpoints of sizes 7 and 21."""
    for number in range(SIZE):
        with begin_locked(engine) as connection:
            head = ledger.append(connection, f"entry {number}".encode()).head
            if head.size in (7, SIZE):
                ledger.store_checkpoint(connection, Checkpoint(head, note(head)))
    return engine


def tamper(engine: Engine, *statements: str) -> None:
    """As somebody who owns the database: without triggers and foreign keys."""
    if engine.dialect.name == "sqlite":
        connection = sqlite3.connect(str(engine.url.database), isolation_level=None)
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)
        connection.close()
    else:
        with begin_locked(engine) as connection:
            for table in ("leaf", "node", "head", "checkpoint", "cosignature"):
                connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER ALL"))
            for statement in statements:
                connection.execute(text(statement))


def check(engine: Engine, **options: object) -> FsckReport:
    with begin_snapshot(engine) as connection:
        return fsck(connection, verify_note=read_note, **options)  # type: ignore[arg-type]


def places(report: FsckReport) -> list[str]:
    return [problem.place for problem in report.problems]


def blob(engine: Engine, value: bytes) -> str:
    return f"x'{value.hex()}'" if engine.dialect.name == "sqlite" else f"'\\x{value.hex()}'"


def test_a_whole_log_has_no_problems(filled: Engine) -> None:
    report = check(filled)
    assert report.ok
    assert report.head == TreeHead(SIZE, tree_root([leaf_hash(f"entry {n}".encode()) for n in range(SIZE)]))
    assert report.checkpoints == 2


def test_an_empty_log_has_no_problems(engine: Engine) -> None:
    assert check(engine).ok


def test_a_changed_body_is_found_at_its_index_and_nowhere_else(filled: Engine) -> None:
    tamper(filled, f"UPDATE leaf SET body = {blob(filled, b'forged')} WHERE idx = 13")
    assert check(filled).problems == (Problem("leaf 13", "the body does not have the stored hash"),)


def test_a_changed_body_with_its_hash_is_found_above_it(filled: Engine) -> None:
    forged = f"body = {blob(filled, b'forged')}, hash = {blob(filled, leaf_hash(b'forged'))}"
    tamper(filled, f"UPDATE leaf SET {forged} WHERE idx = 12")
    # The subtree above it, and the heads that the leaf itself is a part of.
    assert places(check(filled)) == ["node 3/1", "head 13", "head 14", "head 15"]


def test_a_changed_subtree_is_found_with_what_stands_on_it(filled: Engine) -> None:
    tamper(filled, f"UPDATE node SET hash = {blob(filled, bytes(32))} WHERE level = 4 AND idx = 0")
    assert places(check(filled)) == ["node 4/0", *(f"head {size}" for size in range(16, 22)), "checkpoint 21"]


def test_a_changed_head_is_found(filled: Engine) -> None:
    tamper(filled, f"UPDATE head SET root = {blob(filled, bytes(32))} WHERE size = 9")
    assert places(check(filled)) == ["head 9"]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("DELETE FROM leaf WHERE idx BETWEEN 5 AND 7", ["leaf 5"]),
        ("DELETE FROM leaf WHERE idx >= 19", ["leaf 19"]),
        ("DELETE FROM node WHERE level = 3 AND idx = 1", ["node 3/1"]),
        ("DELETE FROM head WHERE size = 21", ["leaf 20", "checkpoint 21"]),
        (
            "DELETE FROM head WHERE size > 15",
            [*(f"leaf {at}" for at in range(15, 21)), "node 3/1", "node 4/0", "checkpoint 21"],
        ),
    ],
)
def test_missing_rows_are_found(filled: Engine, statement: str, expected: list[str]) -> None:
    tamper(filled, statement)
    assert places(check(filled)) == expected


def test_a_log_without_any_head_is_an_error(filled: Engine) -> None:
    tamper(filled, "DELETE FROM head")
    with begin_snapshot(filled) as connection, pytest.raises(LedgerError, match="no head"):
        fsck(connection)


def test_a_log_rewritten_with_all_its_hashes_is_found_by_what_was_signed(filled: Engine) -> None:
    forged = [b"forged" if number == 3 else f"entry {number}".encode() for number in range(SIZE)]
    tamper(filled, "DELETE FROM checkpoint WHERE size = 7", "DELETE FROM leaf", "DELETE FROM node", "DELETE FROM head")
    tamper(filled, f"INSERT INTO head VALUES (0, {blob(filled, tree_root([]))})")
    for body in forged:
        with begin_locked(filled) as connection:
            head = ledger.append(connection, body).head
    assert places(check(filled)) == ["checkpoint 21"]
    tamper(filled, f"UPDATE checkpoint SET root = {blob(filled, head.root)}")
    assert check(filled).problems == (Problem("checkpoint 21", "the note signs another size or root"),)


def test_a_note_that_does_not_verify_is_a_problem(filled: Engine) -> None:
    tamper(filled, "UPDATE checkpoint SET note = 'nonsense' WHERE size = 7")
    (problem,) = check(filled).problems
    assert problem.place == "checkpoint 7"
    assert "does not verify" in problem.message


def test_notes_are_left_alone_without_a_verifier(filled: Engine) -> None:
    tamper(filled, "UPDATE checkpoint SET note = 'nonsense' WHERE size = 7")
    with begin_snapshot(filled) as connection:
        assert fsck(connection).ok


def test_a_changed_cosignature_is_found_with_its_witness_and_one_without_a_checkpoint_too(filled: Engine) -> None:
    with begin_locked(filled) as connection:
        for size in (7, SIZE):
            cosignatures.keep_cosignatures(connection, size, {"v": "\n", "w": " \n"})
    assert check(filled).ok
    tamper(filled, "UPDATE cosignature SET line = 'x' WHERE size = 7 AND witness = 'w'")
    (problem,) = check(filled).problems
    assert (problem.place, "does not verify" in problem.message) == ("cosignature 7 by w", True)
    tamper(filled, "DELETE FROM checkpoint WHERE size = 7")
    with begin_snapshot(filled) as connection:
        assert places(fsck(connection)) == ["cosignature 7 by v", "cosignature 7 by w"]


def test_progress_reaches_beyond_one_page_and_never_beyond_the_total(sqlite_url: str) -> None:
    engine = open_database(sqlite_url)
    told: list[tuple[int, int]] = []
    with begin_locked(engine) as connection:
        ledger.append_many(connection, (number.to_bytes(4, "big") for number in range(3000)))
    with begin_snapshot(engine) as connection:
        assert fsck(connection, progress=lambda done, total: told.append((done, total))).ok
    engine.dispose()
    assert len(told) > 5
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert all(done <= total for done, total in told)


def test_memory_does_not_grow_with_the_log(sqlite_url: str) -> None:
    engine = open_database(sqlite_url)
    peaks = []
    for batches in (48, 96):  # 48,000 leaves, more than the pages that are kept, then three times as many
        for _ in range(batches):
            with begin_locked(engine) as connection:
                ledger.append_many(connection, [number.to_bytes(4, "big") * 25 for number in range(1000)])
        with begin_snapshot(engine) as connection:
            tracemalloc.start()
            assert fsck(connection).ok
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    engine.dispose()
    assert peaks[1] < 1.2 * peaks[0]


def test_a_restored_old_copy_is_noticed(sqlite_url: str, tmp_path: Path) -> None:
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    backup = tmp_path / "backup.sqlite3"
    engine = open_database(sqlite_url)
    with begin_locked(engine) as connection:
        ledger.append_many(connection, [b"a", b"b"])
    engine.dispose()
    shutil.copyfile(path, backup)
    engine = open_database(sqlite_url)
    with begin_locked(engine) as connection:
        published = ledger.append(connection, b"c").head
    engine.dispose()
    shutil.copyfile(backup, path)

    engine = open_database(sqlite_url)
    with begin_snapshot(engine) as connection, pytest.raises(LedgerError, match="restored"):
        ledger.check_not_behind(connection, published)
    with begin_locked(engine) as connection:  # and growing past it does not hide it
        ledger.append_many(connection, [b"d", b"e"])
        with pytest.raises(LedgerError, match="forked"):
            ledger.check_not_behind(connection, published)
    engine.dispose()
