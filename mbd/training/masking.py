"""Masked training: every row practises every way in which its channels could be missing. It knows no network."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mbd.cohort.modality import Modality, ModalitySet


def as_columns(patterns: Sequence[ModalitySet]) -> Tensor:
    """Patterns as booleans [N,3], columns in declaration order of `Modality`."""
    return torch.tensor([[modality in pattern for modality in Modality] for pattern in patterns])


def draw_patterns(present_BM: Tensor, patterns_NM: Tensor) -> Tensor:
    """For each row one of the patterns, uniform among those that the row's channels allow [B,3].

    Draws from torch's current generator. A row's own channels are always one of the choices, so no row is left without.
    """
    allowed_BN = ~(patterns_NM[None] & ~present_BM[:, None]).any(dim=2)
    choice_B = torch.multinomial(allowed_BN.double(), 1).squeeze(1)
    return patterns_NM[choice_B]
