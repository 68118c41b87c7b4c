"""Destroys the files of retired versions, and signs that it did: exactly one statement for each, whatever dies between.

In this order, and every call takes it up where an earlier one stopped:

1. The files are counted, and the count is on disk, outside the folder. Until then nothing has been removed.
2. The folder is removed, and the file system told to make that durable.
3. The statement is signed and kept, in the caller's transaction. When that has committed, the count is waste, which the
   next call removes.

It does not know why a version retired. What unlinking proves, and what it does not, `certs.destruction_statement` says.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from sqlalchemy import Connection

from certs.destruction_statement import DestroyedVersion, RemovedFile, sign
from certs.keys import Signer
from certs.wire import Timestamp, Wire
from mbd.durable import sync, write_durably
from mbd.hashing import file_digest
from mbd.records import destruction
from mbd.records.destruction import Destruction
from mbd.records.models import ModelVersion

_LONGEST_NAME = 500
_CONTROLS = dict.fromkeys((*range(32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\ufffd")


class Count(Wire):
    """What a version's folder held before the first file was removed."""

    files: tuple[RemovedFile, ...]
    counted_at: Timestamp


def destroy_retired(
    connection: Connection, *, lines: Path, counts: Path, signer: Signer, clock: Callable[[], datetime]
) -> tuple[Destruction, ...]:
    """Destroy the files of every retired version of which that is not stated yet.

    Args:
        connection: of a locked transaction.
        lines: where versions lie, as ``LINE/VERSION``.
        counts: the folder of what is being destroyed; made and removed as needed.
        signer: of certificates.
        clock: the time.

    Crash points: those between the steps above. A statement is signed when all files are gone, and never before.

    Returns:
        The statements that this call signed.

    Raises:
        SignerError: the key cannot be reached; the files are gone, and a later call signs.
    """
    waiting = destruction.owed(connection)
    _remove_waste(counts, keep={_name(version) for version in waiting})
    stated = []
    for version in waiting:
        counted = _counted(lines / version.line / str(version.version), counts / _name(version), clock)
        _remove(lines / version.line / str(version.version))
        done = _statement(version, counted, signer, max(clock(), counted.counted_at))  # a clock may be set back
        destruction.record(connection, done)
        stated.append(done)
    return tuple(stated)


def _counted(folder: Path, path: Path, clock: Callable[[], datetime]) -> Count:
    """The count that is on disk, or a new one."""
    if path.exists():
        return Count.model_validate_json(path.read_bytes())
    files = tuple(_file(folder, path) for path in _files(folder))
    made = Count(files=files, counted_at=clock())
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_durably(path, made.canonical())
    sync(path.parent.parent)
    return made


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    if folder.parent.exists():  # also where an earlier call removed the folder and died
        sync(folder.parent)


def _statement(version: ModelVersion, counted: Count, signer: Signer, at: datetime) -> Destruction:
    named = DestroyedVersion(
        model_line=version.line, version=version.version, model_digest=version.digest, cohort_root=version.cohort
    )
    envelope = sign(named, counted.files, counted_at=counted.counted_at, destroyed_at=at, signer=signer)
    digest = sha256(envelope.signed_bytes).hexdigest()
    return Destruction(version.line, version.version, at, digest, envelope.canonical().decode())


def _files(folder: Path) -> Iterator[Path]:
    """All that is not a folder, in the order of the names; nothing where there is no folder."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        yield from (Path(parent) / name for name in sorted((*names, *links)))


def _file(folder: Path, path: Path) -> RemovedFile:
    """Size and digest of what certificates name; of files of rows, and of anything unknown, the name alone."""
    name = os.fsencode(path.relative_to(folder)).decode("utf-8", "replace").translate(_CONTROLS)[:_LONGEST_NAME]
    certified = name.startswith("model/") or name in {"cohort/manifest.json", "transcript.json"}
    if not certified or path.is_symlink() or not path.is_file():
        return RemovedFile(name=name, bytes=None, digest=None)
    return RemovedFile(name=name, bytes=path.stat().st_size, digest=file_digest(path))


def _name(version: ModelVersion) -> str:
    return f"{version.line}-{version.version}.json"


def _remove_waste(counts: Path, *, keep: set[str]) -> None:
    """Counts of what is stated by now, and what a crash left half written."""
    if not counts.exists():
        return
    for path in counts.iterdir():
        if path.name not in keep:
            path.unlink()
    if not keep:
        counts.rmdir()
