"""What the networks of the zoo share: from the frames of one channel to vectors, by one encoder a channel.

It knows no fusion, no loss and no optimiser. Legend: B rows, T frames, F raw features, D embedding width.
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as f
from torch import Tensor, nn

from mbd.backbones.base import Backbone, Interface
from mbd.cohort.batch import Batch
from mbd.cohort.modality import Modality


@dataclass(frozen=True)
class StemOptions:
    """Sizes of the stem, alike for all networks unless a recipe says otherwise.

    Attributes:
        width: D, of every channel's X^m and of Z.
        dropout: after every hidden layer.
        input_dropout: on standardised input features, in training only.
    """

    width: int = 32
    dropout: float = 0.3
    input_dropout: float = 0.5


class GatedMlp(nn.Module):
    """Two linear layers around a gated linear unit (Shazeer 2020, GLU with a SiLU gate)."""

    def __init__(self, inputs: int, outputs: int, *, hidden: int, dropout: float) -> None:
        super().__init__()
        self.up = nn.Linear(inputs, 2 * hidden)
        self.dropout = nn.Dropout(dropout)
        self.down = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[B,inputs] -> [B,outputs]."""
        value, gate = self.up(x).chunk(2, dim=-1)
        gated: Tensor = self.down(self.dropout(value * f.silu(gate)))
        return gated


class FrameAttention(nn.Module):
    """One pre-norm self-attention layer over the observed frames, with sinusoidal positions (Vaswani et al. 2017)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x_BTD: Tensor, readable_BT: Tensor) -> Tensor:
        """[B,T,D] -> [B,T,D]; frames outside ``readable_BT`` are attended to by nobody."""
        normed_BTD = self.norm(x_BTD) + _positions(x_BTD)
        query_BTD, key_BTD, value_BTD = self.query_key_value(normed_BTD).chunk(3, dim=-1)
        mixed_BTD = f.scaled_dot_product_attention(query_BTD, key_BTD, value_BTD, attn_mask=readable_BT[:, None, :])
        attended_BTD: Tensor = x_BTD + self.out(mixed_BTD)
        return attended_BTD


def _positions(x_BTD: Tensor) -> Tensor:
    """Sinusoidal positions [T,D] in the type of ``x_BTD``."""
    frames, width = x_BTD.shape[1:]
    rates_H = torch.exp(
        torch.arange(0, width, 2, dtype=x_BTD.dtype, device=x_BTD.device) * (-math.log(10_000.0) / width)
    )
    angles_TH = torch.arange(frames, dtype=x_BTD.dtype, device=x_BTD.device)[:, None] * rates_H
    return torch.stack([angles_TH.sin(), angles_TH.cos()], dim=-1).flatten(1)[:, :width]


class Encoder(nn.Module):
    """Standardised features of one channel -> X^m [B,D]: projection, attention for sequences, attentive pooling."""

    def __init__(self, features: int, *, sequence: bool, options: StemOptions) -> None:
        super().__init__()
        width = options.width
        self.input_dropout = nn.Dropout(options.input_dropout)
        self.project = nn.Linear(features, width)
        self.mix = FrameAttention(width) if sequence else None
        self.pool = nn.Linear(width, 1)
        self.refine = GatedMlp(width, width, hidden=2 * width, dropout=options.dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, features_BTF: Tensor, observed_BT: Tensor) -> Tensor:
        """[B,T,F] -> [B,D]; zero in rows without any observed frame."""
        return self.pooled(self.frames(features_BTF, observed_BT), observed_BT)

    def frames(self, features_BTF: Tensor, observed_BT: Tensor) -> Tensor:
        """[B,T,F] -> [B,T,D]; what stands in frames that were not observed is finite, and not to be read."""
        x_BTD: Tensor = self.project(self.input_dropout(features_BTF))
        return x_BTD if self.mix is None else self.mix(x_BTD, _readable(observed_BT))

    def pooled(self, x_BTD: Tensor, observed_BT: Tensor) -> Tensor:
        """[B,T,D] -> [B,D]: the observed frames by their shares; zero in rows without any."""
        if x_BTD.shape[1] == 1 and not torch.is_grad_enabled():
            pooled_BD = x_BTD[:, 0]  # the only frame's share is exactly 1, and so not worth computing
        else:
            share_BT = self.pool(x_BTD).squeeze(-1).masked_fill(~_readable(observed_BT), -torch.inf).softmax(dim=1)
            pooled_BD = (share_BT[..., None] * x_BTD).sum(dim=1)
        encoded_BD: Tensor = self.norm(pooled_BD + self.refine(pooled_BD))
        return torch.where(observed_BT.any(dim=1, keepdim=True), encoded_BD, 0.0)


def _readable(observed_BT: Tensor) -> Tensor:
    """The observed frames; in a row without any the first one, which is zero: a softmax over nothing would be NaN."""
    readable_BT = observed_BT.clone()
    readable_BT[:, 0] |= ~observed_BT.any(dim=1)
    return readable_BT


def mean_over(value: Tensor, counted: Tensor) -> Tensor:
    """The mean of the entries that count (of the same shape, True or 1); zero when there is none."""
    return (value * counted).sum() / counted.sum().clamp(min=1)


def gaussian_nll(squared_error: Tensor, log_variance: Tensor) -> Tensor:
    """The negative log-likelihood [...] of errors with this variance; its constant is left out."""
    return 0.5 * (squared_error * torch.exp(-log_variance) + log_variance)


@dataclass(frozen=True)
class Frames:
    """One channel of a batch, frame by frame.

    Attributes:
        x: [B,T,D]; zero in frames that were not observed.
        observed: bool [B,T].
    """

    x: Tensor
    observed: Tensor


class Encoders(nn.ModuleDict):
    """An `Encoder` for each channel of an interface."""

    def __init__(self, interface: Interface, options: StemOptions) -> None:
        super().__init__(
            {m.value: Encoder(s.dim, sequence=s.sequence, options=options) for m, s in interface.channels.items()}
        )
        self._width = options.width

    def encoded(self, backbone: Backbone, batch: Batch) -> dict[Modality, Tensor]:
        """X^m [B,D] of every channel, zero in rows without it."""
        return {m: self._encode(m, backbone, batch) for m in backbone.interface.channels}

    def frames(self, backbone: Backbone, batch: Batch) -> dict[Modality, Frames]:
        """Every channel frame by frame; one frame that was not observed where the batch lacks the channel."""
        found = {}
        for modality in backbone.interface.channels:
            features_BTF, observed_BT = backbone.read(modality, batch)
            x_BTD = self.of(modality).frames(features_BTF, observed_BT)
            found[modality] = Frames(torch.where(observed_BT[..., None], x_BTD, 0.0), observed_BT)
        return found

    def _encode(self, modality: Modality, backbone: Backbone, batch: Batch) -> Tensor:
        if modality not in batch.features:  # not worth computing
            return backbone.standardiser.get_buffer("target_mean").new_zeros(len(batch.present), self._width)
        encoded_BD: Tensor = self.of(modality)(*backbone.read(modality, batch))
        return encoded_BD

    def of(self, modality: Modality) -> Encoder:
        """One channel's encoder."""
        return cast(Encoder, self[modality.value])
