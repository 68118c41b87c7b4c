"""The shape of the ledger's Merkle tree (RFC 6962): which stored subtrees make a root, a proof or an append.

Pure arithmetic on places `(level, idx)`, where a place covers the leaves ``[idx * 2^level, (idx + 1) * 2^level)``. It
knows no SQL. A *range* ``[low, high)`` of leaves is what one element of a proof stands for; all ranges met here start
at a multiple of a power of two at least as large as they are, so that they fall into perfect subtrees.
"""

import hashlib
from collections.abc import Sequence

from mbd.hashing import node_hash

Place = tuple[int, int]
"""``(level, idx)``; level 0 is a leaf."""

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
        self._hashes = list(hashes)

    def push(self, leaf: bytes) -> list[tuple[Place, bytes]]:
        """Add a leaf's hash; returns the perfect subtrees (level 1 and up) that it completes."""
        self._hashes.append(leaf)
        completed = []
        level, idx = 0, self.size
        while idx & 1:
            right = self._hashes.pop()
            self._hashes.append(node_hash(self._hashes.pop(), right))
            level, idx = level + 1, idx >> 1
            completed.append(((level, idx), self._hashes[-1]))
        self.size += 1
        return completed

    def root(self) -> bytes:
        """The tree's root now."""
        return fold(self._hashes)


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)
