"""float32 matrices in a safetensors file, written and read slice by slice. It does not know what they mean.

The format: eight bytes (little-endian) say how long the JSON header is, the header says where each tensor's bytes lie
after it, and rows of a matrix are neighbours. So a slice of rows is one range of bytes, wherever the file lies.
"""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mbd.cohort.place import Place

Matrix = NDArray[np.float32]

_BYTES = 4
_LONGEST_HEADER = 10**6


@dataclass(frozen=True)
class TensorSlices:
    """An opened file; see `open_slices`.

    Attributes:
        place, name: where it lies.
        shapes: rows and columns of each matrix.
        starts: the first byte of each.
    """

    place: Place
    name: str
    shapes: Mapping[str, tuple[int, int]]
    starts: Mapping[str, int]

    def rows(self, matrix: str, start: int, stop: int) -> Matrix:
        """The rows [start, stop) of a matrix, not to be written to.

        Raises:
            ValueError: the file has no such rows.
            OSError: the place fails.
        """
        height, width = self.shapes[matrix]
        if not 0 <= start <= stop <= height:
            raise ValueError(f"{matrix} has {height} frames, and {start} to {stop} were asked for")
        at, step = self.starts[matrix], width * _BYTES
        data = self.place.read(self.name, at + start * step, at + stop * step)
        return np.frombuffer(data, dtype="<f4").reshape(stop - start, width)


def open_slices(place: Place, name: str) -> TensorSlices:
    """Read a file's header, and nothing else.

    Raises:
        ValueError: it is no safetensors file of float32 matrices.
        OSError: the place fails.
    """
    length = int.from_bytes(place.read(name, 0, 8), "little")
    if length > _LONGEST_HEADER:
        raise ValueError(f"{name} has a header of {length} bytes")
    header = json.loads(place.read(name, 8, 8 + length))
    shapes, starts = {}, {}
    for matrix, about in header.items():
        if matrix == "__metadata__":
            continue
        start, stop = about["data_offsets"]
        rows, columns = about["shape"]
        if about["dtype"] != "F32" or stop - start != rows * columns * _BYTES:
            raise ValueError(f"{matrix} in {name} is not a float32 matrix")
        shapes[matrix], starts[matrix] = (rows, columns), 8 + length + start
    return TensorSlices(place, name, shapes, starts)


@dataclass
class SliceWriter:
    """A file that is being written; see `write_slices`.

    Attributes:
        file: itself.
        at: where the next rows of each matrix go.
    """

    file: IO[bytes]
    at: dict[str, int]

    def append(self, matrix: str, rows: Matrix) -> None:
        """The next rows of a matrix."""
        self.file.seek(self.at[matrix])
        self.at[matrix] += self.file.write(np.ascontiguousarray(rows, dtype="<f4").data)


@contextmanager
def write_slices(path: Path, shapes: Mapping[str, tuple[int, int]]) -> Iterator[SliceWriter]:
    """Write a file whose matrices have these shapes, in any order of slices: the bytes that `safetensors` writes.

    Raises:
        ValueError: when the block ends, rows are missing or too many.
        OSError: the file cannot be written.
    """
    header: dict[str, Any] = {}
    end = 0
    for matrix in sorted(shapes):
        start, end = end, end + math.prod(shapes[matrix]) * _BYTES
        header[matrix] = {"dtype": "F32", "shape": list(shapes[matrix]), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    starts, ends = (
        {matrix: 8 + len(text) + about["data_offsets"][side] for matrix, about in header.items()} for side in (0, 1)
    )
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        writer = SliceWriter(file, starts)
        yield writer
        if writer.at != ends:
            raise ValueError(f"the rows that came for {path.name} are not those that were announced")
