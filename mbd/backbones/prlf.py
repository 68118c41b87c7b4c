"""PRLF (arXiv 2603.09111): find the channel that a row can rely on, and lead the other channels to it step by step.

Two parts. An adaptive modality reliability estimator (AMRE) reads each channel's vector X^m as a Gaussian over the
label, N(W^m X^m + b^m, e^(s^m) I). The confidence e^(-s) and the expected Fisher information about X^m, which needs no
label, say how much a channel counts; the one that counts most is the row's dominant channel. Then, in rounds, the other
channels attend to the dominant one and move towards what they find as far as a gate lets them.

Only the paper's abstract is known: the two ingredients of the estimator, the choice of a dominant channel for each row
and the progressive alignment are its own; every equation here is ours. The Gaussian with a predicted log variance is
Kendall and Gal's (2017), the expected Fisher information of a linear read-out of it is textbook, the choice with a soft
gradient is the straight-through estimator (Bengio et al. 2013). It knows neither optimiser nor cohort.

Legend: B rows, T frames, D width, K outputs, M channels of the interface, R rounds (the paper's K, three).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
import torch.nn.functional as f
from torch import Tensor, nn

from mbd.backbones.base import Backbone, Fidelity, Interface, Output
from mbd.backbones.stem import Encoders, Frames, GatedMlp, StemOptions, gaussian_nll, mean_over
from mbd.cohort.batch import Batch
from mbd.cohort.modality import Modality
from mbd.errors import TrainingError

_LIMIT = 4.0  # of |s|: a read-out that knows its training rows by heart would otherwise claim to be infinitely sure
_TINY = 1e-12  # below any Fisher trace that is worth comparing; its logarithm is finite


@dataclass(frozen=True)
class PrlfOptions(StemOptions):
    """Sizes and loss weights.

    Attributes:
        rounds: R, at least 1, how often the other channels take a step towards the dominant one.
        estimation: the weight of the estimator's Gaussian likelihood.
        alignment: the weight of one minus the cosine, averaged over rounds.
    """

    rounds: int = 3
    estimation: float = 0.3
    alignment: float = 0.1

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise TrainingError("PRLF aligns in at least one round.", remedy="give rounds = 1 or more")


class ReliabilityEstimator(nn.Module):
    """What one channel alone says about the label, and how sure it is: N(W x + b, e^s I)."""

    def __init__(self, outputs: int, options: StemOptions) -> None:
        super().__init__()
        self.mean = nn.Linear(options.width, outputs)
        self.log_variance = GatedMlp(options.width, 1, hidden=options.width, dropout=options.dropout)

    def forward(self, x_BD: Tensor) -> tuple[Tensor, Tensor]:
        """X^m [B,D] -> the mean [B,K] in standard units, and s [B]."""
        free_B = self.log_variance(x_BD).squeeze(-1)
        return self.mean(x_BD), _LIMIT * torch.tanh(free_B / _LIMIT)

    def fisher_trace(self, log_variance_B: Tensor) -> Tensor:
        """The trace of x's Fisher information, expected over the Gaussian's own labels [B]: ||W||^2 e^(-s)."""
        return self.mean.weight.square().sum() * torch.exp(-log_variance_B)


class Alignment(nn.Module):
    """All channels' way to the dominant one, in rounds of gated cross-attention with a single head.

    What is found is normed as every X^m is, and round r of R leads at most r/R of the way: a channel that could arrive
    in the first round would leave nothing to the others.
    """

    def __init__(self, width: int, rounds: int) -> None:
        super().__init__()
        self.rounds = rounds
        self.state_norm = nn.LayerNorm(width)
        self.memory_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.found_norm = nn.LayerNorm(width)
        self.gate = nn.Linear(2 * width, width)

    def forward(self, x_BMD: Tensor, memories: Sequence[Frames], choice_BM: Tensor, present_BM: Tensor) -> list[Tensor]:
        """The states [B,M,D] before the first round and after each: the dominant channel's X^m, zero for absent ones.

        Args:
            x_BMD: X^m of every channel.
            memories: what can be attended to in each channel, M of them.
            choice_BM: 1 for the dominant channel, 0 for others.
            present_BM: 1 for the channels that are there.
        """
        keys_values = [self.key_value(self.memory_norm(memory.x)).chunk(2, dim=-1) for memory in memories]
        masks = [memory.observed[:, None, :] for memory in memories]
        states = [x_BMD]
        for r in range(self.rounds):
            query_BMD = self.query(self.state_norm(states[-1]))
            # Every channel is attended to, also where it is not the dominant one: the choice's gradient compares them.
            found = [
                choice_BM[:, d, None, None]
                * self.found_norm(f.scaled_dot_product_attention(query_BMD, key_BTD, value_BTD, attn_mask=masks[d]))
                for d, (key_BTD, value_BTD) in enumerate(keys_values)
            ]
            found_BMD = torch.stack(found).sum(dim=0)
            gate_BMD = torch.sigmoid(self.gate(torch.cat([states[-1], found_BMD], dim=-1))) / (self.rounds - r)
            moved_BMD = states[-1] + gate_BMD * (found_BMD - states[-1])
            others_BM = present_BM - choice_BM
            states.append(choice_BM[..., None] * x_BMD + others_BM[..., None] * moved_BMD)
        return states


class Prlf(Backbone):
    """The network for one, two or three declared channels; with one there is nothing to align.

    Of its `Output`, ``weights`` are the soft dominance weights, by which the aligned channels are fused, too. The
    ``terms`` are ``mean`` [B,M,K] and ``log_variance`` [B,M] of each channel's own Gaussian, ``dominant`` [B,M] (one 1
    in a row with any channel), and ``cosine`` [B,1+R,M] between each channel and the dominant one, before the first
    round and after each.
    """

    name = "prlf"
    Options = PrlfOptions
    fidelity: ClassVar[Fidelity] = "inspired"
    deviations = (
        "only the abstract is known: all equations and all sizes are ours",
        "a channel counts as much as its confidence times its Fisher trace, normalised over the row's channels",
        "the Fisher information is about the Gaussian's mean: that s depends on X^m, too, is left out of it",
        "the estimator is Gaussian for classes, too: a softmax's Fisher trace vanishes where it is sure of its class",
        "the estimator is trained by each channel's own Gaussian likelihood, and by the task through the choice",
        "the choice is the same in training and evaluation but for dropout: no noise is added to it",
        "channels are aligned as vectors X^m, not frame by frame; they attend to the dominant one's frames and its X^m",
        "rounds share their weights, and round r of R leads a channel at most r/R of the way",
        "the dominant channel does not move, and the cosine loss has no gradient to it",
        "fused are the mean of all X^m plus the aligned channels by their soft weights: nothing is lost on the way",
        "squared loss for scores and, on one-hot labels, for classes: it is the loss of the lattice's heads",
    )

    options: PrlfOptions

    def __init__(self, interface: Interface, options: PrlfOptions) -> None:
        super().__init__(interface, options)
        width, channels = options.width, interface.channels
        self.encoders = Encoders(interface, options)
        self.estimators = nn.ModuleDict({m.value: ReliabilityEstimator(interface.outputs, options) for m in channels})
        self.align = Alignment(width, options.rounds) if len(channels) > 1 else None
        self.refine = GatedMlp(width, width, hidden=2 * width, dropout=options.dropout)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, interface.outputs)

    def forward(self, batch: Batch) -> Output:
        """Encode, estimate who can be relied on, align the others to the dominant channel, fuse, predict."""
        frames = self.encoders.frames(self, batch)
        encoded = {m: self.encoders.of(m).pooled(frames[m].x, frames[m].observed) for m in frames}
        x_BMD = torch.stack(list(encoded.values()), dim=1)
        present_BM = self.present(batch).to(x_BMD.dtype)

        gaussians = {m: self._estimator(m)(x_BD) for m, x_BD in encoded.items()}
        log_variance_BM = torch.stack([s_B for _, s_B in gaussians.values()], dim=1)
        fisher_BM = torch.stack([self._estimator(m).fisher_trace(s_B) for m, (_, s_B) in gaussians.items()], dim=1)
        weights_BM = dominance(log_variance_BM, fisher_BM, present_BM)
        choice_BM = straight_through(weights_BM) * present_BM

        memories = [_memory(encoded[m], frames[m]) for m in frames]
        states = self.align(x_BMD, memories, choice_BM, present_BM) if self.align else [x_BMD]
        target_B1D = (choice_BM[..., None] * x_BMD).sum(dim=1, keepdim=True).detach()
        cosine_BRM = torch.stack([f.cosine_similarity(state_BMD, target_B1D, dim=2) for state_BMD in states], dim=1)

        own_BD = x_BMD.sum(dim=1) / present_BM.sum(dim=1, keepdim=True).clamp(min=1)
        fused_BD = own_BD + (weights_BM[..., None] * states[-1]).sum(dim=1)
        embedding_BD = self.norm(fused_BD + self.refine(fused_BD))
        return Output(
            prediction=self.answer(self.head(embedding_BD), batch),
            embedding=embedding_BD,
            per_modality=encoded,
            weights=weights_BM,
            terms={
                "mean": torch.stack([mean_BK for mean_BK, _ in gaussians.values()], dim=1),
                "log_variance": log_variance_BM,
                "dominant": choice_BM.detach(),
                "cosine": cosine_BRM,
            },
        )

    def losses(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """The squared error; each channel's Gaussian likelihood of the label; one minus the cosine of every round."""
        mean_BMK, log_variance_BM = output.terms["mean"], output.terms["log_variance"]
        present_BM = self.present(batch).to(mean_BMK.dtype)
        error_BM = (mean_BMK - self.standardiser.target(batch.target)[:, None]).square().mean(dim=2)
        unlikely_BM = gaussian_nll(error_BM, log_variance_BM)

        others_BM = present_BM - output.terms["dominant"]
        apart_BM = (1 - output.terms["cosine"][:, 1:]).sum(dim=1) / self.options.rounds
        return {
            "task": self.task_loss(output.prediction, batch),
            "estimation": self.options.estimation * mean_over(unlikely_BM, present_BM),
            "alignment": self.options.alignment * mean_over(apart_BM, others_BM),
        }

    def _estimator(self, modality: Modality) -> ReliabilityEstimator:
        return cast(ReliabilityEstimator, self.estimators[modality.value])


