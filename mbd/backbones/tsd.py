"""Tri-Subspace Disentanglement (arXiv 2602.19585): what all channels say, what two of them say, what only one says.

Each channel's encoding is taken apart into its parts in a common subspace (one map for all channels), in one subspace
for each pair that it belongs to (one map for both of the pair) and in a private one. A decoupling supervisor tells the
kinds of parts apart, HSIC keeps a channel's parts independent, alignment makes the channels of a shared subspace agree,
and cross-attention between the kinds with a softmax gate fuses the parts. It knows neither optimiser nor cohort.

Where the equations come from: the maps, the supervisor and the fusion from the paper, by notes on it rather than by its
numbered equations; HSIC from Gretton et al. 2005 in the unbiased estimate of Song et al. 2012, computed by the centring
of Székely and Rizzo 2014; alignment is one minus an intraclass correlation (Fisher 1925).

Legend: B rows, D width, E subspace width, K outputs, M channels, V parts, S kinds of parts or sets of vectors, N rows
that have them.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as f
from torch import Tensor, nn

from mbd.backbones.base import Backbone, Fidelity, Interface, Output
from mbd.backbones.stem import Encoders, GatedMlp, StemOptions
from mbd.cohort.batch import Batch
from mbd.cohort.modality import COLUMN, Modality


@dataclass(frozen=True)
class TsdOptions(StemOptions):
    """Sizes and loss weights.

    Attributes:
        subspace_width: E, of every part; a quarter of D, because a channel among three has four parts.
        supervisor: weight of the cross-entropy by which the decoupling supervisor tells kinds of subspaces apart.
        independence: weight of normalised HSIC, the mean over twos of subspaces.
        alignment: weight of the disagreement within shared subspaces, the mean over twos of channels.
    """

    subspace_width: int = 8
    supervisor: float = 0.1
    independence: float = 0.1
    alignment: float = 0.1


class Part(NamedTuple):
    """What one channel has in one subspace.

    Attributes:
        kind: ``common``, ``pairwise`` or ``private``.
        subspace: its name, which is also that of its map.
        channel: whose encoding is mapped.
    """

    kind: str
    subspace: str
    channel: Modality


class TriSubspaceDisentanglement(Backbone):
    """The TSD network for one, two or three declared channels.

    Three channels have three common parts, six pairwise and three private ones. With two channels the common subspace
    and the pair's have the same members; both are there, and only the supervisor and HSIC make them differ. One channel
    has a common and a private part, no pair, nothing to align, and a supervisor of two kinds.
    """

    name = "tsd"
    Options = TsdOptions
    fidelity: ClassVar[Fidelity] = "partial"
    deviations = (
        "written from the abstract and second-hand notes: sizes, loss weights and the details of the fusion are ours",
        "a subspace is one linear map, without a constant and to a quarter of the width, of a channel's encoding",
        "the supervisor is a linear layer with a 3-way cross-entropy, each kind counting alike; the maps lower it too",
        "the supervisor's printed loss is, by our notes, lowest for a constant: not used",
        "independence is unbiased HSIC, normalised, of a channel's parts and of private ones; no orthogonality",
        "agreement is measured against the spread of rows: parts equal in all rows would agree and say nothing",
        "a channel's part of a pair is fused by itself, so that it is there when the pair's other channel is not",
        "attention goes from each kind of part to the other kinds; the gate is a softmax over the parts that are there",
    )

    options: TsdOptions

    def __init__(self, interface: Interface, options: TsdOptions) -> None:
        super().__init__(interface, options)
        width, channels = options.width, tuple(interface.channels)
        pairs = tuple(combinations(channels, 2))
        self.parts = (
            *(Part("common", "common", m) for m in channels),
            *(Part("pairwise", f"{pair[0]}-{pair[1]}", m) for pair in pairs for m in pair),
            *(Part("private", m.value, m) for m in channels),
        )
        kinds = list(dict.fromkeys(part.kind for part in self.parts))
        self._columns = [COLUMN[part.channel] for part in self.parts]
        self._aligned = [
            (i, j) for (i, x), (j, y) in combinations(enumerate(self.parts), 2) if x.subspace == y.subspace
        ]
        private = {part.channel: v for v, part in enumerate(self.parts) if part.kind == "private"}
        self._independent = [
            *([v for v, part in enumerate(self.parts) if part.channel == m] for m in channels),
            *([private[m], private[n]] for m, n in pairs),
        ]
        self.encoders = Encoders(interface, options)
        self.maps = nn.ModuleDict(
            {
                name: nn.Linear(width, options.subspace_width, bias=False)
                for name in dict.fromkeys(part.subspace for part in self.parts)
            }
        )
        self.supervisor = nn.Linear(options.subspace_width, len(kinds))
        self.fusion = SubspaceAttention(
            options.subspace_width, width, torch.tensor([kinds.index(part.kind) for part in self.parts])
        )
        self.refine = GatedMlp(width, width, hidden=2 * width, dropout=options.dropout)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, interface.outputs)

    def forward(self, batch: Batch) -> Output:
        """Encode what is present, take it apart, fuse the parts, predict."""
        encoded = self.encoders.encoded(self, batch)
        parts_BVE = torch.stack([self.maps[part.subspace](encoded[part.channel]) for part in self.parts], dim=1)
        fused_BD, gate_BV = self.fusion(parts_BVE, batch.present[:, self._columns])
        embedding_BD = self.norm(fused_BD + self.refine(fused_BD))
        weights = [
            gate_BV[:, [v for v, part in enumerate(self.parts) if part.channel == m]].sum(dim=1)
            for m in self.interface.channels
        ]
        return Output(
            prediction=self.answer(self.head(embedding_BD), batch),
            embedding=embedding_BD,
            per_modality=encoded,
            weights=torch.stack(weights, dim=1),
            terms={"parts": parts_BVE},
        )

    def losses(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """The task's loss and the three that shape the subspaces, weighted; a lone channel has nothing to align."""
        parts_BVE, present_BV = output.terms["parts"], batch.present[:, self._columns]
        options = self.options
        terms = {
            "task": self.task_loss(output.prediction, batch),
            "supervisor": options.supervisor * self._supervise(parts_BVE, present_BV),
            "independence": options.independence * self._dependence(parts_BVE, present_BV),
        }
        if self._aligned:
            terms["alignment"] = options.alignment * self._disagreement(parts_BVE, present_BV)
        return terms

    def _supervise(self, parts_BVE: Tensor, present_BV: Tensor) -> Tensor:
        """The cross-entropy of the kinds of the parts that are there, the mean over kinds of each kind's mean."""
        kind_V = self.fusion.kind_V
        log_BVS = self.supervisor(parts_BVE).log_softmax(dim=2)
        surprise_BV = -log_BVS.gather(2, kind_V[None, :, None].expand(len(parts_BVE), -1, 1)).squeeze(2)
        each = [
            (surprise_BV * rows_BV).sum() / rows_BV.sum().clamp(min=1)
            for rows_BV in (present_BV & (kind_V == kind) for kind in range(log_BVS.shape[2]))
        ]
        return torch.stack(each).mean()

    def _dependence(self, parts_BVE: Tensor, present_BV: Tensor) -> Tensor:
        """Normalised HSIC between any two parts of a channel and any two private ones, the mean over these twos."""
        total, count = parts_BVE.new_zeros(()), 0
        for together in self._independent:
            rows_B = present_BV[:, together].all(dim=1)
            hsic_SS = hsic(parts_BVE[rows_B][:, together].transpose(0, 1))
            scale_S = (hsic_SS.diagonal() + 1e-12).sqrt()
            total = total + (hsic_SS / (scale_S[:, None] * scale_S)).triu(1).sum()
            count += len(together) * (len(together) - 1) // 2
        return total / count

    def _disagreement(self, parts_BVE: Tensor, present_BV: Tensor) -> Tensor:
        """How far two channels' parts in a shared subspace disagree, the mean over all twos."""
        each = []
        for i, j in self._aligned:
            rows_B = present_BV[:, i] & present_BV[:, j]
            each.append(disagreement(parts_BVE[rows_B, i], parts_BVE[rows_B, j]))
        return torch.stack(each).mean()


