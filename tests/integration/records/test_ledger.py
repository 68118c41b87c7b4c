from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, event

from mbd.errors import LedgerError
from mbd.hashing import inclusion_path, leaf_hash, node_hash, tree_root
from mbd.records import ledger
from mbd.records.database import begin_locked, begin_snapshot, open_database, upgrade
from mbd.records.ledger import Checkpoint, TreeHead

# The leaves and roots that the certificate-transparency project publishes for RFC 6962.
CT_LEAVES = [
    bytes.fromhex(value)
    for value in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
CT_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def bodies(count: int, first: int = 0) -> list[bytes]:
    return [f"entry {number}".encode() for number in range(first, first + count)]


def append(engine: Engine, entries: list[bytes]) -> list[ledger.Appended]:
    with begin_locked(engine) as connection:
        return ledger.append_many(connection, entries)


def naive_consistency(hashes: list[bytes], old: int, whole: bool = True) -> list[bytes]:
    """SUBPROOF of RFC 6962 section 2.1.2, as it is written there."""
    size = len(hashes)
    if old == size:
        return [] if whole else [tree_root(hashes)]
    split = 1 << ((size - 1).bit_length() - 1)
    if old <= split:
        return [*naive_consistency(hashes[:split], old, whole), tree_root(hashes[split:])]
    return [*naive_consistency(hashes[split:], old - split, False), tree_root(hashes[:split])]


def test_many_rows_of_an_append_need_few_statements(engine: Engine) -> None:
    append(engine, bodies(3))
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    appended = append(engine, bodies(1000, first=3))
    assert appended[-1].head.root == tree_root([leaf_hash(body) for body in bodies(1003)])
    assert len(statements) < 20


def test_a_new_log_is_the_empty_tree(engine: Engine) -> None:
    with begin_snapshot(engine) as connection:
        assert ledger.head(connection) == TreeHead(0, tree_root([]))
        assert ledger.latest_checkpoint(connection) is None


def test_the_published_trees_of_certificate_transparency_have_their_roots(engine: Engine) -> None:
    for index, (body, root) in enumerate(zip(CT_LEAVES, CT_ROOTS, strict=True)):
        with begin_locked(engine) as connection:
            appended = ledger.append(connection, body)
        assert appended == ledger.Appended(index, leaf_hash(body), TreeHead(index + 1, bytes.fromhex(root)))
    with begin_snapshot(engine) as connection:
        assert [ledger.root_at(connection, size + 1).hex() for size in range(8)] == CT_ROOTS
        assert [ledger.leaf(connection, index) for index in range(8)] == CT_LEAVES


@pytest.fixture(scope="module")
def long_log(tmp_path_factory: pytest.TempPathFactory):
    """200 leaves, appended in steps of many sizes; reading does not change it."""
    url = f"sqlite:///{tmp_path_factory.mktemp('log') / 'records.sqlite3'}"
    upgrade(url)
    engine = open_database(url)
    entries = bodies(200)
    done = 0
    for step in [1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 57]:
        append(engine, entries[done : done + step])
        done += step
    with begin_snapshot(engine) as connection:
        yield connection, [leaf_hash(entry) for entry in entries]
    engine.dispose()


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_inclusion_proofs_are_those_of_the_definition(long_log: tuple[Connection, list[bytes]], data) -> None:
    connection, hashes = long_log
    size = data.draw(st.integers(1, len(hashes)))
    index = data.draw(st.integers(0, size - 1))
    assert ledger.inclusion_proof(connection, index, size) == inclusion_path(hashes[:size], index)
    assert ledger.root_at(connection, size) == tree_root(hashes[:size])


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_consistency_proofs_are_those_of_the_definition(long_log: tuple[Connection, list[bytes]], data) -> None:
    connection, hashes = long_log
    new = data.draw(st.integers(1, len(hashes)))
    old = data.draw(st.integers(1, new))
    assert ledger.consistency_proof(connection, old, new) == naive_consistency(hashes[:new], old)


def test_proofs_on_each_database_are_those_of_the_definition(engine: Engine) -> None:
    entries = bodies(45)
    append(engine, entries[:19])
    append(engine, entries[19:])
    hashes = [leaf_hash(entry) for entry in entries]
    with begin_snapshot(engine) as connection:
        for size in (1, 2, 3, 31, 32, 33, 45):
            assert ledger.consistency_proof(connection, size, 45) == naive_consistency(hashes, size)
            for index in (0, size // 2, size - 1):
                assert ledger.inclusion_proof(connection, index, size) == inclusion_path(hashes[:size], index)


def test_an_inclusion_proof_leads_from_the_leaf_to_the_root(engine: Engine) -> None:
    appended = append(engine, bodies(7))[6]
    with begin_snapshot(engine) as connection:
        left_of_it, left_of_both = ledger.inclusion_proof(connection, 6, 7)
    assert node_hash(left_of_both, node_hash(left_of_it, appended.leaf_hash)) == appended.head.root


@pytest.mark.parametrize("undone", ["rolled back", "another log"])
def test_the_edge_of_an_append_is_taken_up_by_no_other_tree(engine: Engine, tmp_path: Path, undone: str) -> None:
    """The process remembers the right edge of the tree that it left; here that tree is not the one it meets next."""
    append(engine, bodies(5))
    if undone == "rolled back":
        with begin_locked(engine) as connection:
            ledger.append_many(connection, bodies(3, first=100))
            connection.rollback()
    else:
        url = f"sqlite:///{tmp_path / 'other.sqlite3'}"
        upgrade(url)
        other = open_database(url)
        append(other, bodies(5, first=100))
        other.dispose()
    head = append(engine, bodies(4, first=5))[-1].head
    assert head == TreeHead(9, tree_root([leaf_hash(body) for body in bodies(9)]))


def test_proofs_look_rows_up_and_scan_no_table(sqlite_url: str) -> None:
    engine = open_database(sqlite_url)
    append(engine, bodies(100))
    statements: list[str] = []
    with begin_snapshot(engine) as connection:
        connection.connection.driver_connection.set_trace_callback(statements.append)  # type: ignore[union-attr]  # None only of a closed one
        ledger.inclusion_proof(connection, 37, 100)
        ledger.consistency_proof(connection, 37, 100)
        assert len(statements) == 2  # each looks once, at the head, at leaves and at nodes
        for statement in statements.copy():
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}").all()
            assert len(plan) > 3
            scanned = [step for *_, step in plan if step.startswith("SCAN") and "CONSTANT ROWS" not in step]
            assert set(scanned) <= {"SCAN place", "SCAN now", "SCAN head"}  # of the head, the first row alone
    engine.dispose()


def test_nothing_is_to_be_proved_about_the_empty_tree_or_between_equal_trees(engine: Engine) -> None:
    append(engine, bodies(5))
    with begin_snapshot(engine) as connection:
        assert ledger.consistency_proof(connection, 0, 5) == []
        assert ledger.consistency_proof(connection, 5, 5) == []
        assert ledger.inclusion_proof(connection, 0, 1) == []


@pytest.mark.parametrize(
    "question",
    [
        lambda connection: ledger.leaf(connection, 5),
        lambda connection: ledger.leaf(connection, -1),
        lambda connection: ledger.root_at(connection, 6),
        lambda connection: ledger.inclusion_proof(connection, 0, 6),
        lambda connection: ledger.inclusion_proof(connection, 4, 4),
        lambda connection: ledger.inclusion_proof(connection, -1, 4),
        lambda connection: ledger.consistency_proof(connection, 3, 6),
        lambda connection: ledger.consistency_proof(connection, 4, 3),
        lambda connection: ledger.consistency_proof(connection, -1, 3),
    ],
)
def test_a_question_about_what_the_log_has_not_is_an_error(engine: Engine, question) -> None:
    append(engine, bodies(5))
    with begin_snapshot(engine) as connection, pytest.raises(LedgerError):
        question(connection)


def test_one_by_one_and_all_at_once_give_the_same_tree(engine: Engine) -> None:
    with begin_locked(engine) as connection:
        one_by_one = [ledger.append(connection, body) for body in bodies(21)]
    assert one_by_one[-1].head.root == tree_root([leaf_hash(body) for body in bodies(21)])
    together = append(engine, bodies(21, first=21))
    assert [appended.leaf_index for appended in together] == list(range(21, 42))
    assert {appended.head for appended in together} == {
        TreeHead(42, tree_root([leaf_hash(body) for body in bodies(42)]))
    }


def test_appending_nothing_changes_nothing(engine: Engine) -> None:
    append(engine, bodies(3))
    assert append(engine, []) == []
    with begin_snapshot(engine) as connection:
        assert ledger.head(connection).size == 3


def test_a_failed_transaction_leaves_no_gap(engine: Engine) -> None:
    append(engine, bodies(3))
    with pytest.raises(ZeroDivisionError), begin_locked(engine) as connection:
        ledger.append_many(connection, bodies(2, first=3))
        raise ZeroDivisionError
    assert append(engine, bodies(1, first=3))[0].leaf_index == 3
    with begin_snapshot(engine) as connection:
        assert ledger.head(connection).root == tree_root([leaf_hash(body) for body in bodies(4)])


def test_nothing_is_appended_or_signed_without_the_lock(engine: Engine) -> None:
    with begin_snapshot(engine) as connection:
        with pytest.raises(LedgerError, match="lock"):
            ledger.append(connection, b"entry")
        with pytest.raises(LedgerError, match="lock"):
            ledger.store_checkpoint(connection, sign(ledger.head(connection)))


def test_a_reader_keeps_its_snapshot_while_another_appends(engine: Engine) -> None:
    append(engine, bodies(3))
    with begin_snapshot(engine) as reader:
        before = ledger.head(reader)
        append(engine, bodies(4, first=3))
        assert ledger.head(reader) == before
        assert ledger.root_at(reader, before.size) == before.root
    with begin_snapshot(engine) as reader:
        assert ledger.head(reader).size == 7


def sign(head: TreeHead, *, by: str = "log") -> Checkpoint:
    return Checkpoint(head, f"{by}: {head.size} {head.root.hex()}")


def test_a_checkpoint_is_kept_and_found_again(engine: Engine) -> None:
    for count in (2, 3):
        append(engine, bodies(count))
        with begin_locked(engine) as connection:
            stored = ledger.store_checkpoint(connection, sign(ledger.head(connection)))
        with begin_snapshot(engine) as connection:
            assert ledger.latest_checkpoint(connection) == stored


def test_signing_the_same_head_again_gives_back_the_first_note(engine: Engine) -> None:
    head = append(engine, bodies(2))[0].head
    with begin_locked(engine) as connection:
        first = ledger.store_checkpoint(connection, sign(head))
        append_later = ledger.append(connection, b"later").head
        ledger.store_checkpoint(connection, sign(append_later))
        assert ledger.store_checkpoint(connection, sign(head, by="again")) == first
        assert ledger.latest_checkpoint(connection) == sign(append_later)


def test_a_size_below_the_last_signed_one_is_refused(engine: Engine) -> None:
    first = append(engine, bodies(2))[0].head
    second = append(engine, bodies(2))[0].head
    with begin_locked(engine) as connection:
        ledger.store_checkpoint(connection, sign(second))
        with pytest.raises(LedgerError, match="too late"):
            ledger.store_checkpoint(connection, sign(first))


@pytest.mark.parametrize("head", [TreeHead(2, b"\x07" * 32), TreeHead(3, b"\x07" * 32), TreeHead(1, b"\x07" * 32)])
def test_a_root_that_the_log_never_had_is_not_kept(engine: Engine, head: TreeHead) -> None:
    append(engine, bodies(2))
    with begin_locked(engine) as connection, pytest.raises(LedgerError, match="never had"):
        ledger.store_checkpoint(connection, sign(head))


def test_another_root_for_a_signed_size_is_refused(engine: Engine) -> None:
    head = append(engine, bodies(2))[0].head
    with begin_locked(engine) as connection:
        ledger.store_checkpoint(connection, sign(head))
        with pytest.raises(LedgerError, match="never had"):
            ledger.store_checkpoint(connection, sign(TreeHead(head.size, b"\x07" * 32)))


def test_the_empty_log_can_be_signed(engine: Engine) -> None:
    with begin_locked(engine) as connection:
        checkpoint = sign(ledger.head(connection))
        assert ledger.store_checkpoint(connection, checkpoint) == checkpoint
        assert ledger.latest_checkpoint(connection) == checkpoint


def test_a_log_that_grew_from_the_remembered_head_is_accepted(engine: Engine) -> None:
    remembered = append(engine, bodies(3))[0].head
    append(engine, bodies(10, first=3))
    with begin_snapshot(engine) as connection:
        ledger.check_not_behind(connection, remembered)
        ledger.check_not_behind(connection, ledger.head(connection))


def test_a_log_that_forked_from_the_remembered_head_is_refused(engine: Engine) -> None:
    append(engine, bodies(3))
    other = TreeHead(2, tree_root([leaf_hash(b"entry 0"), leaf_hash(b"another")]))
    with begin_snapshot(engine) as connection, pytest.raises(LedgerError, match="forked"):
        ledger.check_not_behind(connection, other)


def test_a_leaf_that_could_never_be_published_is_refused(engine: Engine) -> None:
    longest = b"x" * ledger.MAX_LEAF_BYTES
    with begin_locked(engine) as connection:
        ledger.append(connection, longest)
        with pytest.raises(LedgerError, match="never be published"):
            ledger.append_many(connection, [b"short", longest + b"x"])
        assert ledger.head(connection).size == 1
