"""CAGMamba (arXiv 2604.03650): the clip before and the clip itself as an ordered pair, scanned by state-space mixers.

Each channel's pair goes through a mixer of its own, and the pair of all channels side by side through a cross-modal
one; a gate decides, number by number, how much the latter adds: gate = sigmoid(W [t; a; v]), out = uni + gate * cross.
It knows neither optimiser nor cohort.

Legend: B rows, D width, E inner width of a mixer, I its inputs, K outputs, M channels; a pair is a sequence of two.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mbd.backbones.base import Backbone, Fidelity, Interface, Output
from mbd.backbones.scan import SelectiveStateSpace
from mbd.backbones.stem import Encoders, StemOptions
from mbd.cohort.batch import Batch
from mbd.cohort.modality import Modality


@dataclass(frozen=True)
class CagMambaOptions(StemOptions):
    """Sizes and loss weights.

    Attributes:
        states: N, the states of each inner channel of a mixer.
        context_dropout: in training, so often is a row shown without the clip before it, as it is in the lattice.
        fused: weight of the L1 loss of the prediction.
        branch: weight of each channel's own L1 loss.
    """

    states: int = 8
    context_dropout: float = 0.3
    fused: float = 0.3
    branch: float = 0.3


class Mixer(nn.Module):
    """A Mamba layer over pairs, read at the second: norm, projection, selective scan, projection."""

    def __init__(self, inputs: int, options: CagMambaOptions) -> None:
        super().__init__()
        inner = 2 * options.width
        self.norm = nn.LayerNorm(inputs)
        self.up = nn.Linear(inputs, 2 * inner)
        self.scan = SelectiveStateSpace(inner, options.states)
        self.dropout = nn.Dropout(options.dropout)
        self.down = nn.Linear(inner, options.width)

    def forward(self, pair_B2I: Tensor, there_B2: Tensor) -> Tensor:
        """[B,2,I] -> [B,D]: the second, given the first; zero in rows without a second."""
        value_B2E, gate_B2E = self.up(self.norm(pair_B2I)).chunk(2, dim=-1)
        last_BE = self.scan(value_B2E, gate_B2E, there_B2)[:, 1]
        return torch.where(there_B2[:, 1:], self.down(self.dropout(last_BE)), 0.0)


class CagMamba(Backbone):
    """The CAGMamba network for one, two or three declared channels."""

    name = "cagmamba"
    Options = CagMambaOptions
    fidelity: ClassVar[Fidelity] = "partial"
    reads_context = True
    deviations = (
        "vision is a third channel beside the paper's text and audio: its own mixer, its part of the gate, its branch",
        "a clip is the stem's one vector a channel, from frozen features, not from fine-tuned language models",
        "the pair is one clip before and the clip itself, and it is scanned forwards alone: the clip is read last",
        "a clip before that does not exist, or a channel that it lacks, is a step that leaves the state as it is",
        "in training some rows are shown without the clip before, because the lattice never has it",
        "uni is the mean over the channels that a row has, each its encoding plus what its mixer adds",
        "a squared loss in standard units is added to the three (here up to four) L1 losses: epochs are chosen by it",
        "the mixers leave out Mamba's short convolution: a pair has no neighbourhood",
    )

    options: CagMambaOptions

    def __init__(self, interface: Interface, options: CagMambaOptions) -> None:
        super().__init__(interface, options)
        width, names = options.width, [m.value for m in interface.channels]
        self.encoders = Encoders(interface, options)
        self.mixers = nn.ModuleDict({n: Mixer(width, options) for n in names})
        self.cross = Mixer(width * len(names), options)
        self.gate = nn.Linear(width * len(names), width)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, interface.outputs)
        self.branches = nn.ModuleDict({n: nn.Linear(width, interface.outputs) for n in names})

    def forward(self, batch: Batch) -> Output:
        """Encode both clips, scan the pair channel by channel and all channels together, gate, predict."""
        current, there_BM = self.encoders.encoded(self, batch), self.present(batch)
        before, before_BM = self._before(batch, current)
        unimodal = {
            m: current[m] + self.mixers[m.value](_pair(before[m], current[m]), _pair(before_BM[:, i], there_BM[:, i]))
            for i, m in enumerate(self.interface.channels)
        }
        side_by_side_B2I = _pair(torch.cat(list(before.values()), dim=1), torch.cat(list(current.values()), dim=1))
        cross_BD = self.cross(side_by_side_B2I, _pair(before_BM.any(dim=1), there_BM.any(dim=1)))
        uni_BD = torch.stack(list(unimodal.values())).sum(dim=0) / there_BM.sum(dim=1, keepdim=True).clamp(min=1)
        gate_BD = torch.sigmoid(self.gate(torch.cat(list(unimodal.values()), dim=1)))
        embedding_BD = self.norm(uni_BD + gate_BD * cross_BD)
        return Output(self.answer(self.head(embedding_BD), batch), embedding_BD, unimodal)

    def _before(self, batch: Batch, current: Mapping[Modality, Tensor]) -> tuple[Mapping[Modality, Tensor], Tensor]:
        """The clip before, encoded as the clip itself, and which of its channels are there [B,M]: none without one."""
        there_BM = self.present(batch)
        if batch.context is None:
            return {m: torch.zeros_like(x_BD) for m, x_BD in current.items()}, torch.zeros_like(there_BM)
        before_BM = self.present(batch.context)
        if self.training:
            shown_B1 = torch.rand(len(before_BM), 1, device=before_BM.device) >= self.options.context_dropout
            before_BM = before_BM & shown_B1
        encoded = self.encoders.encoded(self, batch.context)
        return {
            m: torch.where(before_BM[:, i : i + 1], encoded[m], 0.0) for i, m in enumerate(self.interface.channels)
        }, before_BM

    def losses(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """The squared loss, and the L1 losses of the fused prediction and of each channel's own, in standard units."""
        target_BK = self.standardiser.target(batch.target)
        fused_B = (self.standardiser.target(output.prediction) - target_BK).abs().mean(dim=1)
        terms = {"task": self.task_loss(output.prediction, batch), "fused": self.options.fused * fused_B.mean()}
        there_BM = self.present(batch)
        for i, (modality, x_BD) in enumerate(output.per_modality.items()):
            error_B = (self.branches[modality.value](x_BD) - target_BK).abs().mean(dim=1)
            rows = there_BM[:, i].sum().clamp(min=1)
            terms[modality.value] = self.options.branch * (error_B * there_BM[:, i]).sum() / rows
        return terms


def _pair(first_B: Tensor, second_B: Tensor) -> Tensor:
    """[B,...] and [B,...] -> [B,2,...], in this order."""
    return torch.stack([first_B, second_B], dim=1)
