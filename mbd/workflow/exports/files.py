"""Writes an export into a file, whole or not at all. It does not know what it says."""

from pathlib import Path

from mbd.durable import write_durably
from mbd.errors import ExportError


def write_file(path: Path, data: bytes) -> None:
    """Write or replace a file.

    Raises:
        ExportError: it cannot be written.
    """
    try:
        write_durably(path, data)
    except OSError as error:
        raise ExportError(f"{path} cannot be written.", remedy="check the folder, its rights and the disk") from error
