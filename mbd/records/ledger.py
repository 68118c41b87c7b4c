"""The transparency log in SQL: append, head, proofs and checkpoints (RFC 6962 over SQLite or PostgreSQL).

It knows neither what a leaf says nor how a checkpoint is signed. Writers pass a connection from
`database.begin_locked`, and their own rows commit or vanish together with the leaf; readers pass any connection.
Rows are never rewritten, so all that was once read of a size below the head stays true.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

from sqlalchemy import Connection, insert, select

from mbd.errors import LedgerError
from mbd.hashing import leaf_hash
from mbd.records import rows, tables
from mbd.records.database import is_locked
from mbd.records.tree import Frontier, Place, Range, consistency_ranges, inclusion_ranges, subtrees

MAX_LEAF_BYTES = (1 << 16) - 1
"""What the length before an entry can say in the files that others read (C2SP tlog-tiles)."""


@dataclass(frozen=True)
class TreeHead:
    """A tree: how many leaves, and their root (32 bytes)."""

    size: int
    root: bytes


class Appended(NamedTuple):  # a batch makes thousands, and a frozen dataclass takes twice as long
    """A leaf's place, and the tree after the append that brought it."""

    leaf_index: int
    leaf_hash: bytes
    head: TreeHead


@dataclass(frozen=True)
class Checkpoint:
    """A head that was signed: `note` is the signed note (C2SP signed-note), which the ledger does not read."""

    head: TreeHead
    note: str


_left_edges: dict[TreeHead, Frontier] = {}
"""The right edge that this process's last append left, under the head that it folds to.

A root has one edge (another one would be a collision of SHA-256), so this is true of any log whose head it is: after
a rollback, a restored backup or another process's append the head is another one, and the edge is read.
"""


def append(connection: Connection, body: bytes) -> Appended:
    """Append one leaf. See `append_many`."""
    return append_many(connection, [body])[0]


def append_many(connection: Connection, bodies: Iterable[bytes]) -> list[Appended]:
    """Append leaves in order, as one step from one head to the next.

    Once the caller's transaction has committed, the leaves are durable, and every later head extends this one. If it
    rolls back or the process dies, nothing was appended and no index is lost. Appending nothing changes nothing.

    Raises:
        LedgerError: the connection does not hold the lock, or a leaf is longer than `MAX_LEAF_BYTES`.
    """
    _require_lock(connection)
    bodies = list(bodies)
    if not bodies:
        return []
    longest = max(map(len, bodies))
    if longest > MAX_LEAF_BYTES:
        raise LedgerError(
            f"A leaf of {longest} bytes could never be published; the most is {MAX_LEAF_BYTES}.",
            remedy="log the digest of what is so long",
        )
    hashes = [leaf_hash(body) for body in bodies]
    appended = _extend(connection, _remembered(connection), bodies, hashes)
    if not appended:
        appended = _extend(connection, _frontier(connection), bodies, hashes)
    assert appended, "the lock is held: nobody can have changed the head since it was read"
    return appended


def _extend(
    connection: Connection, frontier: Frontier | None, bodies: Sequence[bytes], hashes: Sequence[bytes]
) -> list[Appended]:
    """Append under a right edge; nothing when it is not that of the tree now, or when there is none."""
    if frontier is None:
        return []
    before = TreeHead(frontier.size, frontier.root())
    frontier, nodes = frontier.extend(hashes)
    after = TreeHead(frontier.size, frontier.root())
    leaves = list(zip(count(before.size), bodies, hashes))
    if not rows.write(connection, (before.size, before.root), leaves, nodes, after.root):
        return []
    _left_edges.clear()
    _left_edges[after] = frontier
    return [Appended(index, value, after) for index, value in enumerate(hashes, start=before.size)]


def _remembered(connection: Connection) -> Frontier | None:
    """The edge that this process left, where the write itself finds out whether it is still the tree's: PostgreSQL."""
    if connection.dialect.name != "postgresql":
        return None
    return next(iter(_left_edges.values()), None)


