"""QA-MoE (arXiv 2604.05704): a mixture of experts that knows how reliable its inputs are, trained on degraded ones.

*Continuous Reliability Spectrum*: noise and missing data are one thing in two directions. Each training batch is
degraded by one draw of (lambda, eta), noise strength and share of what is lost, so that one set of weights serves
every point of the plane. *Self-supervised aleatoric uncertainty*: each channel gives mu^m and sigma^2 = softplus(.),
and its reliability is r^m = 1 / (1 + mean sigma^2). *Quality-aware experts*: the reliabilities weight the channels and
go into a router, which hands a row to three of eight gated linear experts; y = r sum_e g_e E_e(mu) + (1 - r) prior.

Two Gaussian negative log-likelihoods teach the variances, and nobody says which input is bad. That of a channel is of
how far the degradation moved its encoding; that of a row, v, is of the label, and r = 1 / (1 + v).

It knows neither optimiser nor cohort. Legend: B rows, T frames, F raw features, D width, K outputs, M channels of the
interface, E experts. lambda, eta, mu, sigma^2, r, g and E_e are the paper's own names.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as f
from torch import Tensor, nn

from mbd.backbones.base import Backbone, Fidelity, Interface, Output, ParameterGroup
from mbd.backbones.stem import Encoders, Frames, GatedMlp, StemOptions, gaussian_nll, mean_over
from mbd.cohort.batch import Batch
from mbd.cohort.modality import COLUMN, Modality

_LEAST_VARIANCE = 0.05
"""Added to every variance: without it the likelihood of what is known by heart has no bound."""

_PRIOR_LOGIT = math.log(math.expm1(1.0 - _LEAST_VARIANCE))
"""Where a variance is 1, that of labels in standard units: what is known of a row without any evidence."""


@dataclass(frozen=True)
class QualityAwareMoEOptions(StemOptions):
    """Sizes, how far training degrades its inputs, and loss weights.

    Attributes:
        experts: E (8 in the paper).
        chosen: experts that answer for one row (3 in the paper).
        noise: the largest lambda of training, in standard deviations of each feature.
        missing: the largest eta of training, the share of frames (or of vectors) that is lost.
        quality: the weight of the channels' likelihood, which teaches sigma^2.
        likelihood: the weight of the label's likelihood, which teaches the variance of a row.
        balance: the weight of the term that keeps all experts in use.
        quality_learning_rate: of what says sigma^2, which has as many labels as there are draws and cannot learn them
            by heart, while the rest of the network stops when it begins to.
    """

    experts: int = 8
    chosen: int = 3
    noise: float = 2.0
    missing: float = 0.7
    quality: float = 1.0
    likelihood: float = 0.5
    balance: float = 0.05
    quality_learning_rate: float = 0.01


class Quality(nn.Module):
    """sigma^2 of one channel: how far its encoding may be from that of the same row undegraded."""

    def __init__(self, options: StemOptions) -> None:
        super().__init__()
        width = options.width
        self.of_frames = GatedMlp(width, width, hidden=width, dropout=0.0)
        self.of_numbers = GatedMlp(2, width, hidden=width, dropout=0.0)

    def forward(self, frames: Frames, features_BTF: Tensor, valid_BT: Tensor) -> Tensor:
        """[B,T,D] and the standardised features [B,T,F] -> sigma^2 [B,D], of the mean over observed frames.

        Beside the encoder's frames, and added to what they say, it reads two plain numbers, which their layer norm
        would hide: how large the features are, and which share of the row's frames arrived.
        """
        size_BT = features_BTF.square().mean(dim=2).log1p()
        count_B1 = frames.observed.sum(dim=1, keepdim=True)
        share_BT = (count_B1 / valid_BT.sum(dim=1, keepdim=True).clamp(min=1)).to(size_BT.dtype).expand_as(size_BT)
        said_BTD = self.of_frames(frames.x) + self.of_numbers(torch.stack([size_BT, share_BT], dim=2))
        said_BD = torch.where(frames.observed[..., None], said_BTD, 0.0).sum(dim=1) / count_B1.clamp(min=1)
        return _variance(said_BD)


class Mixture(nn.Module):
    """E gated linear experts and their router; the experts' weights lie side by side in two matrices."""

    def __init__(self, reliabilities: int, options: QualityAwareMoEOptions) -> None:
        super().__init__()
        width, experts = options.width, options.experts
        self.chosen = min(options.chosen, experts)
        self.router = nn.Linear(width + reliabilities, experts)
        self.up = nn.Linear(width, experts * 2 * width)
        self.dropout = nn.Dropout(options.dropout)
        self.down = nn.Linear(experts * width, width, bias=False)

    def forward(self, mu_BD: Tensor, reliability_BM: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """sum_e g_e E_e(mu) [B,D], the gates g [B,E] and the router's whole softmax [B,E].

        Every expert works on every row and those not chosen count nothing: with few rows and small experts that is
        quicker than gathering rows, and one that nobody chose has a gradient of zeros rather than none.
        """
        routing_BE = self.router(torch.cat([mu_BD, reliability_BM], dim=1)).softmax(dim=1)
        gates_BE = self._gates(routing_BE)
        value_BED, gate_BED = self.up(mu_BD).unflatten(1, (routing_BE.shape[1], -1)).chunk(2, dim=2)
        hidden_BED = self.dropout(value_BED * f.silu(gate_BED))
        return self.down((gates_BE[..., None] * hidden_BED).flatten(1)), gates_BE, routing_BE

    def _gates(self, routing_BE: Tensor) -> Tensor:
        """The largest shares of each row, made to sum to 1; zero elsewhere."""
        share_BC, expert_BC = routing_BE.topk(self.chosen, dim=1)
        return torch.zeros_like(routing_BE).scatter(1, expert_BC, share_BC / share_BC.sum(dim=1, keepdim=True))


class QualityAwareMoE(Backbone):
    """Channels weighted by their reliability, experts chosen by it, and an answer that falls back to the prior by it.

    A row without any channel is answered with the mean label, with variance 1 in standard units.
    """

    name = "qa-moe"
    Options = QualityAwareMoEOptions
    fidelity: ClassVar[Fidelity] = "partial"
    deviations = (
        "written from second-hand notes of the paper's equations: where these are silent, all is our choice",
        "sigma^2 is taught by how far the degradation moved a channel's encoding, and moves no encoder",
        "what says sigma^2 has a rate of its own, five times the recipe's: it learns from draws, and from no label",
        "sigma^2 reads frames without dropout, how large the features are, and which share of the frames arrived",
        "channels are fused before the experts: mu is the mean of mu^m with weights r^m / sum r",
        "a row's variance is the softplus of a sum over its channels of a linear reading of mu^m over mean sigma^2",
        "so unreliable channels bring it back to 1, the variance of labels in standard units",
        "the prior is the mean label of the training rows, zero in standard units, so that the head has no bias",
        "lambda goes up to 2 standard deviations and eta up to 0.7, both uniform; profiles are equally likely",
        "the training loop's own masking of channels comes on top of that",
        "eta never takes the last channel of a row: it keeps one of its own, drawn at random, whole",
        "in data-parallel training each process draws its own (lambda, eta) for its share of a batch",
        "the router reads mu and all r^m; its three largest shares are made to sum to 1",
        "all experts are computed for every row and five of eight count nothing: sparse in what counts, not in work",
        "a load-balancing loss over the whole softmax (of Switch Transformers, arXiv 2101.03961) keeps experts in use",
        "the squared error stands beside the label's likelihood: it chooses the epoch",
        "for classes both are taken on one-hot labels, with one variance a row",
    )

    options: QualityAwareMoEOptions

    def __init__(self, interface: Interface, options: QualityAwareMoEOptions) -> None:
        super().__init__(interface, options)
        names = [m.value for m in interface.channels]
        self.encoders = Encoders(interface, options)
        self.quality = nn.ModuleList(Quality(options) for _ in names)
        self.evidence = nn.ModuleDict({name: nn.Linear(options.width, 1) for name in names})
        self.mixture = Mixture(len(names), options)
        self.norm = nn.LayerNorm(options.width)
        self.head = nn.Linear(options.width, interface.outputs, bias=False)

    def forward(self, batch: Batch) -> Output:
        """Encode what is present, weight it by its reliability, let three experts answer, shrink towards the prior.

        In training the batch is degraded first, by one draw of (lambda, eta).
        """
        read = self._degraded_at_random(batch) if self.training else batch
        frames = self.encoders.frames(self, read)
        plain, moved = frames, {}
        if self.training:
            plain, plain_BMD = self._without_dropout(read)
            moved = {"moved": (plain_BMD - self._without_dropout(batch)[1]).square()}
        present_BM = torch.stack([frame.observed.any(dim=1) for frame in frames.values()], dim=1)
        sigma2_BMD = self._sigma2(plain, read)
        known_BM = sigma2_BMD.detach().mean(dim=2)  # what is done with sigma^2 does not teach it
        r_BM = torch.where(present_BM, _reliability(known_BM), 0.0)
        weight_BM = r_BM / r_BM.sum(dim=1, keepdim=True).clamp(min=_LEAST_VARIANCE)

        encoded = self._pooled(frames)
        mu_BMD = torch.stack(list(encoded.values()), dim=1)
        mixed_BD, gates_BE, routing_BE = self.mixture((weight_BM[..., None] * mu_BMD).sum(dim=1), r_BM)
        said_BM = torch.cat([self.evidence[m.value](mu_BD) for m, mu_BD in encoded.items()], dim=1)
        precision_BM = torch.where(present_BM, _LEAST_VARIANCE / known_BM, 0.0)
        variance_B = _variance((precision_BM * said_BM).sum(dim=1))
        embedding_BD = _reliability(variance_B)[:, None] * self.norm(mixed_BD)
        return Output(
            prediction=self.answer(self.head(embedding_BD), batch),
            embedding=embedding_BD,
            per_modality=encoded,
            log_variance=variance_B.log(),
            weights=weight_BM,
            terms={
                "gates": gates_BE,
                "routing": routing_BE,
                "arrived": present_BM.to(mu_BMD.dtype),
                "sigma2": sigma2_BMD,
                **moved,
            },
        )

    def own_groups(self) -> list[ParameterGroup]:
        """One group a channel, and one for all that say sigma^2, at their own rate."""
        rate = self.options.quality_learning_rate
        return [*super().own_groups(), ParameterGroup("quality", tuple(self.quality.parameters()), learning_rate=rate)]

    def _sigma2(self, frames: Mapping[Modality, Frames], batch: Batch) -> Tensor:
        """sigma^2 of every channel [B,M,D]; it moves no encoder."""
        found = [
            quality(
                Frames(frame.x.detach(), frame.observed),
                self.read(m, batch)[0],
                batch.valid.get(m, frame.observed),  # a batch may lack the channel
            )
            for quality, (m, frame) in zip(self.quality, frames.items(), strict=True)
        ]
        return torch.stack(found, dim=1)

    def _pooled(self, frames: Mapping[Modality, Frames]) -> dict[Modality, Tensor]:
        """mu^m [B,D] of every channel; zero in rows without it."""
        return {m: self.encoders.of(m).pooled(x.x, x.observed) for m, x in frames.items()}

    def _without_dropout(self, batch: Batch) -> tuple[dict[Modality, Frames], Tensor]:
        """In training: frames and all mu^m [B,M,D] as evaluation sees them, without gradient."""
        self.encoders.eval()
        try:
            with torch.no_grad():
                frames = self.encoders.frames(self, batch)
                return frames, torch.stack(list(self._pooled(frames).values()), dim=1)
        finally:
            self.encoders.train()

    def _degraded_at_random(self, batch: Batch) -> Batch:
        """One point of the spectrum for the whole batch: P1 without noise, P2 without losses, or P3 with both."""
        device = batch.present.device
        profile = int(torch.randint(3, (), device=device))
        noise, missing = (
            share * most
            for share, most in zip(
                torch.rand(2, device=device).tolist(), (self.options.noise, self.options.missing), strict=True
            )
        )
        return self.degraded(batch, noise=0.0 if profile == 0 else noise, missing=0.0 if profile == 1 else missing)

    def degraded(self, batch: Batch, *, noise: float, missing: float) -> Batch:
        """The same rows at one point of the Continuous Reliability Spectrum, drawn from torch's current generator.

        Args:
            batch: which rows; the clips before them stay as they are.
            noise: lambda, of Gaussian noise on every feature, in its standard deviations.
            missing: eta, the probability that a frame (of a vector channel: the vector) did not arrive. A row that
                would be left without any channel keeps one of those that it had, whole.
        """
        channels = [m for m in self.interface.channels if m in batch.features]
        if not channels:
            return batch
        scale = {m: self.standardiser.get_buffer(f"{m.value}_scale") for m in channels}
        noisy = {m: batch.features[m] + noise * scale[m] * torch.randn_like(batch.features[m]) for m in channels}
        seen = {m: batch.observed[m] & batch.present[:, COLUMN[m], None] for m in channels}
        arrived = {m: torch.rand(seen[m].shape, device=seen[m].device) >= missing for m in channels}

        had_BM = torch.stack([seen[m].any(dim=1) for m in channels], dim=1)
        left_BM = torch.stack([(seen[m] & arrived[m]).any(dim=1) for m in channels], dim=1)
        keeper_B = torch.where(had_BM, torch.rand(had_BM.shape, device=had_BM.device), -1.0).argmax(dim=1)
        keeper_BM = f.one_hot(keeper_B, len(channels)).bool() & ~left_BM.any(dim=1, keepdim=True)
        kept = {m: arrived[m] | keeper_BM[:, column, None] for column, m in enumerate(channels)}
        return replace(batch, features={**batch.features, **noisy}).lose(kept)

    def losses(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """The squared error, the likelihoods of the label and of what moved the encodings, and the experts' balance."""
        assert output.log_variance is not None
        options, terms = self.options, output.terms
        error_BK = self.standardiser.target(output.prediction) - self.standardiser.target(batch.target)
        likelihood_B = gaussian_nll(error_BK.square().mean(dim=1), output.log_variance)
        # Nothing is degraded, and so nothing moves, outside training.
        moved_BMD = terms.get("moved", torch.zeros_like(terms["sigma2"]))
        quality_BM = gaussian_nll(moved_BMD, terms["sigma2"].log()).mean(dim=2)
        return {
            "task": self.task_loss(output.prediction, batch),
            "likelihood": options.likelihood * likelihood_B.mean(),
            "quality": options.quality * mean_over(quality_BM, terms["arrived"]),
            "balance": options.balance * imbalance(terms["gates"], terms["routing"]),
        }


def imbalance(gates_BE: Tensor, routing_BE: Tensor) -> Tensor:
    """E times the sum over experts of how often each is chosen times how likely it was: 1 where all are alike."""
    chosen_BE = (gates_BE > 0).to(gates_BE.dtype)
    often_E = chosen_BE.mean(dim=0) / chosen_BE.sum(dim=1).mean()
    return gates_BE.shape[1] * (often_E * routing_BE.mean(dim=0)).sum()


def _variance(logit: Tensor) -> Tensor:
    """A softplus that is 1 at 0."""
    return f.softplus(logit + _PRIOR_LOGIT) + _LEAST_VARIANCE


def _reliability(variance: Tensor) -> Tensor:
    """The letter r: 1 / (1 + variance)."""
    return 1.0 / (1.0 + variance)
