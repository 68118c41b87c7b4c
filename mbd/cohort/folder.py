"""The cohort folder: ``manifest.json`` (what it is), ``rows.parquet`` (who), ``features.safetensors`` (the numbers).

What `write` makes appears at once or not at all and never replaces a folder; `read` and `open_pieces` believe nothing
that does not match the digests in ``manifest.json``. It does not judge the rows: an importer has validated them.

Each channel's features stand in one float32 array [all frames, F], row after row; the column ``<modality>_frames`` of
``rows.parquet`` says how many frames are a row's own: null where the channel is absent, 1 for a vector.
The folder holds names in clear, so it also holds the key of its Merkle manifest: whoever erases one erases both.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from mbd.cohort.cohort import Channel, Cohort, Feature, Partition, Row, Split, Task
from mbd.cohort.manifest import Manifest, build_manifest
from mbd.cohort.modality import Modality
from mbd.durable import sync
from mbd.errors import CohortError
from mbd.hashing import file_digest

FORMAT = 1

_MANIFEST, _ROWS, _FEATURES = "manifest.json", "rows.parquet", "features.safetensors"


def write(cohort: Cohort, path: Path, *, key: bytes) -> Manifest:
    """Write a cohort to a new folder, readable by its owner alone, and return its Merkle manifest.

    The key is 32 fresh random bytes for that manifest.

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
    """The cohort in a folder, bit for bit as written.

    Raises:
        CohortError: no cohort folder, of another format, damaged or changed.
    """
    cohort, *_ = _load(path)
    return cohort


def read_manifest(path: Path) -> Manifest:
    """The Merkle manifest of the cohort in a folder, rebuilt from its rows and compared with the recorded root.

    Raises:
        CohortError: as for `read`, or the root is not that of the rows.
    """
    cohort, key, root, leaves = _load(path)
    manifest = build_manifest(cohort, key)
    if (manifest.root, len(manifest.leaves)) != (root, leaves):
        raise _damaged(path, "its Merkle root is not that of its rows")
    return manifest


@dataclass(frozen=True)
class Pieces:
    """A cohort folder that is read piece by piece: memory holds one piece, however many rows there are.

    Attributes:
        path: the folder.
        record: its ``manifest.json``.
    """

    path: Path
    record: Mapping[str, Any]

    @property
    def task(self) -> Task:
        """What is predicted."""
        return _task(self.record)

    def read(self, rows: int, *, shard: int = 0, shards: int = 1) -> Iterator[Cohort]:
        """Every ``shards``-th piece of so many rows, from piece ``shard`` on; the pieces of all shards are the cohort.

        Raises:
            CohortError: a size or a shard that cannot be, or a folder that is damaged.
        """
        if rows < 1 or not 0 <= shard < shards:
            raise CohortError(
                f"There is no shard {shard} of {shards} in pieces of {rows} rows.",
                remedy="ask for pieces of at least one row, and for shards counted from 0",
            )
        channels = _channels(self.record)
        ends = dict.fromkeys(channels, 0)
        with _translated(self.path), pq.ParquetFile(self.path / _ROWS) as file:
            for number, batch in enumerate(file.iter_batches(batch_size=rows)):
                starts = ends
                ends = {m: start + (pc.sum(batch[f"{m}_frames"]).as_py() or 0) for m, start in starts.items()}
                if number % shards == shard:
                    yield _parse(self.record, batch, self._features({m: slice(starts[m], ends[m]) for m in channels}))

    def _features(self, places: Mapping[Modality, slice]) -> dict[str, np.ndarray]:
        arrays = {}
        # Opened anew for each piece: pages of a file that stays mapped count as this process's memory.
        with safe_open(self.path / _FEATURES, framework="numpy") as file:
            for m, place in places.items():
                frames = file.get_slice(m.value)
                # an empty slice at the very end is refused
                arrays[m.value] = frames[place] if place.start < place.stop else np.zeros((0, frames.get_shape()[1]))
        return arrays


def open_pieces(path: Path) -> Pieces:
    """The cohort in a folder, to be read piece by piece; its files are compared with their digests first.

    Raises:
        CohortError: as for `read`.
    """
    with _translated(path):
        return Pieces(path, _verified(path))


def _load(path: Path) -> tuple[Cohort, bytes, str, int]:
    """The cohort, and its Merkle manifest's key, root and number of leaves."""
    with _translated(path):
        record = _verified(path)
        cohort = _parse(record, pq.read_table(path / _ROWS), load_file(path / _FEATURES))
        merkle = record["merkle"]
        return cohort, bytes.fromhex(merkle["key"]), merkle["root"], merkle["leaves"]


