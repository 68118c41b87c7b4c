"""Writes the log's public copy: checkpoint, tiles and entry bundles (C2SP tlog-tiles), for any server of static files.

The folder is a function of the database, byte for byte: it can be removed and made anew. It holds all full files, and
the partial ones of every size of which a checkpoint was signed, until the full one is there. It knows no private key.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Engine

from certs import checkpoint as checkpoints
from certs.errors import CertificateError
from certs.log_reader import LogReader
from certs.merkle import EMPTY_ROOT
from certs.tiles import TILE_HEIGHT, TILE_WIDTH, EntryBundle, Tile, encode_entries, new_tiles, partial_tiles
from mbd.durable import locked, sync, write_durably
from mbd.errors import LedgerError
from mbd.records import cosignatures, ledger
from mbd.records.database import begin_snapshot
from mbd.records.ledger import Checkpoint, TreeHead
from mbd.workflow.log_source import CHECKPOINT, FolderSource

ReadNote = Callable[[str], TreeHead]
"""The head that a signed note of this log signs; raises CertificateError for any other note."""

Progress = Callable[[int, int], None]
"""Called with (tiles written or compared, tiles in all)."""


@dataclass(frozen=True)
class Published:
    """What a folder holds now.

    Attributes:
        head: of its checkpoint.
        written: how many of its tiles and bundles were not there before.
    """

    head: TreeHead
    written: int


def log_folder(home: Path) -> Path:
    """Where a deployment publishes its log."""
    return home / "published" / "log"


def publish(
    engine: Engine, folder: Path, *, read_note: ReadNote, check_all: bool = False, progress: Progress | None = None
) -> Published:
    """Bring a folder to the last signed checkpoint. It costs what is new, unless `check_all` compares every file.

    Crash points: a file is whole or not there. The checkpoint is written last, once all that it calls for is on disk
    and has been read back; until then the old one stands, with all that it calls for: a partial file is removed only
    when its full one is on disk. Killed anywhere, the next call does what is missing. One process at a time works.

    Args:
        engine: the database.
        folder: made if need be.
        read_note: verifies checkpoints.
        check_all: write or compare every file, and not only what is new since the folder's checkpoint.
        progress: told how far it has come.

    Raises:
        LedgerError: nothing was signed yet; the folder's checkpoint or a file in it contradicts the database, so that
            one of the two is a fork or an old copy; or the database contradicts itself.
    """
    _make_folder(folder)
    lock = folder.with_name(f".{folder.name}.lock")  # beside the folder: what is in it is served
    with locked(lock), begin_snapshot(engine) as connection:
        # Read under the lock: an older checkpoint must never replace a newer one.
        latest = ledger.latest_checkpoint(connection)
        if latest is None:
            raise LedgerError("The log has no signed checkpoint yet.", remedy="run mbd ledger checkpoint")
        before = _published_head(folder, read_note)
        _refuse_older(connection, latest, before)
        said = cosignatures.cosignatures(connection, latest.head.size)
        target, note = folder / CHECKPOINT, (latest.note + "".join(said.values())).encode()
        if check_all:
            _remove_waste(folder)
        elif before == latest.head and target.exists() and target.read_bytes() == note:
            return Published(latest.head, 0)
        done = 0 if check_all else before.size
        wanted = _wanted(connection, done, latest.head.size)
        written = 0
        for number, tile in enumerate(wanted, start=1):
            written += _write_tile(connection, folder, tile)
            if progress is not None:
                progress(number, len(wanted))
        _read_back(folder, latest, before, done, read_note)
        for tile in new_tiles(done, latest.head.size):
            _remove_partial(folder, tile)
        write_durably(target, note)
    return Published(latest.head, written)


def _published_head(folder: Path, read_note: ReadNote) -> TreeHead:
    """What the folder's checkpoint signs; the empty tree, which every log extends, where there is none."""
    path = folder / CHECKPOINT
    if not path.exists():
        return TreeHead(0, EMPTY_ROOT)
    try:
        return read_note(path.read_text("utf-8"))
    except (CertificateError, UnicodeDecodeError) as error:
        raise LedgerError(
            f"{path} is not a checkpoint that this log signed.",
            remedy="find out who wrote it; then remove it, and run mbd ledger publish",
        ) from error


