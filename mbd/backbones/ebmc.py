"""EBMC, Enhance-then-Balance Modality Collaboration (arXiv 2604.12518): strengthen weak modalities, then balance all.

In the paper's order: semantic disentanglement of each modality into a common z^c and a specific z^s; cross-modal
enhancement, here a generator of a missing modality's z^c from the others'; energy-guided coordination,
E(m) = a ||z_m||^2 + b l_m + g u_m (equation 9), with a loss on the gaps between modalities (11) and a penalty on
||dE/dz||^2 (12); and trust distillation, where a row trusts a modality by c rho, c = e^-sigma and
rho = 1 / log(1 + ||sigma^2||). The first stage of training has disentanglement, enhancement and the unimodal heads; the
second adds coordination and distillation. The network knows neither optimiser nor cohort.

Legend: B rows, M channels of the interface, D width, K outputs, Z = 2D the common and the specific part side by side.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as f
from torch import Tensor, nn

from mbd.backbones.base import Backbone, Fidelity, Interface, Output
from mbd.backbones.stem import Encoders, GatedMlp, StemOptions
from mbd.cohort.batch import Batch

_LEAST = 1e-3
"""Added to variances and to losses under a logarithm, in standard units: a perfect fit has neither infinite trust nor
minus infinite energy."""


@dataclass(frozen=True)
class EbmcOptions(StemOptions):
    """Sizes, loss weights, the constants of the energy, and where the second stage begins.

    Attributes:
        disentanglement: the weight of invariance and of orthogonality.
        unimodal: the weight of the task losses of each modality, of its z, its z^c and its z^s.
        uncertainty: the weight of the likelihood that fits sigma.
        enhancement: the weight of the generators' loss.
        balance: the weight of the gaps between energies.
        gradient_penalty: delta, the weight of ||dE/dz||^2.
        distillation: the weight of the trusted teachers' loss.
        energy_norm: a, of ||z||^2 (a mean over dimensions) in the energy.
        energy_loss: b, of log l_m.
        energy_uncertainty: g, of u_m.
        first_stage: the share of epochs before balance and trust come in; a recipe's patience must outlast it.
    """

    disentanglement: float = 0.1
    unimodal: float = 0.5
    uncertainty: float = 0.1
    enhancement: float = 0.1
    balance: float = 0.1
    gradient_penalty: float = 0.01
    distillation: float = 0.1
    energy_norm: float = 1.0
    energy_loss: float = 1.0
    energy_uncertainty: float = 1.0
    first_stage: float = 0.1


class EnhanceThenBalance(Backbone):
    """The EBMC network for one, two or three declared channels.

    Attributes:
        balancing: whether training is in its second stage. Predictions are the same function of the weights in both: in
            the first, the fused prediction only reads the modalities' parts and does not shape them.
    """

    name = "ebmc"
    Options = EbmcOptions
    fidelity: ClassVar[Fidelity] = "partial"
    generates = True
    deviations = (
        "equations from notes and released code; gated MLPs over the stem's encoders disentangle, generate and fuse",
        "invariance is a squared distance between unit vectors: of raw vectors, it pays to shrink them",
        "a missing channel gets the mean direction of the others' z^c plus a learned correction, and no z^s",
        "the gap compares log l_m: it is about ratios of losses, and alike for labels of any unit",
        "in a gap the loss of the lower energy is held: else, even with the logarithm, it pays to worsen a strong loss",
        "u_m is the mean of sigma and carries no gradient: else it pays to feign uncertainty",
        "energies are of a batch, so that log l_m is of a mean; the penalty is a mean over rows",
        "sigma^2 is fitted by a Gaussian likelihood of the unimodal prediction's error, which trains no prediction",
        "trust weights the fusion too, of parts of one length; neither the task nor the distillation trains it",
        "the KL of distillation is between Gaussians of variance 1, half a squared distance in standard units",
        "the teachers are the unimodal heads as they are, without gradient, not a copy from the first stage's end",
    )

    options: EbmcOptions

    def __init__(self, interface: Interface, options: EbmcOptions) -> None:
        super().__init__(interface, options)
        width, outputs, names = options.width, interface.outputs, [m.value for m in interface.channels]

        def mlp(inputs: int, outputs: int) -> GatedMlp:
            return GatedMlp(inputs, outputs, hidden=2 * width, dropout=options.dropout)

        self.balancing = True
        self.encoders = Encoders(interface, options)
        self.disentangle = nn.ModuleDict({n: mlp(width, 2 * width) for n in names})
        self.teachers = nn.ModuleDict({n: nn.Linear(2 * width, outputs) for n in names})
        self.common_head = nn.Linear(width, outputs)  # one for all: z^c means the same in each modality
        self.specific_heads = nn.ModuleDict({n: nn.Linear(width, outputs) for n in names})
        self.variances = nn.ModuleDict({n: mlp(2 * width, outputs) for n in names})
        others = len(names) - 1
        self.generators = nn.ModuleDict({n: mlp(width * others, width) for n in names} if others else {})
        self.fuse = mlp(width * (1 + len(names)), width)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, outputs)

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Balance and trust come in with the second stage."""
        self.balancing = self.stage(epoch, epochs) == 1

    def stage(self, epoch: int, epochs: int) -> int:
        """1 after the first stage's share of epochs."""
        return int(epoch >= self.options.first_stage * epochs)

    def forward(self, batch: Batch) -> Output:
        """Encode and disentangle what is present, generate what is missing, fuse by trust, predict.

        Returns:
            `weights` [B,M] is the trust; `terms` are ``common`` and ``specific`` [B,M,D], zero in rows without the
            channel, and ``variance`` [B,M,K], sigma^2 in standard units.
        """
        present_BM = self.present(batch)
        encoded = self.encoders.encoded(self, batch)
        parts_BMZ = torch.stack([self.disentangle[m.value](x_BD) for m, x_BD in encoded.items()], dim=1)
        z_BMZ = torch.where(present_BM[..., None], parts_BMZ, 0.0)
        variance_BMK = _LEAST + f.softplus(_each(self.variances, z_BMZ))
        trust_BM = trust(variance_BMK.detach(), present_BM)
        embedding_BD = self._fused(z_BMZ if self.balancing else z_BMZ.detach(), trust_BM, present_BM)
        common_BMD, specific_BMD = z_BMZ.chunk(2, dim=-1)
        return Output(
            prediction=self.answer(self.head(embedding_BD), batch),
            embedding=embedding_BD,
            per_modality=encoded,
            weights=trust_BM,
            terms={"common": common_BMD, "specific": specific_BMD, "variance": variance_BMK},
        )

    def generate(self, common_BMD: Tensor, present_BM: Tensor) -> Tensor:
        """For each channel its z^c of one length [B,M,D] as the row's other channels tell it; zeros if it is the only.

        Like any regression's, the answer is shorter than the truth where the others tell little.
        """
        generated = []
        known_BMD = _of_one_length(torch.where(present_BM[..., None], common_BMD, 0.0))
        for column, generator in enumerate(self.generators.values()):
            others = [other for other in range(len(self.generators)) if other != column]
            count_B1 = present_BM[:, others].sum(dim=1, keepdim=True).clamp(min=1)
            mean_BD = known_BMD[:, others].sum(dim=1) / count_B1
            generated.append(mean_BD + generator(known_BMD[:, others].flatten(1)))
        return torch.stack(generated, dim=1) if generated else torch.zeros_like(common_BMD)

    def unimodal(self, output: Output) -> Tensor:
        """What each channel alone predicts [B,M,K], in standard units; in rows without it, a constant."""
        return _each(self.teachers, _parts(output))

    def energies(self, output: Output, batch: Batch) -> Tensor:
        """E(m) of each channel [M], over the batch's rows that have it; not to be read where none does."""
        return self._energies(_parts(output), output.terms["variance"], batch)[0]

    def losses(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """The task, disentanglement, unimodal and enhancement terms; in the second stage balance and trust, too."""
        present_BM, options, z_BMZ = self.present(batch), self.options, _parts(output)
        terms = {
            "task": self.task_loss(output.prediction, batch),
            **self._disentanglement(output.terms["common"], output.terms["specific"], present_BM),
            **self._unimodal_losses(output, batch),
            "enhancement": options.enhancement * self._enhancement(output.terms["common"], present_BM),
        }
        if not self.balancing:
            return terms
        energy_M, held_M = self._energies(z_BMZ, output.terms["variance"], batch)
        fused_BK = self.standardiser.target(output.prediction)
        distance_BM = 0.5 * (self.unimodal(output).detach() - fused_BK[:, None]).square().mean(dim=-1)
        assert output.weights is not None
        trusted_B = (output.weights.detach() * distance_BM).sum(dim=1)
        return {
            **terms,
            "balance": options.balance * _gaps(energy_M, held_M, present_BM.any(dim=0)),
            "gradient_penalty": options.gradient_penalty * _gradient_penalty(energy_M, z_BMZ, present_BM),
            "distillation": options.distillation * trusted_B.mean(),
        }

    def _fused(self, z_BMZ: Tensor, trust_BM: Tensor, present_BM: Tensor) -> Tensor:
        """[B,D]: the trusted mean of what is there, refined by every channel's z^c, generated where it is missing.

        What is there has one length: else long parts would count beyond their trust, and energies are balanced by
        lengths, too.
        """
        common_BMD, specific_BMD = z_BMZ.chunk(2, dim=-1)
        generated_BMD = self.generate(common_BMD, present_BM)
        common_BMD = torch.where(present_BM[..., None], _of_one_length(common_BMD), generated_BMD)
        specific_BMD = _of_one_length(specific_BMD)
        pooled_BD = (trust_BM[..., None] * (common_BMD + specific_BMD)).sum(dim=1)
        embedding_BD: Tensor = self.norm(pooled_BD + self.fuse(torch.cat([pooled_BD, common_BMD.flatten(1)], dim=1)))
        return embedding_BD

    def _disentanglement(self, common_BMD: Tensor, specific_BMD: Tensor, present_BM: Tensor) -> dict[str, Tensor]:
        """Invariance: z^c points alike in all modalities of a row. Orthogonality: the squared cosine of z^c and z^s."""
        unit_BMD = f.normalize(common_BMD, dim=-1)  # zero where the channel is missing
        count_B1 = present_BM.sum(dim=1, keepdim=True)
        mean_BD = unit_BMD.sum(dim=1) / count_B1.clamp(min=1)
        apart_BM = (unit_BMD - mean_BD[:, None]).square().sum(dim=-1)
        cosine_BM = f.cosine_similarity(common_BMD, specific_BMD, dim=-1)
        return {
            "invariance": self.options.disentanglement * _mean_of_each(apart_BM, present_BM & (count_B1 > 1)).mean(),
            "orthogonality": self.options.disentanglement * _mean_of_each(cosine_BM.square(), present_BM).mean(),
        }

    def _unimodal_losses(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Squared errors from z, z^c and z^s of each channel, and the likelihood of the first under sigma^2."""
        present_BM = self.present(batch)
        predictions = {
            "unimodal": self.unimodal(output),
            "common": self.common_head(output.terms["common"]),
            "specific": _each(self.specific_heads, output.terms["specific"]),
        }
        target_B1K = self.standardiser.target(batch.target)[:, None]
        square_BMK = {name: (y_BMK - target_B1K).square() for name, y_BMK in predictions.items()}
        weight, variance_BMK = self.options.unimodal, output.terms["variance"]
        surprise_BMK = 0.5 * (variance_BMK.log() + square_BMK["unimodal"].detach() / variance_BMK)
        return {
            **{n: weight * _mean_of_each(x_BMK.mean(dim=-1), present_BM).mean() for n, x_BMK in square_BMK.items()},
            "uncertainty": self.options.uncertainty * _mean_of_each(surprise_BMK.mean(dim=-1), present_BM).mean(),
        }

    def _enhancement(self, common_BMD: Tensor, present_BM: Tensor) -> Tensor:
        """The generators' squared error, leaving out each present channel of a row in turn; the truth is a target."""
        has_other_BM = present_BM & (present_BM.sum(dim=1, keepdim=True) > 1)
        error_BMD = self.generate(common_BMD, present_BM) - _of_one_length(common_BMD.detach())
        return _mean_of_each(error_BMD.square().mean(dim=-1), has_other_BM).mean()

    def _energies(self, z_BMZ: Tensor, variance_BMK: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """E(m) [M] as a function of z, through its norm and the unimodal loss; and the same with the loss held."""
        present_BM, options = self.present(batch), self.options
        error_BMK = _each(self.teachers, z_BMZ) - self.standardiser.target(batch.target)[:, None]
        loss_M = options.energy_loss * (_mean_of_each(error_BMK.square().mean(dim=-1), present_BM) + _LEAST).log()
        norm_M = options.energy_norm * _mean_of_each(z_BMZ.square().mean(dim=-1), present_BM)
        deviation_BM = variance_BMK.detach().sqrt().mean(dim=-1)
        rest_M = norm_M + options.energy_uncertainty * _mean_of_each(deviation_BM, present_BM)
        return rest_M + loss_M, rest_M + loss_M.detach()


def trust(variance_BMK: Tensor, present_BM: Tensor) -> Tensor:
    """Trust: c rho, normalised over each row's present channels [B,M]; zeros in rows without any."""
    certainty_BM = torch.exp(-variance_BMK.sqrt().mean(dim=-1))
    rho_BM = 1.0 / variance_BMK.norm(dim=-1).log1p()
    trust_BM = torch.where(present_BM, certainty_BM * rho_BM, 0.0)
    some_B1 = present_BM.any(dim=1, keepdim=True)
    return trust_BM / torch.where(some_B1, trust_BM.sum(dim=1, keepdim=True), 1.0)


def _parts(output: Output) -> Tensor:
    """Both parts side by side, z [B,M,Z]."""
    return torch.cat([output.terms["common"], output.terms["specific"]], dim=-1)


def _each(modules: nn.ModuleDict, x_BMD: Tensor) -> Tensor:
    """Each channel's own module on its own column: [B,M,D] -> [B,M,K]."""
    return torch.stack([module(x_BMD[:, column]) for column, module in enumerate(modules.values())], dim=1)


def _of_one_length(x_BMD: Tensor) -> Tensor:
    """Each vector divided by its root mean square; zero stays zero."""
    return f.rms_norm(x_BMD, x_BMD.shape[-1:], eps=1e-6)


def _gaps(energy_M: Tensor, held_M: Tensor, known_M: Tensor) -> Tensor:
    """The mean squared gap between two channels' energies, of which the lower one's loss is held."""
    above_MM = f.relu(energy_M[:, None] - held_M).square()  # of (m, n) and (n, m) one is zero
    known = known_M.sum()
    return (above_MM * known_M[:, None] * known_M).sum() / (known * (known - 1) / 2).clamp(min=1)


def _gradient_penalty(energy_M: Tensor, z_BMZ: Tensor, present_BM: Tensor) -> Tensor:
    """||dE/dz||^2 as a mean over the rows that count in E; zero where nothing is differentiated, as in validation."""
    if not (torch.is_grad_enabled() and z_BMZ.requires_grad):
        return energy_M.sum() * 0.0
    (slope_BMZ,) = torch.autograd.grad(energy_M.sum(), z_BMZ, create_graph=True)
    rows_M = present_BM.sum(dim=0)  # a row's own slope is that of the mean times the number of rows
    return _mean_of_each((slope_BMZ * rows_M[:, None]).square().sum(dim=-1), present_BM).mean()


def _mean_of_each(value_BM: Tensor, rows_BM: Tensor) -> Tensor:
    """Each channel's mean over its rows [M]; zero where there is none."""
    return (value_BM * rows_BM).sum(dim=0) / rows_BM.sum(dim=0).clamp(min=1)
