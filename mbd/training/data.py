"""Which rows a run may look at: public ones, and others only when the caller names them. It knows no network.

A cohort is cut down to these rows before anything reads a feature, so no other row can shape weights, constants,
the choice of an epoch or a digest.
"""

from collections.abc import Collection

import numpy as np

from mbd.cohort.cohort import Cohort, Partition, Split
from mbd.errors import TrainingError
from mbd.hashing import arrays_digest, json_digest


def public_rows(cohort: Cohort) -> tuple[Cohort, Cohort]:
    """The public training rows and the public validation rows.

    Raises:
        TrainingError: either is empty.
    """
    train = cohort.where(partition=Partition.PUBLIC, split=Split.TRAIN)
    valid = cohort.where(partition=Partition.PUBLIC, split=Split.VALID)
    for rows, what in ((train, "train on"), (valid, "select on")):
        if not len(rows):
            raise TrainingError(
                f"Cohort '{cohort.name}' has no public rows to {what}.",
                remedy="put some consenting subjects into the public partition, in both the train and the valid split",
            )
    return train, valid


def training_rows(cohort: Cohort, partitions: Collection[Partition]) -> Cohort:
    """The training rows of these partitions, in the cohort's order.

    Raises:
        TrainingError: there is none.
    """
    train = cohort.where(split=Split.TRAIN)
    named = train.select([i for i, row in enumerate(train.rows) if row.partition in partitions])
    if not len(named):
        raise TrainingError(
            f"Cohort '{cohort.name}' has no training rows in the partitions {sorted(map(str, partitions))}.",
            remedy="name a partition that has training rows",
        )
    return named


def data_digest(*parts: Cohort, context: bool = False) -> str:
    """SHA-256 (hex) over features, frames, presence and labels in order; clips and subjects are not named.

    Args:
        parts: the rows.
        context: whether the clip before each row is read with it, so that which one it is belongs to the data.
    """
    return json_digest([_part_digest(part, context=context) for part in parts])


def _part_digest(part: Cohort, *, context: bool) -> str:
    arrays = {"targets": part.targets, "presence": part.presence}
    if context:
        arrays["before"] = np.array([-1 if i is None else i for i in part.before], dtype=np.int64)
    for modality in part.modalities:
        present = [i for i in range(len(part)) if modality in part.present(i)]
        frames = [np.atleast_2d(part.feature(i, modality)) for i in present]
        width = part.channels[modality].dim
        arrays[f"{modality.value} features"] = np.concatenate([np.empty((0, width), np.float32), *frames])
        arrays[f"{modality.value} frames"] = np.array([len(rows) for rows in frames], dtype=np.int64)
    return arrays_digest(arrays)