def _refuse_older(connection: Connection, latest: Checkpoint, before: TreeHead) -> None:
    ledger.check_not_behind(connection, before)
    if latest.head.size < before.size:
        raise LedgerError(
            f"A checkpoint of size {before.size} was published, but the database knows none above {latest.head.size}.",
            remedy="an old copy of the database has been restored: restore the right one, or retire this log's origin",
        )


def _wanted(connection: Connection, old: int, size: int) -> list[Tile]:
    """The tiles that a folder which is at `old` lacks at `size`; those of level 0 stand for their bundles too."""
    full = [tile for tile in new_tiles(old, size) if tile.width == TILE_WIDTH]
    partial = dict.fromkeys(
        tile
        for signed in ledger.signed_sizes(connection, old, size)
        for tile in partial_tiles(signed)
        if tile.index == size >> (TILE_HEIGHT * (tile.level + 1))  # below that, the full one is there
    )
    return [*full, *partial]


def _write_tile(connection: Connection, folder: Path, tile: Tile) -> int:
    """Write a tile, and at level 0 its bundle; returns how many of them were not there."""
    low = tile.index * TILE_WIDTH
    high = low + tile.width
    hashes = ledger.subtree_hashes(connection, TILE_HEIGHT * tile.level, low, high)
    written = _put(folder / tile.path, b"".join(hashes))
    if tile.level == 0:
        entries = encode_entries(ledger.leaves(connection, low, high))  # `append_many` takes none that is too long
        written += _put(folder / EntryBundle(tile.index, tile.width).path, entries)
    return written


def _put(path: Path, data: bytes) -> int:
    """Write a file that is not there (1), and compare one that is (0): it is never rewritten."""
    try:
        there = path.read_bytes()
    except FileNotFoundError:
        _make_folder(path.parent)
        write_durably(path, data)
        return 1
    if there != data:
        raise LedgerError(
            f"{path} was published with other bytes than the database has.",
            remedy="compare it with copies held elsewhere; if it alone is damaged, remove it, run mbd ledger publish",
        )
    sync(path.parent)  # it may be there because a process died before it had done so
    return 0


def _read_back(folder: Path, latest: Checkpoint, before: TreeHead, done: int, read_note: ReadNote) -> None:
    """Read what is new as a monitor would: never publish a checkpoint whose files do not lead to its root."""
    try:
        reader = LogReader(FolderSource(folder).fetch, checkpoints.parse(latest.note))
        sound = read_note(latest.note) == latest.head and reader.root_at(before.size) == before.root
        for _ in reader.entries(done, latest.head.size):
            pass
    except CertificateError as error:
        raise LedgerError(
            f"What was to be published does not verify: {error.message}",
            remedy="run mbd ledger fsck, and mbd ledger publish, which compares every file",
        ) from error
    if not sound:
        raise LedgerError(
            f"The checkpoint of size {latest.head.size} does not extend the published one of size {before.size}.",
            remedy="run mbd ledger fsck; sign nothing until the log is whole",
        )


def _remove_partial(folder: Path, tile: Tile) -> None:
    """Once a full file is on disk, nobody needs the partial ones (C2SP tlog-tiles, "Partial Tiles")."""
    if tile.width == TILE_WIDTH:
        files = [tile.path, EntryBundle(tile.index).path] if tile.level == 0 else [tile.path]
        for path in files:
            shutil.rmtree(folder / f"{path}.p", ignore_errors=True)


def _remove_waste(folder: Path) -> None:
    """What a process that was killed within `write_durably` leaves."""
    for waste in folder.rglob(".*.partial-*"):
        waste.unlink()


def _make_folder(path: Path) -> None:
    """Make a folder whose name is on disk when the call returns."""
    if not path.is_dir():
        _make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync(path.parent)