class SubspaceAttention(nn.Module):
    """Subspace-aware cross-attention: each part reads the other kinds' parts, and a softmax gate weighs the parts."""

    kind_V: Tensor

    def __init__(self, subspace_width: int, width: int, kind_V: Tensor) -> None:
        super().__init__()
        self.register_buffer("kind_V", kind_V, persistent=False)
        self.lift = nn.Linear(subspace_width, width)
        self.norm = nn.LayerNorm(width)
        self.kinds = nn.Embedding(int(kind_V.max()) + 1, width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.gate = nn.Linear(width, 1, bias=False)

    def forward(self, parts_BVE: Tensor, present_BV: Tensor) -> tuple[Tensor, Tensor]:
        """[B,V,E] -> the fused [B,D], and the parts' shares in it [B,V], which sum to 1; all zero without any part."""
        # A softmax over nothing would be NaN: in rows without any part all are read, and weighed by zero.
        readable_BV = present_BV | ~present_BV.any(dim=1, keepdim=True)
        other_VV = self.kind_V[:, None] != self.kind_V[None, :]
        lifted_BVD = self.lift(parts_BVE)
        normed_BVD = self.norm(lifted_BVD) + self.kinds(self.kind_V)
        query_BVD, key_BVD, value_BVD = self.query_key_value(normed_BVD).chunk(3, dim=-1)
        read_BVD = f.scaled_dot_product_attention(
            query_BVD, key_BVD, value_BVD, attn_mask=other_VV & readable_BV[:, None, :]
        )
        mixed_BVD = lifted_BVD + self.out(read_BVD)
        score_BV = self.gate(mixed_BVD).squeeze(2).masked_fill(~readable_BV, -torch.inf)
        gate_BV = score_BV.softmax(dim=1) * present_BV
        return (gate_BV[..., None] * mixed_BVD).sum(dim=1), gate_BV


def hsic(x_SNE: Tensor) -> Tensor:
    """The dependence of each two of S sets of N vectors, row by row: unbiased HSIC [S,S]; zero for fewer than 4 rows.

    The Gaussian kernel is as wide as the set's mean squared distance, so that shrinking a set changes nothing. The
    estimate is zero on average where two sets are independent, and so at times below zero.
    """
    sets, rows, _ = x_SNE.shape
    if rows < 4:
        return x_SNE.new_zeros(sets, sets)
    apart_NN = 1.0 - torch.eye(rows, dtype=x_SNE.dtype, device=x_SNE.device)
    centred_SNE = x_SNE - x_SNE.mean(dim=1, keepdim=True)
    length_SN = centred_SNE.square().sum(dim=2)
    product_SNN = centred_SNE @ centred_SNE.transpose(1, 2)
    distance_SNN = (length_SN[:, :, None] + length_SN[:, None, :] - 2 * product_SNN) * apart_NN
    width_S = distance_SNN.sum(dim=(1, 2)) / (rows * (rows - 1))
    kernel_SNN = torch.exp(-distance_SNN / (width_S[:, None, None] + 1e-6)) * apart_NN
    sum_SN = kernel_SNN.sum(dim=2) / (rows - 2)
    sum_S = sum_SN.sum(dim=1) / (rows - 1)
    flat_SN = ((kernel_SNN - sum_SN[:, :, None] - sum_SN[:, None, :] + sum_S[:, None, None]) * apart_NN).flatten(1)
    return flat_SN @ flat_SN.T / (rows * (rows - 3))


def disagreement(x_NE: Tensor, y_NE: Tensor) -> Tensor:
    """One minus the intraclass correlation of paired vectors: 0 when equal, 1 when unrelated, 2 when opposite."""
    if len(x_NE) < 2:
        return x_NE.new_zeros(())
    both_2NE = torch.stack([x_NE, y_NE])
    spread = (both_2NE - both_2NE.mean(dim=(0, 1))).square().sum(dim=2).mean()
    return (x_NE - y_NE).square().sum(dim=1).mean() / (2 * spread + 1e-6)
