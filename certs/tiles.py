"""The static files of a transparency log (C2SP tlog-tiles): which there are, how they are named, what is in them.

Pure: names and bytes, no I/O. It knows no signature, and checks no hash: that is `certs.log_reader`'s work. A *tile*
is up to 256 consecutive hashes at a height of the tree that is a multiple of 8; an *entry bundle* is up to 256 entries.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Never

from certs.errors import CertificateError, Code
from certs.merkle import HASH_BYTES

TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
MAX_ENTRY_BYTES = (1 << 16) - 1
"""What the length before an entry can say."""

_LENGTH_BYTES = 2
_PATH = re.compile(r"tile/(entries|[0-9]{1,2})/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([0-9]{1,3}))?")


@dataclass(frozen=True)
class Tile:
    """Hashes of the tree: ``MTH(D[(256 index + i) 256^level : (256 index + i + 1) 256^level])`` for i below `width`.

    Attributes:
        level: 0 for leaf hashes; a hash at level l covers 256^l leaves.
        index: the tile's place in its level, from 0.
        width: how many hashes it has, 1 to 256; below 256 it is *partial*.
    """

    level: int
    index: int
    width: int = TILE_WIDTH

    @property
    def path(self) -> str:
        """Its name below the log's prefix."""
        return f"tile/{self.level}/{_place(self.index, self.width)}"

    @property
    def max_bytes(self) -> int:
        """How large its file is."""
        return self.width * HASH_BYTES

    @property
    def full(self) -> "Tile":
        """The tile that replaces it once the log is large enough."""
        return Tile(self.level, self.index)

    def parse(self, data: bytes) -> list[bytes]:
        """The hashes in a tile's file, unchecked.

        Raises:
            CertificateError: ``tile-malformed``.
        """
        if len(data) != self.width * HASH_BYTES:
            _refuse(f"{self.path} has {len(data)} bytes, not {self.width * HASH_BYTES}.")
        return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


@dataclass(frozen=True)
class EntryBundle:
    """The entries whose leaf hashes are the tile of the same index and width at level 0."""

    index: int
    width: int = TILE_WIDTH

    @property
    def path(self) -> str:
        """Its name below the log's prefix."""
        return f"tile/entries/{_place(self.index, self.width)}"

    @property
    def max_bytes(self) -> int:
        """How large its file can be."""
        return self.width * (_LENGTH_BYTES + MAX_ENTRY_BYTES)

    @property
    def full(self) -> "EntryBundle":
        """The bundle that replaces it once the log is large enough."""
        return EntryBundle(self.index)

    def parse(self, data: bytes) -> list[bytes]:
        """The entries in a bundle's file, unchecked.

        Raises:
            CertificateError: ``tile-malformed``: it ends within an entry, or has more or fewer than `width`.
        """
        entries, at = [], 0
        while at < len(data):
            start = at + _LENGTH_BYTES
            at = start + int.from_bytes(data[at:start], "big")
            entries.append(data[start:at])
        if at != len(data) or len(entries) != self.width:
            _refuse(f"{self.path} is not a sequence of {self.width} entries with their lengths.")
        return entries


def encode_entries(entries: Sequence[bytes]) -> bytes:
    """A bundle's file: each entry after its length as a big-endian uint16.

    Raises:
        ValueError: an entry is longer than `MAX_ENTRY_BYTES`.
    """
    for entry in entries:
        if len(entry) > MAX_ENTRY_BYTES:
            raise ValueError(f"an entry of {len(entry)} bytes; a bundle holds at most {MAX_ENTRY_BYTES}")
    return b"".join(len(entry).to_bytes(_LENGTH_BYTES, "big") + entry for entry in entries)


def parse_path(path: str) -> Tile | EntryBundle:
    """The inverse of `path`, for its outputs only: one name for each file.

    Raises:
        CertificateError: ``tile-malformed``.
    """
    match = _PATH.fullmatch(path)
    if not match:
        _refuse_path(path)
    kind, digits, partial = match.groups()
    index = int(digits.replace("/", "").replace("x", ""))
    width = int(partial) if partial else TILE_WIDTH
    found = EntryBundle(index, width) if kind == "entries" else Tile(int(kind), index, width)
    if found.path != path or not 1 <= width <= TILE_WIDTH or (isinstance(found, Tile) and found.level > 63):
        _refuse_path(path)
    return found


def new_tiles(old: int, size: int) -> Iterator[Tile]:
    """The tiles of the tree of `size` leaves that the tree of `old` leaves has not: level by level, from left to right.

    With ``old = 0``, all tiles of the tree. Entry bundles are to be had like the tiles of level 0.
    """
    level = 0
    while (now := size >> (TILE_HEIGHT * level)) > (before := old >> (TILE_HEIGHT * level)):
        for index in range(before // TILE_WIDTH, now // TILE_WIDTH):
            yield Tile(level, index)
        if now % TILE_WIDTH:
            yield Tile(level, now // TILE_WIDTH, now % TILE_WIDTH)
        level += 1


def partial_tiles(size: int) -> Iterator[Tile]:
    """The right edge of the tree of `size` leaves: at most one tile a level, and together they give the root."""
    level = 0
    while now := size >> (TILE_HEIGHT * level):
        if now % TILE_WIDTH:
            yield Tile(level, now // TILE_WIDTH, now % TILE_WIDTH)
        level += 1


def _place(index: int, width: int) -> str:
    """``x001/x234/067`` for 1234067; ``.p/5`` behind it when the width is 5."""
    digits = str(index)
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    path = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
    return path if width == TILE_WIDTH else f"{path}.p/{width}"


def _refuse_path(path: str) -> Never:
    _refuse(f"{path[:80]!r} is not the name of a tile or of an entry bundle.")


def _refuse(message: str) -> Never:
    raise CertificateError(
        Code.TILE_MALFORMED, message, remedy="ask the log, or another copy of it, for the file again"
    )
