"""Standardisation of channels and labels by constants of the public training rows, which travel with the weights.

It does not know which rows are public: the caller hands it the right ones.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from mbd.cohort.cohort import Cohort
from mbd.cohort.modality import Modality

LIMIT = 5.0
"""Standardised features are clipped here: hand-made audio features have outliers of hundreds of standard deviations."""


class Standardiser(nn.Module):
    """Mean and scale per feature, and of the labels (one common scale). The identity until it is fitted."""

    def __init__(self, dims: Mapping[Modality, int], outputs: int) -> None:
        super().__init__()
        for modality, dim in dims.items():
            self.register_buffer(f"{modality.value}_mean", torch.zeros(dim))
            self.register_buffer(f"{modality.value}_scale", torch.ones(dim))
        self.register_buffer("target_mean", torch.zeros(outputs))
        self.register_buffer("target_scale", torch.ones(()))

    def fit(self, cohort: Cohort) -> None:
        """Take the constants from all rows of ``cohort`` (frames count singly); a constant feature gets scale 1."""
        for modality in cohort.modalities:
            rows = [cohort.feature(i, modality) for i in range(len(cohort)) if modality in cohort.present(i)]
            if not rows:
                continue
            frames_NF = np.concatenate([np.atleast_2d(row) for row in rows]).astype(np.float64)
            mean_F = frames_NF.mean(axis=0)
            self._set(f"{modality.value}_mean", mean_F)
            self._set(f"{modality.value}_scale", _scale(frames_NF.std(axis=0), np.abs(mean_F)))
        targets_NK = cohort.targets
        self._set("target_mean", targets_NK.mean(axis=0))
        self._set("target_scale", _scale(np.sqrt(targets_NK.var(axis=0).mean()), np.abs(targets_NK).max()))

    def features(self, modality: Modality, features_BTF: Tensor, observed_BT: Tensor) -> Tensor:
        """Standardised and clipped features [B,T,F]; zero where nothing was observed, even where a NaN stands."""
        mean_F, scale_F = self.get_buffer(f"{modality.value}_mean"), self.get_buffer(f"{modality.value}_scale")
        standard_BTF = ((features_BTF.to(mean_F.dtype) - mean_F) / scale_F).clamp(-LIMIT, LIMIT)
        return torch.where(observed_BT[..., None], standard_BTF, 0.0)

    def target(self, target_BK: Tensor) -> Tensor:
        """Labels in standard units."""
        mean_K = self.get_buffer("target_mean")
        return (target_BK.to(mean_K.dtype) - mean_K) / self.get_buffer("target_scale")

    def prediction(self, standard_BK: Tensor) -> Tensor:
        """From standard units back to the label's own; the inverse of `target`."""
        return standard_BK * self.get_buffer("target_scale") + self.get_buffer("target_mean")

    def _set(self, name: str, values: np.ndarray) -> None:
        self.get_buffer(name).copy_(torch.from_numpy(np.asarray(values)))


def _scale(deviation: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The deviation, or 1 where it is no more than the rounding of values of this size: that must stay small."""
    return np.where(deviation > 1e-6 * size, deviation, 1.0)
