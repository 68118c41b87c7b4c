"""Files that are whole and on disk when a call returns, or not there at all. It does not know what they hold."""

import os
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
