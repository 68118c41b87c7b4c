"""What lies in gzip, zip (so also npz) and Parquet files, and in files in them. It searches nothing."""

import io
import zipfile
import zlib
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

LARGEST = 1 << 28
"""Bytes, packed or unpacked, that are held in memory; a larger container stays shut."""

_GZIP, _ZIP, _PARQUET = _BEGINNINGS = (b"\x1f\x8b", b"PK\x03\x04", b"PAR1")
_DEEPEST = 2  # containers in containers


class _TooLargeError(Exception):
    """More than `LARGEST` bytes."""


# zipfile has no error of its own for a password or a method that it does not know: it raises RuntimeErrors
_SHUT = (_TooLargeError, OSError, EOFError, zlib.error, zipfile.BadZipFile, pa.ArrowException, RuntimeError)


def could_be_container(beginning: bytes | bytearray) -> bool:
    """Whether bytes begin as a container does, or are too few to tell."""
    return beginning.startswith(_BEGINNINGS) or any(known.startswith(beginning) for known in _BEGINNINGS)


def unpacked(name: str, body: bytes, unopened: list[str], *, depth: int = 0) -> Iterator[tuple[str, bytes]]:
    """Everything that a container holds, and what containers in it hold, as (where, bytes).

    Args:
        name: of the container, for people.
        body: its bytes; nothing is given out where they are no container's.
        unopened: the names of containers that stay shut are added: too large, too deep, damaged, encrypted or packed
            in an unknown way.
        depth: in how many containers this one lies.
    """
    if not body.startswith(_BEGINNINGS):
        return
    if depth > _DEEPEST:
        unopened.append(name)
        return
    try:
        inner = list(_parts(body))
    except _SHUT:
        unopened.append(name)
        return
    for part, content in inner:
        where = f"{name} > {part}"
        yield where, content
        yield from unpacked(where, content, unopened, depth=depth + 1)


def _parts(body: bytes) -> Iterator[tuple[str, bytes]]:
    _refuse_above(len(body))
    if body.startswith(_GZIP):
        yield "gzip", _gunzipped(body)
    elif body.startswith(_ZIP):
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            _refuse_above(sum(entry.file_size for entry in archive.infolist()))
            for entry in archive.namelist():
                yield entry, archive.read(entry)
    else:
        about = pq.read_metadata(io.BytesIO(body))
        _refuse_above(sum(about.row_group(n).total_byte_size for n in range(about.num_row_groups)))
        table = pq.read_table(io.BytesIO(body))
        for column in table.column_names:
            yield column, _column_bytes(table.column(column))


def _refuse_above(size: int) -> None:
    if size > LARGEST:
        raise _TooLargeError


def _gunzipped(body: bytes) -> bytes:
    """All members of a gzip file; `gzip.decompress` has no limit to what it unpacks."""
    found = bytearray()
    while body:
        member = zlib.decompressobj(wbits=31)
        found += member.decompress(body, LARGEST - len(found) + 1)
        _refuse_above(len(found))
        if not member.eof:
            raise EOFError
        body = member.unused_data.lstrip(b"\0")
    return bytes(found)


def _column_bytes(column: pa.ChunkedArray) -> bytes:
    """A column's buffers one after the other: decoded, not compressed."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    buffers = [buffer.to_pybytes() for chunk in column.chunks for buffer in chunk.buffers() if buffer is not None]
    return b"\n".join(buffers)
