"""Tables and named arrays from files, or one error that says what is wrong with them. It knows nothing of cohorts."""

import csv
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import numpy as np

from mbd.errors import CohortError


def read_csv(path: Path, required: Collection[str]) -> list[dict[str, str | None]]:
    """The rows of a UTF-8 CSV file with a header; None where a row is too short.

    Raises:
        CohortError: it is missing, damaged, lacks a required column or has one twice, or a row is too long.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            records = list(reader)
            columns = reader.fieldnames or ()
    except (OSError, ValueError, csv.Error) as error:
        raise CohortError(f"{path} cannot be read: {_reason(error)}.", remedy="check the path and the file") from error
    require(path, required, columns)
    if twice := [column for column, count in Counter(columns).items() if column and count > 1]:
        raise CohortError(f"{path} has the column '{twice[0]}' twice.", remedy="name every column once")
    for i, record in enumerate(records):
        if None in record:
            raise CohortError(
                f"{path}: row {i} has more cells than the header.", remedy="put a text with commas into quotation marks"
            )
    return records


def read_npz(path: Path, required: Collection[str] = ()) -> dict[str, np.ndarray]:
    """Every array of the file; pickled objects are refused.

    Raises:
        CohortError: it is missing, damaged, something else, holds objects, or lacks a required array.
    """
    try:
        with zipfile.ZipFile(path):  # np.load would take other files for a pickle
            pass
        with np.load(path, allow_pickle=False) as npz:
            arrays = dict(npz)
    except (OSError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise CohortError(
            f"{path} cannot be read: {_reason(error)}.",
            remedy="check the path; save plain numeric arrays, no pickled objects",
        ) from error
    require(path, required, arrays)
    return arrays


def require(path: Path, required: Collection[str], found: Collection[str]) -> None:
    """Pass a file that has every required column or array.

    Raises:
        CohortError: it lacks some; they are named.
    """
    missing = [name for name in required if name not in found]
    if missing:
        raise CohortError(f"{path} has no {', '.join(missing)}.", remedy=f"give it {', '.join(required)}")


def _reason(error: Exception) -> str:
    """Why, without the path, which stands in the message already."""
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
