"""Files that are whole and on disk when a call returns, or not there at all, and locks to write them under.

It does not know what they hold.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident


def write_durably(path: Path, data: bytes) -> None:
    """Write or replace a file.

    Crash points: before the rename the old file stands, after it the new one does; a ``.partial`` file beside it is
    waste.
    """
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}-{get_ident()}")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Have the operating system put a file's content, or a folder's names, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """No other thread or process is in here for the same file; the next one waits. A process that dies has left."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
