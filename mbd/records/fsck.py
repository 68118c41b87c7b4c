"""Re-hashes the whole ledger: bodies to leaves, leaves to subtrees, subtrees to heads and (co)signed checkpoints.

Every stored value is held against the stored values just below it, so that a wrong one is reported at its own place
and not again in all that stands above it; when no report comes, the whole follows from the bodies by induction.
It trusts no stored hash, and cannot know that a database was rewritten *consistently*: that is what the checkpoint's
signatures (`verify_note`) and `ledger.check_not_behind` are for. Memory is bounded, whatever the size.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import Column, Connection, Table, func, select

from mbd.hashing import leaf_hash, tree_root
from mbd.records import tables
from mbd.records.ledger import TreeHead, head
from mbd.records.tree import LOWEST, Frontier, Place, subtrees

_PAGE = 512
_CACHED_PAGES = 64
"""More than there are levels, and leaves below a page of the lowest one: the current page of each."""

Checked = tuple[int, list["Problem"]]
"""How many rows, and what was wrong with them."""

VerifyNote = Callable[[str], TreeHead]
"""Checks a checkpoint's signatures and returns what they sign; whatever it raises means that they do not hold."""

Progress = Callable[[int, int], None]
"""Called with (rows checked, rows in all)."""


@dataclass(frozen=True)
class Problem:
    """One inconsistency: where it is, for example ``leaf 17``, and what is wrong there."""

    place: str
    message: str


