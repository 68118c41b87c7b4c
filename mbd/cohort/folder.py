"""The cohort folder: ``manifest.json`` (what it is), ``rows.parquet`` (who), ``features.safetensors`` (the numbers).

It lies on this machine or, copied, in a bucket (`mbd.cohort.copies`). What `write` makes appears at once or not at all
and never replaces a folder. `read` and `open_pieces` believe nothing that does not match the digests in
``manifest.json``, and pieces are handed out only while the files are still those whose digests were compared. It does
not judge the rows: an importer has validated them.

Each channel's features stand in one float32 array [all frames, F], row after row; the column ``<modality>_frames`` of
``rows.parquet`` says how many frames are a row's own: null where the channel is absent, 1 for a vector.
The folder holds names in clear, so it also holds the key of its Merkle manifest: whoever erases one erases both.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mbd.cohort.cohort import Cohort, Partition, Split
from mbd.cohort.encoding import declaration, declared, frames, matrices, row_table, with_rows
from mbd.cohort.manifest import Manifest, build_manifest
from mbd.cohort.piecewise import PiecewiseCohort, join
from mbd.cohort.place import Place, open_place, reason
from mbd.cohort.tensor_slices import TensorSlices, open_slices, write_slices
from mbd.durable import sync
from mbd.errors import CohortError
from mbd.hashing import file_digest

FORMAT = 1
MANIFEST, ROWS, FEATURES = "manifest.json", "rows.parquet", "features.safetensors"

PIECE_ROWS = 256
"""One batch of the featurizer; larger pieces cost memory, about three times their features, and save little."""

_GROUP_ROWS = 2**14  # of the Parquet file that are decoded together


def write(cohort: PiecewiseCohort, path: Path, *, key: bytes) -> Manifest:
    """Write a cohort to a new folder, readable by its owner alone, and return its Merkle manifest.

    Rows pass in pieces, three times; what grows with them in memory is the manifest's leaves. The key is 32 fresh
    random bytes for that manifest.

    Raises:
        CohortError: the path exists, or cannot be written.
    """
    if path.exists():
        raise CohortError(f"{path} exists already.", remedy="choose another path, or remove the old folder first")
    manifest = build_manifest(cohort, key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.partial-", dir=path.parent))
        try:
            _fill(partial, cohort, manifest)
            # A crash before this line leaves only a hidden folder that nothing reads.
            partial.rename(path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        sync(path.parent)
    except OSError as error:
        raise CohortError(
            f"The cohort could not be written to {path}: {error}.", remedy="check the path, its rights and the disk"
        ) from error
    return manifest


def read(path: Path) -> Cohort:
    """The cohort in a folder, in memory, bit for bit as written.

    Raises:
        CohortError: no cohort folder, of another format, damaged or changed.
    """
    pieces = open_pieces(path)
    return join(pieces.head, pieces.read(_GROUP_ROWS))


def read_manifest(path: Path) -> Manifest:
    """The Merkle manifest of the cohort in a folder, rebuilt from its rows and compared with the recorded root.

    Raises:
        CohortError: as for `read`, or the root is not that of the rows.
    """
    place = open_place(path)
    with _translated(place):
        pieces, merkle = _open(place)
        key, recorded = bytes.fromhex(merkle["key"]), (merkle["root"], merkle["leaves"])
    manifest = build_manifest(pieces, key)
    if (manifest.root, len(manifest.leaves)) != recorded:
        raise _damaged(place, "its Merkle root is not that of its rows")
    return manifest


@dataclass(frozen=True)
class Pieces:
    """A cohort folder that is read piece by piece: memory holds one piece, however many rows there are.

    It can be sent to another process that sees the same place, with whatever options the place was opened with.

    Attributes:
        place: where it lies.
        head: the cohort without its rows.
        features: how the numbers lie.
        tags: of each file, from when its digest was compared.
    """

    place: Place
    head: Cohort
    features: TensorSlices
    tags: Mapping[str, str]

    def pieces(self) -> Iterator[Cohort]:
        """All rows in order, `PIECE_ROWS` at a time.

        Raises:
            CohortError: as for `read`.
        """
        return self.read(PIECE_ROWS)

    def where(self, partition: Partition | None = None, split: Split | None = None) -> Cohort:
        """The rows that match all that is given, in order and in memory.

        Raises:
            CohortError: as for `read`.
        """
        return join(self.head, (_own(piece.where(partition, split)) for piece in self.pieces()))

    def read(self, rows: int, *, shard: int = 0, shards: int = 1) -> Iterator[Cohort]:
        """Every ``shards``-th piece of so many rows, from piece ``shard`` on; the pieces of all shards are the cohort.

        Raises:
            CohortError: a size or a shard that cannot be, or a folder that changed or went away since it was opened.
        """
        if rows < 1 or not 0 <= shard < shards:
            raise CohortError(
                f"There is no shard {shard} of {shards} in pieces of {rows} rows.",
                remedy="ask for pieces of at least one row, and for shards counted from 0",
            )
        modalities = self.head.modalities
        ends = dict.fromkeys(modalities, 0)
        with _translated(self.place), self.place.open(ROWS) as source, pq.ParquetFile(source) as file:
            for number, batch in enumerate(file.iter_batches(batch_size=rows)):
                starts = ends
                ends = {m: start + (pc.sum(batch[f"{m}_frames"]).as_py() or 0) for m, start in starts.items()}
                if number % shards == shard:
                    arrays = {m: self.features.rows(m.value, starts[m], ends[m]) for m in modalities}
                    piece = with_rows(self.head, batch, arrays)
                    self._refuse_changed()
                    yield piece

    def _refuse_changed(self) -> None:
        """Asked after a piece was read and before it is handed out."""
        for name, tag in self.tags.items():
            if self.place.tag(name) != tag:
                raise CohortError(
                    f"The cohort folder {self.place} has changed since it was opened: {name} is another file now.",
                    remedy="open it again, which compares all of it with its digests",
                )


def open_pieces(where: Path | str, **options: Any) -> Pieces:
    """The cohort in a folder, to be read piece by piece; its files are compared with their digests first.

    That is one pass over all of it, in flat memory.

    Args:
        where: a path, or ``s3://BUCKET/PREFIX``.
        options: see `open_place`.

    Raises:
        CohortError: as for `read`.
        StoreError: a place that cannot be used.
    """
    place = open_place(where, **options)
    with _translated(place):
        pieces, _ = _open(place)
        return pieces


def _open(place: Place) -> tuple[Pieces, dict[str, Any]]:
    """The folder after its files were compared with its record, and its Merkle manifest's key, root and leaves."""
    record: dict[str, Any] = json.loads(place.read(MANIFEST))
    found = record["format"]
    if found != FORMAT:
        raise CohortError(
            f"{place} is a cohort folder of format {found}; this program reads format {FORMAT}.",
            remedy="import the cohort again with this version",
        )
    tags = {}
    for name in (ROWS, FEATURES):
        tags[name] = place.tag(name)
        with place.open(name) as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != record["files"][name]:  # type: ignore[arg-type]  # typeshed asks for more than it reads
                raise _damaged(place, f"{name} is not the file that {MANIFEST} describes")
    return Pieces(place, declared(record), open_slices(place, FEATURES), tags), record["merkle"]


