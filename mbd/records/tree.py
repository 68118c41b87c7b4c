"""The shape of the ledger's Merkle tree (RFC 6962): which stored subtrees make a root, a proof or an append.

Pure arithmetic on places `(level, idx)`, where a place covers the leaves ``[idx * 2^level, (idx + 1) * 2^level)``. It
knows no SQL. A *range* ``[low, high)`` of leaves is what one element of a proof stands for; all ranges met here start
at a multiple of a power of two at least as large as they are, so that they fall into perfect subtrees.
"""

import hashlib
from collections.abc import Sequence
from itertools import count, repeat

from mbd.hashing import node_hash

Place = tuple[int, int]
"""``(level, idx)``; level 0 is a leaf."""

Node = tuple[int, int, bytes]
"""``(level, idx, hash)``: a place with its hash."""

Range = tuple[int, int]
"""``[low, high)`` of leaves."""

EMPTY_ROOT = hashlib.sha256(b"").digest()
"""The root of a tree without leaves (RFC 6962 section 2.1)."""


def subtrees(leaves: Range) -> list[Place]:
    """The perfect subtrees that cover a range, from left to right; none for an empty one."""
    low, high = leaves
    places = []
    while low < high:
        level = (high - low).bit_length() - 1
        places.append((level, low >> level))
        low += 1 << level
    return places


def fold(hashes: Sequence[bytes]) -> bytes:
    """The root over `subtrees`' hashes, from left to right (RFC 6962 section 2.1)."""
    if not hashes:
        return EMPTY_ROOT
    root = hashes[-1]
    for left in reversed(hashes[:-1]):
        root = node_hash(left, root)
    return root


def inclusion_ranges(index: int, size: int) -> list[Range]:
    """The ranges whose roots are the audit path of a leaf, nearest first (RFC 6962 section 2.1.1)."""
    low, high = 0, size
    ranges = []
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            ranges.append((middle, high))
            high = middle
        else:
            ranges.append((low, middle))
            low = middle
    return ranges[::-1]


def consistency_ranges(old: int, new: int) -> list[Range]:
    """The ranges whose roots prove that `new` leaves extend `old` ones, for 0 < old <= new (RFC 6962 section 2.1.2)."""
    low, high = 0, new
    ranges = []
    while old < high:
        middle = low + _split(high - low)
        if old <= middle:
            ranges.append((middle, high))
            high = middle
        else:
            ranges.append((low, middle))
            low = middle
    # From the left edge, that last range is the old tree itself, whose root the verifier already holds.
    if low > 0:
        ranges.append((low, high))
    return ranges[::-1]


class Frontier:
    """The right edge of a growing tree: what an append needs to know of all that came before.

    Args:
        size: leaves so far.
        hashes: the hashes of ``subtrees((0, size))``.
    """

    def __init__(self, size: int, hashes: Sequence[bytes]) -> None:
        self.size = size
        # Of each level the last subtree that still waits for its right neighbour, the largest first.
        self._waiting = {level: value for (level, _), value in zip(subtrees((0, size)), hashes, strict=True)}

    def extend(self, leaves: Sequence[bytes]) -> list[Node]:
        """Add leaves by their hashes; returns the perfect subtrees (level 1 and up) that they complete, level by level.

        Level by level and not leaf by leaf: a level is one run of rows in the database, and one loop in Python.
        """
        completed: list[Node] = []
        level, first, row = 0, self.size, list(leaves)
        self.size += len(row)
        while row:
            if first & 1:
                first -= 1
                row.insert(0, self._waiting.pop(level))
            if len(row) & 1:
                self._waiting[level] = row.pop()
            pairs = iter(row)
            row = [node_hash(left, right) for left, right in zip(pairs, pairs, strict=True)]
            level, first = level + 1, first >> 1
            completed += zip(repeat(level), count(first), row)
        return completed

    def root(self) -> bytes:
        """The tree's root now."""
        return fold(self.hashes())

    def hashes(self) -> list[bytes]:
        """The hashes of ``subtrees((0, size))`` now."""
        return [self._waiting[level] for level in sorted(self._waiting, reverse=True)]


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)