def head(connection: Connection) -> TreeHead:
    """The tree now. Size and root come from one row, so they always belong together.

    Raises:
        LedgerError: there is none, not even the empty tree that the log began with.
    """
    now = rows.head(connection)
    if now is None:
        raise _headless()
    return TreeHead(*now)


def leaf(connection: Connection, index: int) -> bytes:
    """The exact bytes that were appended.

    Raises:
        LedgerError: there is no such leaf.
    """
    body = connection.scalar(select(tables.leaf.c.body).where(tables.leaf.c.idx == index))
    if body is None:
        raise LedgerError(f"The log has no leaf {index}.", remedy="ask for an index below the size of the log's head")
    return bytes(body)


def leaves(connection: Connection, low: int, high: int) -> list[bytes]:
    """The exact bytes of the leaves from `low` up to `high`, without it.

    Raises:
        LedgerError: one is missing.
    """
    at = tables.leaf.c
    bodies = connection.scalars(select(at.body).where(at.idx >= low, at.idx < high).order_by(at.idx))
    return _all_of([bytes(body) for body in bodies], 0, low, high)


def subtree_hashes(connection: Connection, level: int, low: int, high: int) -> list[bytes]:
    """The stored roots of the subtrees of 2^level leaves each, from the one at `low` up to that at `high`, without it.

    Raises:
        LedgerError: one is missing, or not complete yet.
    """
    if level == 0:
        at, query = tables.leaf.c.idx, select(tables.leaf.c.hash)
    else:
        at, query = tables.node.c.idx, select(tables.node.c.hash).where(tables.node.c.level == level)
    hashes = connection.scalars(query.where(at >= low, at < high).order_by(at))
    return _all_of([bytes(value) for value in hashes], level, low, high)


def root_at(connection: Connection, size: int) -> bytes:
    """The root of the first `size` leaves, computed from the stored subtrees.

    Raises:
        LedgerError: the log is not that large.
    """
    return _roots(connection, size, [(0, size)])[0]


def inclusion_proof(connection: Connection, index: int, size: int) -> list[bytes]:
    """The audit path of a leaf in the tree of `size` leaves, nearest first: O(log n) reads (RFC 6962 section 2.1.1).

    Raises:
        LedgerError: the log is not that large, or the leaf is not in that tree.
    """
    if not 0 <= index < size:
        raise LedgerError(f"Leaf {index} is not in a tree of {size} leaves.", remedy="ask for an index below the size")
    return _roots(connection, size, inclusion_ranges(index, size))


def consistency_proof(connection: Connection, old: int, new: int) -> list[bytes]:
    """That the first `old` leaves of the tree of `new` are the old tree: O(log n) reads (RFC 6962 section 2.1.2).

    Empty for an empty old tree, which everything extends, and between a tree and itself.

    Raises:
        LedgerError: the log is not that large, or the sizes are the wrong way round.
    """
    if not 0 <= old <= new:
        raise LedgerError(f"A tree of {new} leaves does not extend one of {old}.", remedy="give the smaller size first")
    return _roots(connection, new, consistency_ranges(old, new) if old else [])


def store_checkpoint(connection: Connection, checkpoint: Checkpoint) -> Checkpoint:
    """Keep a signed head, and return the one that is kept for its size.

    Read the head, sign and store under one lock: then no other process can sign past it. Storing the same size and
    root again keeps the first note, so that a retried step gets what it had.

    Raises:
        LedgerError: the connection does not hold the lock, the log never had a head of this size and root, or the
            size is below the last signed one.
    """
    _require_lock(connection)
    signed = checkpoint.head
    stored = _checkpoint(connection, signed.size)
    if stored is not None and stored.head == signed:
        return stored
    committed = connection.scalar(select(tables.head.c.root).where(tables.head.c.size == signed.size))
    if committed != signed.root:
        raise LedgerError(
            f"The checkpoint of size {signed.size} has a root that the log never had.",
            remedy="do not publish it: run mbd ledger fsck, and look for a restored backup or a second log",
        )
    last = latest_checkpoint(connection)
    if last is not None and signed.size < last.head.size:
        raise LedgerError(
            f"A checkpoint of size {last.head.size} was already signed, so size {signed.size} comes too late.",
            remedy="sign the log's head while holding the lock",
        )
    connection.execute(insert(tables.checkpoint).values(size=signed.size, root=signed.root, note=checkpoint.note))
    return checkpoint