@contextmanager
def _translated(place: Place) -> Iterator[None]:
    """What goes wrong while a folder is read, in our words."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CohortError(
            f"{place} is not a cohort folder, or a part of it is missing: {reason(error)}",
            remedy="check the path or the bucket; `mbd data import` makes a cohort folder",
        ) from error
    except (KeyError, TypeError, ValueError, IndexError, pa.ArrowException) as error:
        raise _damaged(place, f"{type(error).__name__}: {error}") from error
    except OSError as error:
        raise CohortError(
            f"The cohort folder {place} cannot be read: {reason(error)}", remedy="check disk, rights and connection"
        ) from error


def _damaged(place: Place, what: str) -> CohortError:
    return CohortError(
        f"The cohort folder {place} is damaged or was changed: {what}.",
        remedy="restore it from a backup that is not older than the last revocation, or import the cohort again",
    )


def _fill(folder: Path, cohort: PiecewiseCohort, manifest: Manifest) -> None:
    """The three files, on disk when this returns."""
    head, heights, subjects = cohort.head, dict.fromkeys(cohort.head.modalities, 0), set[str]()
    for piece in cohort.pieces():
        subjects.update(piece.subjects)
        for m in head.modalities:
            heights[m] += sum(frames(feature) or 0 for feature in piece.features[m])
    shapes = {m.value: (count, head.channels[m].dim) for m, count in heights.items()}
    with (
        write_slices(folder / FEATURES, shapes) as features,
        pq.ParquetWriter(folder / ROWS, row_table(head).schema) as rows,
    ):
        waiting: list[pa.Table] = []
        for piece in cohort.pieces():
            for name, array in matrices(piece).items():
                features.append(name, array)
            waiting.append(row_table(piece))
            if sum(map(len, waiting)) >= _GROUP_ROWS:
                rows.write_table(pa.concat_tables(waiting), row_group_size=_GROUP_ROWS)
                waiting = []
        rows.write_table(pa.concat_tables([*waiting, row_table(head)]), row_group_size=_GROUP_ROWS)
    record = {
        "format": FORMAT,
        **declaration(head),
        "counts": {"rows": manifest.rows, "subjects": len(subjects)},
        "files": {file: file_digest(folder / file) for file in (ROWS, FEATURES)},
        "merkle": {"root": manifest.root, "leaves": len(manifest.leaves), "key": manifest.key.hex()},
    }
    (folder / MANIFEST).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")
    for file in (FEATURES, ROWS, MANIFEST):
        sync(folder / file)


def _own(piece: Cohort) -> Cohort:
    """The same rows with arrays of their own: a row that is kept would keep its whole piece in memory."""
    return replace(
        piece,
        features={m: tuple(None if f is None else f.copy() for f in column) for m, column in piece.features.items()},
    )
