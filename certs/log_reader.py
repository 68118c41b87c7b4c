"""Reads a log from its static files (C2SP tlog-tiles) and believes none of them before it leads to a verified root.

It knows neither where the files come from nor who signed the checkpoint: it is given `fetch`, and a checkpoint that the
caller has verified. Whatever it returns is what the checkpoint's root commits to; a server that lies is found out.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Never

from certs.checkpoint import Checkpoint
from certs.errors import CertificateError, Code
from certs.merkle import EMPTY_ROOT, leaf_hash, node_hash
from certs.tiles import TILE_HEIGHT, TILE_WIDTH, EntryBundle, Tile, partial_tiles

Fetch = Callable[[str], bytes | None]
"""The file at a path below the log's prefix, such as ``tile/0/000``; None when the log does not have it."""

_CACHED_TILES = 64


class LogReader:
    """The tree of one checkpoint.

    Memory is bounded, whatever the size. A full tile or bundle is taken where a partial one is gone: logs may delete
    those once the full one is there.

    Args:
        fetch: gets one file; what it raises passes through.
        checkpoint: **verified** by the caller.

    Raises:
        CertificateError: ``tile-missing``, ``tile-malformed``, or ``tile-mismatch`` where a file does not lead to the
            root; so does every method.
    """

    def __init__(self, fetch: Fetch, checkpoint: Checkpoint) -> None:
        self._fetch = fetch
        self.size = checkpoint.size
        # All full tiles hang on hashes of others; the partial ones are what the root itself is made of.
        self._edge = {tile.level: self._get(tile) for tile in partial_tiles(self.size)}
        self._full = lru_cache(maxsize=_CACHED_TILES)(self._read_full)
        if self._range_root(0, self.size) != checkpoint.root:
            _refuse(Code.TILE_MISMATCH, f"The log's tiles of size {self.size} have another root than its checkpoint.")

    def leaf_hashes(self, low: int, high: int) -> Iterator[bytes]:
        """The leaf hashes of the entries from `low` up to `high`, without it."""
        self._require_range(low, high)
        for index in _files(low, high):
            first = index * TILE_WIDTH
            yield from self._tile(0, index)[max(low - first, 0) : high - first]

    def entries(self, low: int, high: int) -> Iterator[bytes]:
        """The entries from `low` up to `high`, without it, each held against its leaf hash."""
        self._require_range(low, high)
        for index in _files(low, high):
            first, expected = index * TILE_WIDTH, self._tile(0, index)
            bundle = EntryBundle(index, len(expected))
            entries = self._get(bundle)
            if [leaf_hash(entry) for entry in entries] != expected:
                _refuse(Code.TILE_MISMATCH, f"{bundle.path} does not hold the entries whose hashes are in the tree.")
            yield from entries[max(low - first, 0) : high - first]

    def root_at(self, size: int) -> bytes:
        """The root of the first `size` leaves."""
        self._require_range(0, size)
        return self._range_root(0, size)

    def inclusion_proof(self, index: int, size: int) -> list[bytes]:
        """The audit path of a leaf in the tree of `size` leaves, its sibling first (RFC 6962 section 2.1.1)."""
        self._require_range(0, size)
        if not 0 <= index < size:
            _refuse(Code.INCLUSION_INVALID, f"Leaf {index} is not in a tree of {size} leaves.")
        return self._path(index, 0, size)

    def consistency_proof(self, old: int, new: int) -> list[bytes]:
        """That the tree of `old` leaves is a prefix of that of `new` (RFC 6962 section 2.1.2); empty from size 0."""
        self._require_range(0, new)
        self._require_range(old, new)
        return self._subproof(old, 0, new, known=True) if old else []

    def _path(self, index: int, low: int, high: int) -> list[bytes]:
        """PATH of RFC 6962 section 2.1.1, of the leaves from `low` up to `high`."""
        if high - low == 1:
            return []
        middle = low + _split(high - low)
        if index < middle:
            return [*self._path(index, low, middle), self._range_root(middle, high)]
        return [*self._path(index, middle, high), self._range_root(low, middle)]

    def _subproof(self, old: int, low: int, high: int, *, known: bool) -> list[bytes]:
        """SUBPROOF of RFC 6962 section 2.1.2; `known` when the old root is the verifier's already."""
        if old == high:
            return [] if known else [self._range_root(low, high)]
        middle = low + _split(high - low)
        if old <= middle:
            return [*self._subproof(old, low, middle, known=known), self._range_root(middle, high)]
        return [*self._subproof(old, middle, high, known=False), self._range_root(low, middle)]

    def _range_root(self, low: int, high: int) -> bytes:
        """MTH of RFC 6962 section 2.1, of leaves from a `low` at which the tree splits up to `high`."""
        count = high - low
        if count == 0:
            return EMPTY_ROOT
        if count & (count - 1) == 0:
            level, above = divmod(count.bit_length() - 1, TILE_HEIGHT)
            first = low >> (TILE_HEIGHT * level)
            hashes = self._tile(level, first // TILE_WIDTH)
            return _perfect_root(hashes[first % TILE_WIDTH : first % TILE_WIDTH + (1 << above)])
        middle = low + _split(count)
        return node_hash(self._range_root(low, middle), self._range_root(middle, high))

    def _hash(self, level: int, index: int) -> bytes:
        return self._tile(level, index // TILE_WIDTH)[index % TILE_WIDTH]

    def _tile(self, level: int, index: int) -> list[bytes]:
        """A tile's hashes, all of them proven."""
        is_last = index == self.size >> (TILE_HEIGHT * (level + 1))
        return self._edge[level] if is_last else self._full(level, index)

    def _read_full(self, level: int, index: int) -> list[bytes]:
        tile = Tile(level, index)
        expected = self._hash(level + 1, index)
        hashes = self._get(tile)
        if _perfect_root(hashes) != expected:
            _refuse(Code.TILE_MISMATCH, f"{tile.path} does not hash to what the level above has for it.")
        return hashes

    def _get(self, wanted: Tile | EntryBundle) -> list[bytes]:
        """What is in a file, unproven."""
        found, data = wanted, self._fetch(wanted.path)
        if data is None and wanted.width < TILE_WIDTH:
            found, data = wanted.full, self._fetch(wanted.full.path)
        if data is None:
            _refuse(Code.TILE_MISSING, f"The log does not have {wanted.path}, which its size {self.size} calls for.")
        return found.parse(data)[: wanted.width]

    def _require_range(self, low: int, high: int) -> None:
        if not 0 <= low <= high <= self.size:
            _refuse(Code.TILE_MISSING, f"A log of {self.size} entries has none from {low} up to {high}.")


def _files(low: int, high: int) -> range:
    """The indices of the tiles at level 0, or bundles, that have the leaves from `low` up to `high`."""
    return range(low // TILE_WIDTH, -(-high // TILE_WIDTH)) if low < high else range(0)


def _perfect_root(hashes: list[bytes]) -> bytes:
    """The root over 2^k hashes."""
    while len(hashes) > 1:
        hashes = [node_hash(left, right) for left, right in zip(hashes[::2], hashes[1::2], strict=True)]
    return hashes[0]


def _split(count: int) -> int:
    """The largest power of two below `count`."""
    return 1 << ((count - 1).bit_length() - 1)


def _refuse(code: Code, message: str) -> Never:
    raise CertificateError(code, message, remedy="read the log again, or another copy of it; keep its checkpoint")
