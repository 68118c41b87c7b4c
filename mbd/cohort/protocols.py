"""Which channels an evaluation may see: fixed patterns and random missing channels.

A mask is bool [n, 3], columns in Modality's order, never more than what the rows have; `Batch.mask` applies it. A row
may end up with nothing: models answer such a row with their prior. It knows nothing of models or metrics.
"""

import hashlib
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from mbd.cohort.cohort import Cohort
from mbd.cohort.modality import Modality
from mbd.errors import CohortError
from mbd.hashing import canonical_json


def availability(cohort: Cohort, pattern: Collection[Modality]) -> NDArray[np.bool_]:
    """Fixed missing: every row keeps the channels of the pattern that it has."""
    mask = np.zeros((len(cohort), len(Modality)), dtype=np.bool_)
    for column, modality in enumerate(Modality):
        if modality in cohort.modalities and modality in pattern:
            mask[:, column] = cohort.presence[:, cohort.modalities.index(modality)]
    return mask


def random_missing(cohort: Cohort, rate: float, seed: int) -> NDArray[np.bool_]:
    """Random missing: each channel of each row is absent with probability ``rate``, independently.

    Every (seed, split, modality, clip, rate) has its own stream, so that neither the order of the rows, nor a deleted
    row, nor another modality changes what a clip keeps.

    Raises:
        CohortError: the rate is not in [0, 1].
    """
    if not 0 <= rate <= 1:
        raise CohortError(f"{rate} is no rate of missing channels.", remedy="use a number from 0 to 1")
    kept = [
        [_uniform(seed, row.split, modality, row.clip, rate) >= rate for modality in Modality] for row in cohort.rows
    ]
    return availability(cohort, cohort.modalities) & np.array(kept, dtype=np.bool_).reshape(-1, len(Modality))


def _uniform(*stream: int | float | str) -> float:
    """The stream's first number, uniform on [0, 1): 53 bits of the SHA-256 of its name."""
    name = hashlib.sha256(b"mbd random missing v1\0" + canonical_json(list(stream))).digest()
    return (int.from_bytes(name[:8], "big") >> 11) / 2**53
