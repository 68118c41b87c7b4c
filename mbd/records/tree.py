"""The shape of the ledger's Merkle tree (RFC 6962): which stored subtrees make a root, a proof or an append.

Pure arithmetic on places `(level, idx)`, where a place covers the leaves ``[idx * 2^level, (idx + 1) * 2^level)``. It
knows no SQL. A *range* ``[low, high)`` of leaves is what one element of a proof stands for; all ranges met here start
at a multiple of a power of two at least as large as they are, so that each is a tree of its own.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
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


LOWEST = 3
"""The level of the smallest subtrees that are stored, of 8 leaves each.

Smaller ones are folded from the leaves: a proof reads a few leaves more, which stand side by side, and appends write a
subtree for every fourth leaf, instead of for every leaf.
"""


def subtrees(leaves: Range) -> list[Place]:
    """What is stored of a range, from left to right: perfect subtrees, then the last few leaves."""
    low, high = leaves
    end = high - (high - low) % (1 << LOWEST)
    places = []
    while low < end:
        level = (end - low).bit_length() - 1
        places.append((level, low >> level))
        low += 1 << level
    return places + [(0, leaf) for leaf in range(end, high)]


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


@dataclass(frozen=True)
class Frontier:
    """The right edge of a tree, or of a range: all that its root, and whatever is appended, needs to know of it."""

    size: int
    """Leaves so far."""

    hashes: tuple[bytes, ...] = ()
    """Of the perfect subtrees that are as large as they can be, from left to right: one for each bit of the size."""

    @classmethod
    def of(cls, size: int, stored: Sequence[bytes]) -> "Frontier":
        """The right edge of a range of `size` leaves, from the hashes of its `subtrees`."""
        few = size % (1 << LOWEST)
        if not few:
            return cls(size, tuple(stored))
        return cls(size - few, tuple(stored[:-few])).extend(stored[-few:])[0]

    def extend(self, leaves: Sequence[bytes]) -> "tuple[Frontier, list[Node]]":
        """The right edge after more leaves, given by their hashes, and the subtrees to store that they complete.

        Level by level and not leaf by leaf: a level is one run of rows in the database, and one loop in Python.
        """
        waiting = list(self.hashes)
        edge: list[bytes] = []
        completed: list[Node] = []
        level, first, row = 0, self.size, list(leaves)
        while row:
            if first & 1:  # the last subtree of this level has waited for its right neighbour
                first -= 1
                row.insert(0, waiting.pop())
            if len(row) & 1:
                edge.append(row.pop())
            pairs = iter(row)
            row = [node_hash(left, right) for left, right in zip(pairs, pairs, strict=True)]
            level, first = level + 1, first >> 1
            if level >= LOWEST:
                completed += zip(repeat(level), count(first), row)
        return Frontier(self.size + len(leaves), (*waiting, *reversed(edge))), completed

    def root(self) -> bytes:
        """The root (RFC 6962 section 2.1)."""
        if not self.hashes:
            return EMPTY_ROOT
        root = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            root = node_hash(left, root)
        return root


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)
