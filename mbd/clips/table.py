"""Readings as the table that `mbd data import table` makes a cohort of. It runs no stage."""

import csv
from collections.abc import Sequence
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np

from mbd.clips.manifest import PLACES, Clip
from mbd.clips.reading import Reading
from mbd.cohort.modality import Modality
from mbd.durable import write_durably
from mbd.errors import ClipError

INDEX = "index.csv"


def write_table(clips: Sequence[Clip], readings: Sequence[Reading], out: Path) -> dict[Modality, Path]:
    """Write ``index.csv`` and an ``.npy`` for each modality, a row a clip; the latter.

    A clip of which nothing is left has no row; a channel that is absent is a row of NaN. The index is written last:
    where one is, the table is whole.

    Raises:
        ClipError: a clip has no label, partition and split; a file shows several people; no stage made features, or not
            equally many of each clip.
    """
    homeless = [clip.clip for clip in clips if not clip.place]
    if homeless:
        raise ClipError(
            f"{len(homeless)} clips have no {', '.join(PLACES)}, such as '{homeless[0]}'.",
            remedy="fill in these columns of the list: a cohort has to know them",
        )
    for reading in readings:
        if len(reading.people) > 1:
            raise ClipError(
                f"The file of clip '{reading.clip}' shows {len(reading.people)} people.",
                remedy="a row of a cohort is one person's: take it off the list, or cut the file; see docs/clips.md",
            )
    rows = [(clip, reading) for clip, reading in zip(clips, readings, strict=True) if reading.features]
    if not rows:
        raise ClipError("No features were made.", remedy="plug in [features], and run `mbd clips read` again")
    features = {modality: _numbers(modality, [reading for _, reading in rows]) for modality in Modality}
    index = StringIO()
    writer = csv.writer(index)
    writer.writerow(["clip", "subject", *PLACES])
    writer.writerows([clip.clip, clip.subject, *(clip.place[column] for column in PLACES)] for clip, _ in rows)
    out.mkdir(parents=True, exist_ok=True)
    paths = {modality: out / f"{modality.value}.npy" for modality in Modality}
    for path in (out / INDEX, *paths.values()):
        path.unlink(missing_ok=True)
    for modality, numbers in features.items():
        if numbers is not None:
            buffer = BytesIO()
            np.lib.format.write_array(buffer, numbers, allow_pickle=False)
            write_durably(paths[modality], buffer.getvalue())
    write_durably(out / INDEX, index.getvalue().encode())
    return {modality: path for modality, path in paths.items() if features[modality] is not None}


def class_names(clips: Sequence[Clip], readings: Sequence[Reading]) -> list[str]:
    """The labels of the table's rows, sorted, where they are no numbers.

    Raises:
        ClipError: one could not be given to `mbd data import table`.
    """
    labels = {
        clip.place["label"] for clip, reading in zip(clips, readings, strict=True) if clip.place and reading.features
    }
    try:
        [float(label) for label in labels]
    except ValueError:
        pass
    else:
        return []
    for label in sorted(labels):
        if "," in label or label != label.strip():
            raise ClipError(f"The label {label!r} names no class.", remedy="use names without commas, or spaces around")
    return sorted(labels)


def _numbers(modality: Modality, readings: Sequence[Reading]) -> np.ndarray | None:
    """[n, F], with NaN where a clip lacks the channel; None if all do."""
    lengths = {len(reading.features[modality]) for reading in readings if modality in reading.features}
    if not lengths:
        return None
    if len(lengths) > 1:
        raise ClipError(
            f"The featurizer made {' and '.join(map(str, sorted(lengths)))} numbers of {modality}.",
            remedy="have it make equally many of every clip",
        )
    absent = (np.nan,) * lengths.pop()
    return np.array([reading.features.get(modality, absent) for reading in readings], np.float32)
