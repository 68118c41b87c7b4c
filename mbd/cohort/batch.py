"""Rows of a cohort as tensors. It knows shapes, padding and absence; it knows no network and no loss.

Letters: B rows of the batch, T_m frames of channel m (1 for vectors), F_m numbers a frame, K outputs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mbd.cohort.cohort import Channel, Cohort, Feature
from mbd.cohort.modality import COLUMN, Modality


@dataclass(frozen=True, eq=False)
class Batch:
    """What a network reads.

    Attributes:
        features: [B, T_m, F_m] for each channel of the cohort; zeros where nothing was observed, on which nobody may
            rely.
        valid: bool [B, T_m]; False where a frame is padding, and in every frame of an absent channel, so that not even
            the length of a withdrawn channel can be read.
        observed: bool [B, T_m]; of the valid frames, those that arrived. All, unless a protocol loses some.
        present: bool [B, 3], columns in Modality's order; False where the row does not have the channel.
        target: [B, K].
        context: for each row the clip before it of the same recording (`Cohort.before`), with the same channels and
            without a label; None where nobody asked for it.
    """

    features: dict[Modality, Tensor]
    valid: dict[Modality, Tensor]
    observed: dict[Modality, Tensor]
    present: Tensor
    target: Tensor
    context: "Batch | None" = None

    def select(self, rows: Tensor) -> "Batch":
        """The rows at these positions (int64 [N]), padded as they are here."""
        return _each(self, lambda tensor: tensor[rows])

    def to(self, device: str) -> "Batch":
        """The same rows on this device; the very same batch where it is there already."""
        return self if self.target.device.type == device else _each(self, lambda tensor: tensor.to(device))

    def mask(self, present: Tensor) -> "Batch":
        """The same rows, and what came before them, with only the channels that are present here and in ``present``.

        Args:
            present: bool [B, 3].
        """
        both = self.present & present
        kept = {m: both[:, COLUMN[m], None] for m in self.features}
        return Batch(
            features={m: torch.where(kept[m][..., None], x, torch.zeros_like(x)) for m, x in self.features.items()},
            valid={m: valid & kept[m] for m, valid in self.valid.items()},
            observed={m: observed & kept[m] for m, observed in self.observed.items()},
            present=both,
            target=self.target,
            context=self.context and self.context.mask(present),
        )

    def lose(self, arrived: Mapping[Modality, Tensor]) -> "Batch":
        """The same rows without the frames that did not arrive; a channel none of whose frames did is absent.

        Args:
            arrived: bool [B, T_m], for the channels that lost frames.
        """
        observed = {m: seen & arrived[m] if m in arrived else seen for m, seen in self.observed.items()}
        some = {m: seen.any(dim=1) for m, seen in observed.items()}
        present = self.present.clone()
        for m in arrived:
            present[:, COLUMN[m]] &= some[m]
        return replace(
            self,
            features={m: torch.where(observed[m][..., None], x, torch.zeros_like(x)) for m, x in self.features.items()},
            valid={m: valid & some[m][:, None] for m, valid in self.valid.items()},
            observed=observed,
            present=present,
        )


def _each(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    """The batch with every tensor changed, and those of the clips before."""
    return Batch(
        features={m: change(x) for m, x in batch.features.items()},
        valid={m: change(valid) for m, valid in batch.valid.items()},
        observed={m: change(observed) for m, observed in batch.observed.items()},
        present=change(batch.present),
        target=change(batch.target),
        context=batch.context and _each(batch.context, change),
    )


def make_batch(
    cohort: Cohort, indices: Sequence[int], dtype: torch.dtype = torch.float32, *, context: bool = False
) -> Batch:
    """The rows at these indices; T_m is the longest sequence among them, and 1 if none has channel m.

    Args:
        cohort: whose rows; the clips before them are looked for here, too.
        indices: which.
        dtype: of features and targets.
        context: whether the network reads the clip before each row.
    """
    target = torch.from_numpy(cohort.targets[np.asarray(indices, dtype=np.int64)]).to(dtype)
    before = _batch(cohort, [cohort.before[i] for i in indices], torch.zeros_like(target)) if context else None
    return replace(_batch(cohort, indices, target), context=before)


def _batch(cohort: Cohort, indices: Sequence[int | None], target: Tensor) -> Batch:
    """The rows at these indices, with these labels; a row without an index has no channel."""
    features: dict[Modality, Tensor] = {}
    valid: dict[Modality, Tensor] = {}
    present = torch.zeros(len(indices), len(Modality), dtype=torch.bool)
    for modality in cohort.modalities:
        rows = [None if i is None else cohort.features[modality][i] for i in indices]
        padded, frames = _pad(rows, cohort.channels[modality])
        features[modality] = torch.from_numpy(padded).to(target.dtype)
        valid[modality] = torch.from_numpy(frames)
        present[:, COLUMN[modality]] = torch.tensor([row is not None for row in rows], dtype=torch.bool)
    return Batch(features, valid, dict(valid), present, target)


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