@dataclass(frozen=True)
class FsckReport:
    """What was checked, and everything that was wrong with it."""

    head: TreeHead
    checkpoints: int
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing was wrong."""
        return not self.problems


def fsck(
    connection: Connection, *, verify_note: VerifyNote | None = None, progress: Progress | None = None
) -> FsckReport:
    """Check the whole ledger. It writes nothing.

    Args:
        connection: from `database.begin_snapshot`, so that appends meanwhile are not mistaken for damage.
        verify_note: checks the signatures on stored checkpoints, and of witnesses below them; None leaves them
            unchecked.
        progress: told how far it has come, for every few hundred rows.

    Raises:
        LedgerError: the log has no head at all.
    """
    tree = head(connection)
    stored = _StoredHashes(connection)
    counts = {table.name: connection.scalar(select(func.count()).select_from(table)) or 0 for table in tables.LEDGER}
    checks = (
        _check_leaves(connection, tree.size),
        _check_nodes(connection, stored, tree.size),
        _check_heads(connection, stored),
        _check_checkpoints(connection, stored, tree.size, verify_note),
        _check_cosignatures(connection, verify_note),
    )
    problems: list[Problem] = []
    done = 0
    for rows, found in chain.from_iterable(checks):
        problems += found
        done += rows
        if progress is not None and rows:
            progress(min(done, sum(counts.values())), sum(counts.values()))
    return FsckReport(tree, counts["checkpoint"], tuple(problems))


class _StoredHashes:
    """The stored hash at each place of the tree, read by pages of which a few are kept."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.page = lru_cache(maxsize=_CACHED_PAGES)(self._read_page)

    def at(self, place: Place) -> bytes | None:
        """The hash, or None where a row is missing."""
        level, idx = place
        return self.page(level, idx // _PAGE).get(idx)

    def root(self, size: int) -> bytes | None:
        """The root of the first `size` leaves, or None where a row is missing."""
        hashes = [self.at(place) for place in subtrees((0, size))]
        present = [value for value in hashes if value is not None]
        return Frontier.of(size, present).root() if len(present) == len(hashes) else None

    def _read_page(self, level: int, number: int) -> dict[int, bytes]:
        if level == 0:
            query = select(tables.leaf.c.idx, tables.leaf.c.hash)
            idx = tables.leaf.c.idx
        else:
            query = select(tables.node.c.idx, tables.node.c.hash).where(tables.node.c.level == level)
            idx = tables.node.c.idx
        rows = self._connection.execute(query.where(idx >= number * _PAGE, idx < (number + 1) * _PAGE))
        return {at: value for at, value in rows}  # noqa: C416 dict() takes rows for mappings


def _check_leaves(connection: Connection, size: int) -> Iterator[Checked]:
    expected = 0
    for page in _pages(connection, tables.leaf, tables.leaf.c.idx):
        problems = []
        for idx, body, value in page:
            if idx != expected:
                problems.append(Problem(f"leaf {expected}", f"missing, with all up to leaf {idx - 1}"))
            if leaf_hash(body) != value:
                problems.append(Problem(f"leaf {idx}", "the body does not have the stored hash"))
            if idx >= size:
                problems.append(Problem(f"leaf {idx}", f"beyond the head of size {size}"))
            expected = idx + 1
        yield len(page), problems
    if expected < size:
        yield 0, [Problem(f"leaf {expected}", f"missing, with all up to leaf {size - 1}")]


def _check_nodes(connection: Connection, stored: _StoredHashes, size: int) -> Iterator[Checked]:
    for level in range(LOWEST, size.bit_length()):
        lower = level - 1 if level > LOWEST else 0
        width = 1 << (level - lower)
        for number in range(-(-(size >> level) // _PAGE)):
            places = range(number * _PAGE, min((number + 1) * _PAGE, size >> level))
            values = stored.page(level, number)
            below: dict[int, bytes] = {}
            for page in range(width * number, width * (number + 1)):
                below |= stored.page(lower, page)
            problems = []
            for idx in places:
                value = values.get(idx)
                under = [below[at] for at in range(width * idx, width * (idx + 1)) if at in below]
                if value is None:
                    problems.append(Problem(_node(level, idx), "missing"))
                elif len(under) == width and tree_root(under) != value:
                    problems.append(Problem(_node(level, idx), f"is not the hash of the {width} below it"))
            yield len(places), problems
    at = tables.node.c
    for level, last in connection.execute(select(at.level, func.max(at.idx)).group_by(at.level).order_by(at.level)):
        if last >= size >> level:
            yield 0, [Problem(_node(level, last), f"beyond the head of size {size}")]


def _check_heads(connection: Connection, stored: _StoredHashes) -> Iterator[Checked]:
    for page in _pages(connection, tables.head, tables.head.c.size):
        # Where a row is missing, the checks above have said so.
        roots = [(size, root, stored.root(size)) for size, root in page]
        yield (
            len(page),
            [
                Problem(f"head {size}", "the stored subtrees have another root")
                for size, root, found in roots
                if found is not None and found != root
            ],
        )


def _check_checkpoints(
    connection: Connection, stored: _StoredHashes, size: int, verify_note: VerifyNote | None
) -> Iterator[Checked]:
    for page in _pages(connection, tables.checkpoint, tables.checkpoint.c.size):
        for signed, root, note in page:
            place = f"checkpoint {signed}"
            problems = []
            found = stored.root(signed) if signed <= size else None
            if signed > size:
                problems.append(Problem(place, f"beyond the head of size {size}"))
            elif found is not None and found != root:
                problems.append(Problem(place, "the log's first leaves have another root than was signed"))
            if verify_note is not None:
                problems += _check_note(place, note, TreeHead(signed, root), verify_note)
            yield 1, problems


def _check_cosignatures(connection: Connection, verify_note: VerifyNote | None) -> Iterator[Checked]:
    """Each line under the note that it was given for. `verify_note` says whose lines it knows."""
    signed, line = tables.checkpoint.c, tables.cosignature.c
    query = (
        select(line.size, line.witness, line.line, signed.note, signed.root)
        .outerjoin_from(tables.cosignature, tables.checkpoint, signed.size == line.size)
        .order_by(line.size, line.witness)
    )
    for row in connection.execute(query):
        place = f"cosignature {row.size} by {row.witness}"
        if row.note is None:
            yield 1, [Problem(place, "there is no checkpoint of that size")]
            continue
        if verify_note is None:
            yield 1, []
        else:
            yield 1, _check_note(place, row.note + row.line, TreeHead(row.size, row.root), verify_note)


def _check_note(place: str, note: str, stored: TreeHead, verify_note: VerifyNote) -> list[Problem]:
    try:
        signed = verify_note(note)
    except Exception as error:  # noqa: BLE001 whatever the verifier raises, the note does not verify
        return [Problem(place, f"the note does not verify: {error}")]
    return [] if signed == stored else [Problem(place, "the note signs another size or root")]


def _pages(connection: Connection, table: Table, key: Column[int]) -> Iterator[Sequence[Any]]:
    """All rows by their key, which is their first column, a page at a time."""
    last = -1
    while page := connection.execute(select(table).where(key > last).order_by(key).limit(_PAGE)).all():
        yield page
        last = page[-1][0]


def _node(level: int, idx: int) -> str:
    return f"node {level}/{idx}"
