"""AlignMamba-2 (arXiv 2603.18462): channels aligned while training, and fused by one scan through all their frames.

Two regularisers draw the channels' frames together: the cost of an optimal transport from the frames of one to those
of the other (1 - cosine), and a maximum mean discrepancy between their distributions. Both are losses of the training
alone: at inference nothing of them is left. The frames of all channels are then one sequence in the order of time, for
Mamba layers whose projections are a shared expert plus one for each modality. It knows neither optimiser nor cohort.

Legend: B rows, T and S frames of two channels, L frames of all channels, D width, E inner width, K outputs, M channels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import torch
import torch.nn.functional as f
from torch import Tensor, nn

from mbd.backbones.base import Backbone, Fidelity, Interface, Output
from mbd.backbones.scan import SelectiveStateSpace
from mbd.backbones.stem import Encoders, Frames, StemOptions
from mbd.cohort.batch import Batch
from mbd.cohort.modality import COLUMN, Modality


@dataclass(frozen=True)
class AlignMambaOptions(StemOptions):
    """Sizes and loss weights.

    Attributes:
        states: N, the states of each inner channel of a layer.
        layers: how many; every second one scans backwards.
        transport: weight of the optimal transport cost.
        discrepancy: weight of the maximum mean discrepancy.
        sinkhorn_steps: of the entropic transport.
        sinkhorn_temperature: its regularisation; not below 0.05, or single precision runs out.
    """

    states: int = 8
    layers: int = 2
    transport: float = 0.1
    discrepancy: float = 0.1
    sinkhorn_steps: int = 10
    sinkhorn_temperature: float = 0.1


def sinkhorn(cost_BTS: Tensor, mass_BT: Tensor, mass_BS: Tensor, *, steps: int, temperature: float) -> Tensor:
    """The entropic transport plan [B,T,S] (Cuturi 2013); frames without mass neither send nor receive.

    The last step sets the second marginal, which is exact; the first one is as good as the steps are many.
    Costs between 0 and 2 keep the kernel far from underflow, so that no logarithms are needed.
    """
    kernel_BTS = torch.exp(-cost_BTS / temperature)
    tiny = torch.finfo(cost_BTS.dtype).tiny
    scale_BT, scale_BS = torch.ones_like(mass_BT), (mass_BS > 0).to(mass_BS.dtype)
    for _ in range(steps):
        scale_BT = mass_BT / (kernel_BTS @ scale_BS[..., None]).squeeze(-1).clamp(min=tiny)
        scale_BS = mass_BS / (scale_BT[:, None] @ kernel_BTS).squeeze(1).clamp(min=tiny)
    return scale_BT[..., None] * kernel_BTS * scale_BS[:, None]


def transport_cost(one: Frames, other: Frames, *, steps: int, temperature: float) -> Tensor:
    """What it costs to carry one channel's observed frames to the other's [B]; zero in rows that lack either.

    All observed frames of a row have the same mass. The plan is held fixed in the gradient.
    """
    cosine_BTS = f.normalize(one.x, dim=-1) @ f.normalize(other.x, dim=-1).transpose(1, 2)
    cost_BTS = 1.0 - cosine_BTS
    with torch.no_grad():
        both_B1 = one.observed.any(dim=1, keepdim=True) & other.observed.any(dim=1, keepdim=True)
        masses = [_shares(frames.observed & both_B1, like=cost_BTS) for frames in (one, other)]
        plan_BTS = sinkhorn(cost_BTS, *masses, steps=steps, temperature=temperature)
    return (plan_BTS * cost_BTS).sum(dim=(1, 2))


def mean_discrepancy(one: Frames, other: Frames) -> Tensor:
    """The squared maximum mean discrepancy (Gretton et al. 2012) of two channels' mean frames over the rows.

    Gaussian kernel; its bandwidth is the mean squared distance of all points, without gradient, so that shrinking
    everything gains nothing. Zero where no row has one of the channels.
    """
    points_RD = torch.cat([(_shares(e.observed, like=e.x)[:, None] @ e.x).squeeze(1) for e in (one, other)])
    has_R = torch.cat([one.observed.any(dim=1), other.observed.any(dim=1)])
    has_2B = has_R.view(2, -1)
    share_R = _shares(has_2B, like=points_RD).flatten()
    sign_R = torch.cat([share_R[: len(has_R) // 2], -share_R[len(has_R) // 2 :]])
    distance_RR = (points_RD[:, None] - points_RD[None]).square().sum(dim=-1)
    bandwidth = (share_R @ distance_RR @ share_R / 4).detach().clamp(min=torch.finfo(points_RD.dtype).eps)
    discrepancy = sign_R @ torch.exp(-distance_RR / (2 * bandwidth)) @ sign_R
    return discrepancy * has_2B.any(dim=1).all()


def interleaved(observed: Sequence[Tensor], valid: Sequence[Tensor]) -> Tensor:
    """The order [B,L] in which all channels' frames are scanned: by the share of the channel that is over by then.

    With equally many frames that is the first of each, the second of each, and so on. A frame that was lost keeps its
    time; those that were not observed come last, where they change nothing.

    Args:
        observed: bool [B,T] of each channel.
        valid: likewise.
    """
    times = [
        torch.where(o, (v.cumsum(dim=1) - 0.5) / v.sum(dim=1, keepdim=True).clamp(min=1), torch.inf)
        for o, v in zip(observed, valid, strict=True)
    ]
    return torch.cat(times, dim=1).argsort(dim=1, stable=True)


class ExpertLinear(nn.Module):
    """One linear map for all modalities plus one for each."""

    def __init__(self, inputs: int, outputs: int, names: Sequence[str]) -> None:
        super().__init__()
        self.shared = nn.Linear(inputs, outputs)
        self.own = nn.ModuleDict({name: nn.Linear(inputs, outputs, bias=False) for name in names})

    def forward(self, x_BLD: Tensor, lengths: Mapping[str, int]) -> Tensor:
        """[B,L,inputs] -> [B,L,outputs], where the L frames are so many of each modality, one after the other."""
        pieces = torch.split(x_BLD, list(lengths.values()), dim=1)
        own_BLD = torch.cat([self.own[name](piece) for name, piece in zip(lengths, pieces, strict=True)], dim=1)
        both_BLE: Tensor = self.shared(x_BLD) + own_BLD
        return both_BLE


class ModalityAwareLayer(nn.Module):
    """A pre-norm Mamba layer over the interleaved frames, with experts for its two projections."""

    def __init__(self, names: Sequence[str], options: AlignMambaOptions, *, reverse: bool) -> None:
        super().__init__()
        inner = 2 * options.width
        self.reverse = reverse
        self.norm = nn.LayerNorm(options.width)
        self.up = ExpertLinear(options.width, 2 * inner, names)
        self.scan = SelectiveStateSpace(inner, options.states)
        self.dropout = nn.Dropout(options.dropout)
        self.down = ExpertLinear(inner, options.width, names)

    def forward(self, x_BLD: Tensor, observed_BL: Tensor, order_BL: Tensor, lengths: Mapping[str, int]) -> Tensor:
        """[B,L,D] -> [B,L,D], frames modality by modality; those that were not observed are not to be read."""
        up_BLE = _reordered(self.up(self.norm(x_BLD), lengths), order_BL)
        value_BLE, gate_BLE = up_BLE.chunk(2, dim=-1)
        scanned_BLE = self.scan(value_BLE, gate_BLE, observed_BL.gather(1, order_BL), reverse=self.reverse)
        back_BLE = _reordered(scanned_BLE, order_BL.argsort(dim=1))
        moved_BLD: Tensor = x_BLD + self.down(self.dropout(back_BLE), lengths)
        return moved_BLD


class AlignMamba(Backbone):
    """The AlignMamba-2 network for one, two or three declared channels."""

    name = "alignmamba-2"
    Options = AlignMambaOptions
    fidelity: ClassVar[Fidelity] = "partial"
    deviations = (
        "every two channels are aligned, not each with text: text may be missing",
        "of the two transports the entropic one, by Sinkhorn steps; its plan is held fixed in the gradient",
        "all observed frames of a row have the same mass, and the transport cost is averaged over rows with both",
        "the discrepancy is between rows' mean frames in one batch, with one bandwidth: their mean squared distance",
        "both regularisers see the frames as they enter the Mamba layers",
        "frames are interleaved by the share of their channel that is over, since channels differ in length",
        "the shared and the modality's own projection are added, without a router and without further experts",
        "every second layer scans backwards, so that the first frames know the last ones",
        "Z is the normed mean, over a row's channels, of the unimodal encoding plus the mean frame after the layers",
        "the layers leave out Mamba's short convolution: neighbours in the sequence are of different modalities",
    )

    options: AlignMambaOptions

    def __init__(self, interface: Interface, options: AlignMambaOptions) -> None:
        super().__init__(interface, options)
        names = [m.value for m in interface.channels]
        self.encoders = Encoders(interface, options)
        self.layers = nn.ModuleList(
            ModalityAwareLayer(names, options, reverse=number % 2 == 1) for number in range(options.layers)
        )
        self.norm = nn.LayerNorm(options.width)
        self.head = nn.Linear(options.width, interface.outputs)

    def forward(self, batch: Batch) -> Output:
        """Encode frame by frame, interleave, scan, pool, predict; hand out the frames while training alone."""
        frames = self.encoders.frames(self, batch)
        unimodal = {m: self.encoders.of(m).pooled(each.x, each.observed) for m, each in frames.items()}
        fused = self._scanned(frames, batch)
        means = [
            unimodal[m] + (_shares(each.observed, like=each.x)[:, None] @ fused[m]).squeeze(1)
            for m, each in frames.items()
        ]
        there_BM = torch.stack([each.observed.any(dim=1) for each in frames.values()], dim=1)
        embedding_BD = self.norm(torch.stack(means).sum(dim=0) / there_BM.sum(dim=1, keepdim=True).clamp(min=1))
        terms = {m.value: each.x for m, each in frames.items()} if self.training else {}
        return Output(self.answer(self.head(embedding_BD), batch), embedding_BD, unimodal, terms=terms)

    def _scanned(self, frames: Mapping[Modality, Frames], batch: Batch) -> dict[Modality, Tensor]:
        """The frames [B,T,D] of each channel after all layers."""
        observed = [each.observed for each in frames.values()]
        order_BL = interleaved(observed, [batch.valid.get(m, each.observed) for m, each in frames.items()])
        lengths = {m.value: each.x.shape[1] for m, each in frames.items()}
        x_BLD, observed_BL = torch.cat([each.x for each in frames.values()], dim=1), torch.cat(observed, dim=1)
        for layer in self.layers:
            x_BLD = layer(x_BLD, observed_BL, order_BL, lengths)
        return dict(zip(frames, torch.split(x_BLD, list(lengths.values()), dim=1), strict=True))

    def losses(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """The task loss; while training also the mean transport cost and mean discrepancy of every two channels."""
        task = {"task": self.task_loss(output.prediction, batch)}
        frames = [self._frames(m, output, batch) for m in self.interface.channels if m.value in output.terms]
        pairs = list(combinations(frames, 2))
        if not pairs:
            return task
        options = self.options
        costs = [self._transport(one, other) for one, other in pairs]
        discrepancies = [mean_discrepancy(one, other) for one, other in pairs]
        return {
            **task,
            "transport": options.transport * torch.stack(costs).mean(),
            "discrepancy": options.discrepancy * torch.stack(discrepancies).mean(),
        }

    def _transport(self, one: Frames, other: Frames) -> Tensor:
        """The mean cost over the rows that have both."""
        both_B = one.observed.any(dim=1) & other.observed.any(dim=1)
        steps, temperature = self.options.sinkhorn_steps, self.options.sinkhorn_temperature
        return transport_cost(one, other, steps=steps, temperature=temperature).sum() / both_B.sum().clamp(min=1)

    def _frames(self, modality: Modality, output: Output, batch: Batch) -> Frames:
        """One channel's frames out of an output, and which of them were observed."""
        x_BTD = output.terms[modality.value]
        if modality not in batch.features:
            return Frames(x_BTD, torch.zeros_like(x_BTD[..., 0], dtype=torch.bool))
        return Frames(x_BTD, batch.observed[modality] & batch.present[:, COLUMN[modality], None])


def _shares(observed_BT: Tensor, *, like: Tensor) -> Tensor:
    """Equal shares [B,T] of what was observed, summing to 1; all zero in rows without anything."""
    return observed_BT.to(like.dtype) / observed_BT.sum(dim=1, keepdim=True).clamp(min=1)


def _reordered(x_BLE: Tensor, order_BL: Tensor) -> Tensor:
    """The frames of each row in this order."""
    return x_BLE.gather(1, order_BL[..., None].expand_as(x_BLE))
