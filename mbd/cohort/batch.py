"""Rows of a cohort as tensors. It knows shapes, padding and absence; it knows no network and no loss.

Letters: B rows of the batch, T_m frames of channel m (1 for vectors), F_m numbers a frame, K outputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mbd.cohort.cohort import Channel, Cohort, Feature
from mbd.cohort.modality import Modality

_COLUMN = {modality: column for column, modality in enumerate(Modality)}


@dataclass(frozen=True, eq=False)
class Batch:
    """What a network reads.

    Attributes:
        features: [B, T_m, F_m] for each channel of the cohort; zeros where absent or padded, which nobody may rely on.
        valid: bool [B, T_m]; False where a frame is padding, and in every frame of an absent channel, so that not even
            the length of a withdrawn channel can be read.
        present: bool [B, 3], columns in Modality's order; False where the row does not have the channel.
        target: [B, K].
    """

    features: dict[Modality, Tensor]
    valid: dict[Modality, Tensor]
    present: Tensor
    target: Tensor

    def select(self, rows: Tensor) -> "Batch":
        """The rows at these positions (int64 [N]), padded as they are here."""
        return Batch(
            features={m: x[rows] for m, x in self.features.items()},
            valid={m: valid[rows] for m, valid in self.valid.items()},
            present=self.present[rows],
            target=self.target[rows],
        )

    def to(self, device: str) -> "Batch":
        """The same rows on this device; the very same batch where it is there already."""
        if self.target.device.type == device:
            return self
        return Batch(
            features={m: x.to(device) for m, x in self.features.items()},
            valid={m: valid.to(device) for m, valid in self.valid.items()},
            present=self.present.to(device),
            target=self.target.to(device),
        )

    def mask(self, present: Tensor) -> "Batch":
        """The same rows with only the channels that are present here and in ``present`` (bool [B, 3])."""
        both = self.present & present
        return replace(
            self,
            features={
                m: torch.where(both[:, _COLUMN[m], None, None], x, torch.zeros_like(x))
                for m, x in self.features.items()
            },
            valid={m: valid & both[:, _COLUMN[m], None] for m, valid in self.valid.items()},
            present=both,
        )


def make_batch(cohort: Cohort, indices: Sequence[int], dtype: torch.dtype = torch.float32) -> Batch:
    """The rows at these indices; T_m is the longest sequence among them, and 1 if none has channel m."""
    features: dict[Modality, Tensor] = {}
    valid: dict[Modality, Tensor] = {}
    present = torch.zeros(len(indices), len(Modality), dtype=torch.bool)
    for modality in cohort.modalities:
        rows = [cohort.features[modality][i] for i in indices]
        padded, frames = _pad(rows, cohort.channels[modality])
        features[modality] = torch.from_numpy(padded).to(dtype)
        valid[modality] = torch.from_numpy(frames)
        present[:, _COLUMN[modality]] = torch.tensor([row is not None for row in rows], dtype=torch.bool)
    target = torch.from_numpy(cohort.targets[np.asarray(indices, dtype=np.int64)]).to(dtype)
    return Batch(features, valid, present, target)


def _pad(rows: Sequence[Feature | None], channel: Channel) -> tuple[np.ndarray, np.ndarray]:
    """([B, T, F] float32, [B, T] bool): the rows one above the other, zeros after their end."""
    frames = [None if row is None else row.reshape(-1, channel.dim) for row in rows]
    longest = max((len(frame) for frame in frames if frame is not None), default=1)
    padded = np.zeros((len(rows), longest, channel.dim), dtype=np.float32)
    valid = np.zeros((len(rows), longest), dtype=np.bool_)
    for b, frame in enumerate(frames):
        if frame is not None:
            padded[b, : len(frame)] = frame
            valid[b, : len(frame)] = True
    return padded, valid
