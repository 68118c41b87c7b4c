"""A plain table with arrays as a cohort: the format for everybody's own data.

The index is CSV (with a header, UTF-8) or Parquet, one row a clip, with the columns

    clip        its id, once in the table
    subject     whose it is
    label       a number, or a class name
    partition   public or revocable
    split       train, valid or test (all clips of a subject alike; valid rows are public)

and the features of each modality stand in one file:

    .npy            [n, F] or [n, T, F]; row i belongs to row i of the index; a row that is NaN all over is absent
    .npz or         one array a clip, named by its clip id: [F], or [T, F] with its own T;
    .safetensors    a clip without an array is absent

It knows nothing of what the numbers mean.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.numpy import load_file

from mbd.cohort.cohort import Channel, Cohort, Feature, Partition, Row, Split, Task
from mbd.cohort.importers.files import read_csv, read_npz, require
from mbd.cohort.modality import Modality
from mbd.cohort.validation import validate
from mbd.errors import CohortError, RowError

_Choice = TypeVar("_Choice", bound=StrEnum)

COLUMNS = ("clip", "subject", "label", "partition", "split")


@dataclass(frozen=True)
class Source:
    """Where the features of one modality stand, and what is to be said of them (see `Channel`)."""

    path: Path
    extractor: str = "not stated"
    derived_from: tuple[Modality, ...] = ()
    consent: Literal["own", "follows", "independent"] = "own"


def table(
    index: Path,
    sources: Mapping[Modality, Source],
    *,
    task: Task,
    name: str,
    description: str,
    synthetic: bool = False,
) -> Cohort:
    """The cohort that an index and its arrays describe.

    Raises:
        CohortError: a file is missing, unreadable or of another shape than the index.
        RowError: a row is wrong; it is named.
    """
    records = _records(index)
    rows = tuple(_row(i, record, task) for i, record in enumerate(records))
    features = {m: _features(source.path, rows) for m, source in sources.items()}
    cohort = Cohort(
        name=name,
        description=description,
        synthetic=synthetic,
        task=task,
        channels={m: _channel(m, source, features[m]) for m, source in sources.items()},
        rows=rows,
        features=features,
    )
    validate(cohort)
    return cohort


def _records(index: Path) -> Sequence[Mapping[str, Any]]:
    if index.suffix == ".csv":
        records: Sequence[Mapping[str, Any]] = read_csv(index, COLUMNS)
    elif index.suffix == ".parquet":
        try:
            rows = pq.read_table(index)
        except (OSError, pa.ArrowException) as error:
            raise CohortError(f"{index} cannot be read: {error}.", remedy="check the path and the file") from error
        require(index, COLUMNS, rows.column_names)
        records = rows.to_pylist()
    else:
        raise CohortError(f"{index} is neither .csv nor .parquet.", remedy="save the index as one of these")
    if not records:
        raise CohortError(f"The index {index.name} has no rows.", remedy="give it one row a clip")
    return records


def _row(i: int, record: Mapping[str, Any], task: Task) -> Row:
    where = f"row {i} (clip '{record['clip']}')"
    empty = [column for column in COLUMNS if record[column] is None or record[column] == ""]
    if empty:
        raise RowError(where, f"{', '.join(empty)} is empty.", remedy="fill it in, or leave the row out")
    return Row(
        clip=str(record["clip"]),
        subject=str(record["subject"]),
        label=_label(where, record["label"], task),
        partition=_member(where, "partition", record["partition"], Partition),
        split=_member(where, "split", record["split"], Split),
    )


def _label(where: str, label: Any, task: Task) -> float | str:
    if task.kind == "classification":
        return str(label)
    try:
        return float(label)
    except (TypeError, ValueError):
        raise RowError(where, f"the label {label!r} is not a number.", remedy="give the score") from None


def _member(where: str, column: str, value: Any, kind: type[_Choice]) -> _Choice:
    try:
        return kind(value)
    except ValueError:
        allowed = ", ".join(kind)
        raise RowError(where, f"{column} {value!r} is unknown.", remedy=f"use one of {allowed}") from None


def _features(path: Path, rows: tuple[Row, ...]) -> tuple[Feature | None, ...]:
    try:
        if path.suffix == ".npy":
            with path.open("rb") as file:
                return _by_position(path, np.lib.format.read_array(file, allow_pickle=False), rows)
        if path.suffix == ".npz":
            return _by_clip(path, read_npz(path), rows)
        if path.suffix == ".safetensors":
            return _by_clip(path, load_file(path), rows)
    except (OSError, ValueError, TypeError, KeyError, EOFError, SafetensorError) as error:
        raise CohortError(
            f"The features {path} cannot be read: {error}.", remedy="save plain numeric arrays, no pickled objects"
        ) from error
    raise CohortError(f"{path} is not .npy, .npz or .safetensors.", remedy="save the features as one of these")


def _by_position(path: Path, array: np.ndarray, rows: tuple[Row, ...]) -> tuple[Feature | None, ...]:
    if array.ndim not in (2, 3) or len(array) != len(rows):
        raise CohortError(
            f"{path.name} has shape {list(array.shape)}, and the index {len(rows)} rows.",
            remedy="give [rows, numbers] or [rows, frames, numbers], in the order of the index",
        )
    return tuple(None if np.isnan(row).all() else row for row in _float32(array))


def _by_clip(path: Path, arrays: Mapping[str, np.ndarray], rows: Iterable[Row]) -> tuple[Feature | None, ...]:
    clips = [row.clip for row in rows]
    strangers = sorted(set(arrays) - set(clips))
    if strangers:
        raise CohortError(
            f"{path.name} has {len(strangers)} arrays of clips that the index does not list, such as '{strangers[0]}'.",
            remedy="name each array by its clip id, and list every clip in the index",
        )
    return tuple(_float32(arrays[clip]) if clip in arrays else None for clip in clips)


def _float32(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "fiu":
        raise TypeError(f"an array of {array.dtype}")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinity, and validation names its row
        return array.astype(np.float32)


def _channel(modality: Modality, source: Source, column: Iterable[Feature | None]) -> Channel:
    """The channel as the first row that has it shows it; validation holds the others against it."""
    first = next((feature for feature in column if feature is not None), np.zeros(0, dtype=np.float32))
    kind: Literal["vector", "sequence"] = "vector" if first.ndim < 2 else "sequence"
    dim = first.shape[-1] if first.ndim else 0
    return Channel(modality, kind, dim, source.extractor, source.derived_from, source.consent)