def _verified(path: Path) -> dict[str, Any]:
    """The folder's record, after its files were compared with it."""
    record: dict[str, Any] = json.loads((path / _MANIFEST).read_text("utf-8"))
    found = record["format"]
    if found != FORMAT:
        raise CohortError(
            f"{path} is a cohort folder of format {found}; this program reads format {FORMAT}.",
            remedy="import the cohort again with this version",
        )
    for file in (_ROWS, _FEATURES):
        if file_digest(path / file) != record["files"][file]:
            raise _damaged(path, f"{file} is not the file that {_MANIFEST} describes")
    return record


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """What goes wrong while a folder is read, in our words."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CohortError(
            f"{path} is not a cohort folder: it has no {Path(error.filename or _FEATURES).name}.",
            remedy="make one with `mbd data import`",
        ) from error
    except (OSError, KeyError, TypeError, ValueError, IndexError, pa.ArrowException, SafetensorError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error


def _damaged(path: Path, what: str) -> CohortError:
    return CohortError(
        f"The cohort folder {path} is damaged or was changed: {what}.",
        remedy="restore it from a backup that is not older than the last revocation, or import the cohort again",
    )


def _fill(folder: Path, cohort: Cohort, manifest: Manifest) -> None:
    """The three files, on disk when this returns."""
    save_file(_feature_arrays(cohort), folder / _FEATURES)
    pq.write_table(_row_table(cohort), folder / _ROWS)
    record = json.dumps(_record(cohort, manifest, folder), indent=2, ensure_ascii=False)
    (folder / _MANIFEST).write_text(record + "\n", "utf-8")
    for file in (_FEATURES, _ROWS, _MANIFEST):
        sync(folder / file)


def _feature_arrays(cohort: Cohort) -> dict[str, np.ndarray]:
    """Each channel as [all frames, F]; the rows that have it one after the other."""
    arrays = {}
    for modality, channel in cohort.channels.items():
        frames = [feature.reshape(-1, channel.dim) for feature in cohort.features[modality] if feature is not None]
        empty = np.zeros((0, channel.dim), dtype=np.float32)
        arrays[modality.value] = np.ascontiguousarray(np.concatenate([empty, *frames]))
    return arrays


def _row_table(cohort: Cohort) -> pa.Table:
    label = pa.float64() if cohort.task.kind == "regression" else pa.string()
    columns: dict[str, pa.Array] = {
        "clip": pa.array([row.clip for row in cohort.rows], pa.string()),
        "subject": pa.array([row.subject for row in cohort.rows], pa.string()),
        "label": pa.array([row.label for row in cohort.rows], label),
        "partition": pa.array([row.partition.value for row in cohort.rows], pa.string()),
        "split": pa.array([row.split.value for row in cohort.rows], pa.string()),
    }
    for modality in cohort.modalities:
        frames = [None if f is None else f.size // f.shape[-1] for f in cohort.features[modality]]
        columns[f"{modality}_frames"] = pa.array(frames, pa.int32())
    return pa.table(columns)


def _record(cohort: Cohort, manifest: Manifest, folder: Path) -> dict[str, Any]:
    task = cohort.task
    return {
        "format": FORMAT,
        "name": cohort.name,
        "description": cohort.description,
        "synthetic": cohort.synthetic,
        "task": {
            "kind": task.kind,
            "low": task.low,
            "high": task.high,
            "classes": list(task.classes),
            "label_derived_from": [m.value for m in task.label_derived_from],
            "label_policy": task.label_policy,
        },
        "channels": {
            m.value: {
                "kind": channel.kind,
                "dim": channel.dim,
                "extractor": channel.extractor,
                "derived_from": [source.value for source in channel.derived_from],
                "consent": channel.consent,
            }
            for m, channel in cohort.channels.items()
        },
        "counts": {"rows": len(cohort), "subjects": len(cohort.subjects)},
        "files": {file: file_digest(folder / file) for file in (_ROWS, _FEATURES)},
        "merkle": {"root": manifest.root, "leaves": len(manifest.leaves), "key": manifest.key.hex()},
    }


def _parse(record: Mapping[str, Any], table: pa.Table | pa.RecordBatch, arrays: Mapping[str, np.ndarray]) -> Cohort:
    """Rows and the frames that are theirs, as a cohort."""
    channels = _channels(record)
    columns = (table[name].to_pylist() for name in ("clip", "subject", "label", "partition", "split"))
    return Cohort(
        name=record["name"],
        description=record["description"],
        synthetic=record["synthetic"],
        task=_task(record),
        channels=channels,
        rows=tuple(
            Row(clip, subject, label, Partition(partition), Split(split))
            for clip, subject, label, partition, split in zip(*columns, strict=True)
        ),
        features={
            m: _cut(arrays[m.value], table[f"{m}_frames"].to_pylist(), channel) for m, channel in channels.items()
        },
    )


def _task(record: Mapping[str, Any]) -> Task:
    task = record["task"]
    return Task(
        task["kind"],
        task["low"],
        task["high"],
        tuple(task["classes"]),
        tuple(Modality(m) for m in task["label_derived_from"]),
        task["label_policy"],
    )


def _channels(record: Mapping[str, Any]) -> dict[Modality, Channel]:
    channels = {}
    for name, channel in record["channels"].items():
        derived = tuple(Modality(source) for source in channel["derived_from"])
        channels[Modality(name)] = Channel(
            Modality(name), channel["kind"], channel["dim"], channel["extractor"], derived, channel["consent"]
        )
    return channels


def _cut(array: np.ndarray, frames: list[int | None], channel: Channel) -> tuple[Feature | None, ...]:
    features: list[Feature | None] = []
    start = 0
    for count in frames:
        if count is None:
            features.append(None)
        else:
            own = array[start : start + count]
            features.append(own[0] if channel.kind == "vector" else own)
            start += count
    return tuple(features)
