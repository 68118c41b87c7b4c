"""Readings as the table that `mbd data import table` makes a cohort of. It runs no stage."""

import csv
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import numpy as np

from mbd.clips.manifest import PLACES, Clip
from mbd.clips.pipeline import Reading
from mbd.cohort.modality import Modality
from mbd.durable import write_durably
from mbd.errors import ClipError

INDEX = "index.csv"


def write_table(clips: Sequence[Clip], readings: Sequence[Reading], out: Path) -> dict[Modality, Path]:
    """Write ``index.csv`` and an ``.npz`` for each modality; the latter.

    Raises:
        ClipError: a clip has no label, partition and split, or no stage made features.
    """
    homeless = [clip.clip for clip in clips if not clip.place]
    if homeless:
        raise ClipError(
            f"{len(homeless)} clips have no {', '.join(PLACES)}, such as '{homeless[0]}'.",
            remedy="fill in these columns of the list: a cohort has to know them",
        )
    features = {
        modality: {r.clip: np.array(r.features[modality], np.float32) for r in readings if modality in r.features}
        for modality in Modality
    }
    if not any(features.values()):
        raise ClipError("No features were made.", remedy="plug in [features], and run `mbd clips read` again")
    out.mkdir(parents=True, exist_ok=True)
    index = StringIO()
    writer = csv.writer(index)
    writer.writerow(["clip", "subject", *PLACES])
    writer.writerows([clip.clip, clip.subject, *(clip.place[column] for column in PLACES)] for clip in clips)
    write_durably(out / INDEX, index.getvalue().encode())
    files = {}
    for modality, arrays in features.items():
        path = out / f"{modality.value}.npz"
        path.unlink(missing_ok=True)
        if arrays:
            np.savez(path, allow_pickle=False, **arrays)
            files[modality] = path
    return files
