"""What a condition of `mbd.cohort.protocols` means for the rows of one cohort: drawn, digested, applied to batches.

Whatever is drawn for a clip has a stream of its own for every (seed, split, modality, clip, rate): neither the order of
the rows, nor a deleted row, nor another modality, nor padding changes what the clip keeps. It knows no model.

Letters: n rows of the cohort; B rows of a batch, T frames of a channel, F numbers a frame.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mbd.cohort.batch import Batch
from mbd.cohort.cohort import Cohort, Row, Split
from mbd.cohort.modality import COLUMN, Modality
from mbd.cohort.protocols import Condition, availability, imbalanced_missing
from mbd.cohort.streams import generator
from mbd.errors import CohortError
from mbd.hashing import arrays_digest, json_digest

Booleans = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Masks:
    """What is left of each row.

    Attributes:
        present: bool [n, 3], the channels that a row keeps, columns in Modality's order.
        arrived: bool [T] for a row that keeps the channel and loses some of its frames, None for any other; only for
            channels in which some row does.
        noise: standard deviations of the noise that every number gets, in units of its feature's own.
        seed: of the noise.
        clips: the rows' splits and clip ids.
        before: of each row, the row of the clip before it (`Cohort.before`).
    """

    present: Booleans
    arrived: Mapping[Modality, tuple[Booleans | None, ...]]
    noise: float
    seed: int
    clips: tuple[tuple[Split, str], ...]
    before: tuple[int | None, ...]

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of what is done to which rows: two protocols that do the same to the same rows share it."""
        arrays: dict[str, NDArray[np.bool_] | NDArray[np.int64]] = {"present": self.present}
        for modality, by_row in self.arrived.items():
            losing = {i: frames for i, frames in enumerate(by_row) if frames is not None}
            arrays[f"{modality.value} rows"] = np.array(list(losing), dtype=np.int64)
            arrays[f"{modality.value} frames"] = np.array([len(frames) for frames in losing.values()], dtype=np.int64)
            arrays[f"{modality.value} arrived"] = np.concatenate(list(losing.values()))
        return json_digest(
            {
                "format": "mbd masks v1",
                "clips": [[split.value, clip] for split, clip in self.clips],
                "arrays": arrays_digest(arrays),
                "noise": {"deviations": self.noise, "seed": self.seed} if self.noise else None,
            }
        )

    def apply(self, batch: Batch, rows: Sequence[int | None], scales: Mapping[Modality, Floats] | None = None) -> Batch:
        """The batch with what is left of its rows.

        The clip before a row has lost what it loses as a row of its own, and the channels that the row loses.

        Args:
            batch: what `make_batch` made of these rows of the cohort, on the CPU.
            rows: which rows they are.
            scales: [F] for each channel, the standard deviations of its features; only noise needs them.

        Raises:
            CohortError: noise is added to a channel whose standard deviations are not given.
        """
        before = [None if i is None else self.before[i] for i in rows]
        context = None if batch.context is None else self.apply(batch.context, before, scales)
        noisy = replace(batch, features=self._noisy(batch, rows, scales or {}), context=context)
        present = np.stack([np.zeros(len(Modality), dtype=np.bool_) if i is None else self.present[i] for i in rows])
        return noisy.mask(torch.from_numpy(present)).lose(self._arrived(batch, rows))

    def _arrived(self, batch: Batch, rows: Sequence[int | None]) -> dict[Modality, Tensor]:
        """Bool [B, T] for the channels that lose frames."""
        arrived = {modality: torch.ones_like(batch.valid[modality]) for modality in self.arrived}
        for modality, by_row in self.arrived.items():
            for b, i in enumerate(rows):
                frames = None if i is None else by_row[i]
                if frames is not None:
                    arrived[modality][b, : len(frames)] = torch.from_numpy(frames)
        return arrived

    def _noisy(
        self, batch: Batch, rows: Sequence[int | None], scales: Mapping[Modality, Floats]
    ) -> dict[Modality, Tensor]:
        """[B, T, F] for each channel. Which frames are lost later makes no difference to anybody's noise."""
        if not self.noise:
            return batch.features
        noisy = {}
        for modality, features_BTF in batch.features.items():
            if modality not in scales:
                raise CohortError(
                    f"There is no saying how much noise of {self.noise} standard deviations is for {modality}.",
                    remedy="give the standard deviations of every channel's features",
                )
            noise_BTF = np.zeros(features_BTF.shape)
            for b, (i, frames) in enumerate(zip(rows, batch.valid[modality].sum(dim=1).tolist(), strict=True)):
                if i is not None and frames:
                    split, clip = self.clips[i]
                    stream = generator("mbd feature noise v1", self.seed, split, modality, clip, self.noise)
                    noise_BTF[b, :frames] = stream.standard_normal((frames, features_BTF.shape[2]))
            noise_BTF *= self.noise * scales[modality]
            noisy[modality] = features_BTF + torch.from_numpy(noise_BTF).to(features_BTF.dtype)
        return noisy


def draw_masks(cohort: Cohort, condition: Condition, seed: int) -> Masks:
    """What the condition leaves of each row, a function of the seed and of the row alone."""
    present = imbalanced_missing(cohort, condition.missing, seed)
    if condition.pattern is not None:
        present &= availability(cohort, condition.pattern)
    arrived: dict[Modality, tuple[Booleans | None, ...]] = {}
    for modality in cohort.modalities if condition.lost or condition.span else ():
        column = COLUMN[modality]
        by_row: list[Booleans | None] = [None] * len(cohort)
        for i in np.flatnonzero(present[:, column]).tolist():
            count = len(np.atleast_2d(cohort.feature(i, modality)))
            frames = _arrived_frames(cohort.rows[i], modality, count, condition, seed)
            present[i, column] = frames.any()
            by_row[i] = frames if frames.any() and not frames.all() else None
        if any(frames is not None for frames in by_row):
            arrived[modality] = tuple(by_row)
    clips = tuple((row.split, row.clip) for row in cohort.rows)
    return Masks(present, arrived, condition.noise, seed, clips, cohort.before)


def _arrived_frames(row: Row, modality: Modality, count: int, condition: Condition, seed: int) -> Booleans:
    """Which of a clip's frames arrive [T].

    A span's length is rounded up or down at random, so that a share of the frames is lost on the average even of short
    sequences, and a vector is lost as often as any frame.
    """
    arrived = np.ones(count, dtype=np.bool_)
    if condition.lost:
        each = generator("mbd lost frames v1", seed, row.split, modality, row.clip, condition.lost)
        arrived &= each.random(count) >= condition.lost
    if condition.span:
        piece = generator("mbd lost span v1", seed, row.split, modality, row.clip, condition.span)
        length = min(count, int(condition.span * count + piece.random()))
        start = int(piece.random() * (count - length + 1))
        arrived[start : start + length] = False
    return arrived