def latest_checkpoint(connection: Connection) -> Checkpoint | None:
    """The largest signed head, or None while nothing was signed."""
    query = select(tables.checkpoint).order_by(tables.checkpoint.c.size.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else Checkpoint(TreeHead(row.size, row.root), row.note)


def signed_sizes(connection: Connection, low: int, high: int) -> Sequence[int]:
    """The sizes above `low` and up to `high`, with it, of which checkpoints were signed, in order."""
    at = tables.checkpoint.c.size
    return connection.scalars(select(at).where(at > low, at <= high).order_by(at)).all()


def check_not_behind(connection: Connection, remembered: TreeHead) -> None:
    """Hold the log against a head remembered outside the database and its backups; do it before signing anything.

    Raises:
        LedgerError: the log is behind that head (a backup was restored), or does not contain it (it has forked).
    """
    size = head(connection).size
    if size < remembered.size:
        raise LedgerError(
            f"The log has {size} leaves, but {remembered.size} were published: an old copy has been restored.",
            remedy="see what is missing, and how to go on: mbd ledger restore-check",
        )
    if root_at(connection, remembered.size) != remembered.root:
        raise LedgerError(
            f"The log's first {remembered.size} leaves are not those that were published: it has forked.",
            remedy="sign nothing; restore the log whose checkpoint was published, or retire this log's origin",
        )


def _require_lock(connection: Connection) -> None:
    if not is_locked(connection):
        raise LedgerError(
            "Without the lock another process could grow or sign the log at the same time.",
            remedy="open the transaction with begin_locked",
        )


def _headless() -> LedgerError:
    return LedgerError("The log has no head: its rows were removed.", remedy="restore the database")


def _checkpoint(connection: Connection, size: int) -> Checkpoint | None:
    row = connection.execute(select(tables.checkpoint).where(tables.checkpoint.c.size == size)).one_or_none()
    return None if row is None else Checkpoint(TreeHead(row.size, row.root), row.note)


def _roots(connection: Connection, size: int, ranges: Sequence[Range]) -> list[bytes]:
    """The root of each range in the tree of `size` leaves."""
    places = [subtrees(leaves) for leaves in ranges]
    stored = _read(connection, size, [place for group in places for place in group])
    return [
        Frontier.of(high - low, [stored[place] for place in group]).root()
        for (low, high), group in zip(ranges, places, strict=True)
    ]


def _read(connection: Connection, size: int, places: Sequence[Place]) -> dict[Place, bytes]:
    """The stored hashes of places in the tree of `size` leaves, from one look.

    Raises:
        LedgerError: the log is not that large, or one is missing.
    """
    current, found = rows.read(connection, places)
    if current is None:
        raise _headless()
    if not 0 <= size <= current:
        raise LedgerError(
            f"The log has {current} leaves, not {size}.", remedy="ask for a size that the log has reached"
        )
    for level, idx in places:
        if (level, idx) not in found:
            raise LedgerError(
                f"The log has lost the subtree at level {level}, index {idx}.",
                remedy="run mbd ledger fsck; do not sign until the log is whole",
            )
    return found


def _all_of(found: list[bytes], level: int, low: int, high: int) -> list[bytes]:
    if len(found) != high - low:
        raise LedgerError(
            f"The log has {len(found)} of the {high - low} subtrees at level {level} from index {low} on.",
            remedy="run mbd ledger fsck; do not sign until the log is whole",
        )
    return found


def _frontier(connection: Connection) -> Frontier:
    """The tree's right edge now.

    Raises:
        LedgerError: there is no head, or a subtree is missing.
    """
    now = head(connection)
    known = _left_edges.get(now)
    if known is None:
        places = subtrees((0, now.size))
        stored = _read(connection, now.size, places)
        known = Frontier.of(now.size, [stored[place] for place in places])
    return known