def dominance(log_variance_BM: Tensor, fisher_BM: Tensor, present_BM: Tensor) -> Tensor:
    """e^(-s) times the Fisher trace, as shares of the row's channels [B,M]; zero where a channel is absent."""
    score_BM = fisher_BM.clamp(min=_TINY).log() - log_variance_BM
    empty_B1 = present_BM.sum(dim=1, keepdim=True) == 0  # a softmax over nothing would be NaN
    counted_BM = score_BM.masked_fill(~(present_BM.bool() | empty_B1), -torch.inf)
    return counted_BM.softmax(dim=1) * present_BM


def straight_through(weights_BM: Tensor) -> Tensor:
    """1 where a row's weight is largest, 0 elsewhere [B,M], with the gradient of the weights themselves."""
    hard_BM = f.one_hot(weights_BM.argmax(dim=1), weights_BM.shape[1]).to(weights_BM.dtype)
    return hard_BM + (weights_BM - weights_BM.detach())  # the bracket is exactly zero: 1 stays 1


def _memory(x_BD: Tensor, frames: Frames) -> Frames:
    """What others can attend to in a channel: its vector, always, and its observed frames."""
    always_B1 = torch.ones_like(frames.observed[:, :1])
    return Frames(torch.cat([x_BD[:, None], frames.x], dim=1), torch.cat([always_B1, frames.observed], dim=1))
