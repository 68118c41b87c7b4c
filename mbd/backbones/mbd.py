"""Missing-by-Design (arXiv 2602.16144): missing channels are generated from the others and a property embedding.

It knows neither optimiser nor cohort: a batch goes in, a fused embedding, a prediction and loss terms come out.

Legend: B rows, D embedding width, P property width, K outputs. X^m, X_hat^m, P^m, G_m, DE_m,
Sigma^m, mu^m, F, Z, C, B_m and X_tilde^m are the paper's own names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as f
from torch import Tensor, nn

from mbd.backbones.base import Backbone, Fidelity, Interface, Output, ParameterGroup
from mbd.backbones.stem import Encoders, GatedMlp, StemOptions, mean_over
from mbd.cohort.batch import Batch
from mbd.cohort.modality import COLUMN, Modality


@dataclass(frozen=True)
class MbdOptions(StemOptions):
    """Sizes and loss weights.

    Attributes:
        property_width: P, of P^m, Sigma^m and mu^m (128 in the paper).
        reconstruction: alpha, the weight of L_re.
        property_weight: beta, the weight of L_pe (orthogonality, invariance, approach, decomposition).
        contrast: gamma, the weight of L_con.
        margin: how far P^m may stay from mu_bar^m (mean square per dimension) at no cost.
        temperature: of InfoNCE.
        property_learning_rate: of P^m (the paper's 1e-3).
    """

    property_width: int = 128
    reconstruction: float = 0.5
    property_weight: float = 0.1
    contrast: float = 0.5
    margin: float = 0.1
    temperature: float = 0.2
    property_learning_rate: float = 1e-3


class MissingByDesign(Backbone):
    """The MBD network for one, two or three declared channels."""

    name = "mbd"
    Options = MbdOptions
    fidelity: ClassVar[Fidelity] = "partial"
    generates = True
    deviations = (
        "G, DE, F, B and C are gated MLPs and a linear head: the paper leaves them open",
        "X^m is the encoder's output, layer-normalised and as a target without gradient, not the raw feature",
        "X_hat^m is trained by leave-one-out on every availability pattern: each present channel from the others",
        "squared loss for scores and, on one-hot labels, for classes: it is the loss of the lattice's heads",
        "L_or is the squared cosine: the paper's signed inner product does not enforce orthogonality",
        "squared norms are means over dimensions, so that loss weights do not depend on widths",
        "L_con compares B_m(Z) with Sigma^m only in channels that the row still has after masking",
    )

    options: MbdOptions

    def __init__(self, interface: Interface, options: MbdOptions) -> None:
        super().__init__(interface, options)
        width, prop, names = options.width, options.property_width, [m.value for m in interface.channels]

        def mlp(inputs: int, outputs: int) -> GatedMlp:
            return GatedMlp(inputs, outputs, hidden=2 * width, dropout=options.dropout)

        self.encoders = Encoders(interface, options)
        self.properties = nn.ParameterDict({n: nn.Parameter(0.1 * torch.randn(prop)) for n in names})  # P^m
        self.generators = nn.ModuleDict({n: mlp(width * (len(names) - 1) + prop, width) for n in names})  # G_m
        self.generated_norm = nn.LayerNorm(width)  # X_hat^m lives where X^m lives
        self.decompose = nn.ModuleDict({n: mlp(width, 2 * prop) for n in names})  # DE_m
        self.recompose = nn.ModuleDict({n: mlp(2 * prop, width) for n in names})
        self.back_translate = nn.ModuleDict({n: mlp(width, prop) for n in names})  # B_m
        self.fuse = mlp(width * len(names) + len(names), width)  # F
        self.fused_norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, interface.outputs)  # C

    def forward(self, batch: Batch) -> Output:
        """Encode what is present, generate what is missing, fuse, predict."""
        present = {m: batch.present[:, COLUMN[m]] for m in self.interface.channels}
        encoded = self.encoders.encoded(self, batch)
        complete = [
            encoded[m]
            if present[m].all() and not self.training  # in training, dropout's stream counts every generator
            else torch.where(present[m][:, None], encoded[m], self.generate(m, encoded))
            for m in self.interface.channels
        ]
        flags = torch.stack(list(present.values()), dim=1).to(complete[0].dtype)
        residual_BD = torch.stack(complete).mean(dim=0)
        embedding_BD = self.fused_norm(residual_BD + self.fuse(torch.cat([*complete, flags], dim=1)))
        prediction_BK = self.standardiser.prediction(self.head(embedding_BD))
        return Output(prediction=prediction_BK, embedding=embedding_BD, per_modality=encoded)

    def generate(self, modality: Modality, encoded: Mapping[Modality, Tensor]) -> Tensor:
        """X_hat^m = G_m(X^others, P^m) [B,D]; a missing other is zero."""
        others = [x_BD for other, x_BD in encoded.items() if other != modality]
        property_P = self.properties[modality.value]
        property_BP = property_P.expand(len(encoded[modality]), -1)
        generated_BD = self.generators[modality.value](torch.cat([*others, property_BP], dim=1))
        normed_BD: Tensor = self.generated_norm(generated_BD)
        return normed_BD

    def losses(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """L_task + alpha L_re + beta L_pe + gamma L_con, term by term and already weighted."""
        terms = [self._channel_losses(modality, self.present(batch), output) for modality in self.interface.channels]
        options = self.options
        weights = {
            "reconstruction": options.reconstruction,
            "orthogonality": options.property_weight,
            "invariance": options.property_weight,
            "approach": options.property_weight,
            "decomposition": options.property_weight,
            "contrast": options.contrast,
        }
        auxiliary = {
            name: weight * torch.stack([term[name] for term in terms]).mean() for name, weight in weights.items()
        }
        return {"task": self.task_loss(output.prediction, batch), **auxiliary}

    def _channel_losses(self, modality: Modality, present_BM: Tensor, output: Output) -> dict[str, Tensor]:
        """Every label-free term of one channel, over the rows that have it; zero where there are too few rows."""
        name = modality.value
        has_B = present_BM[:, list(self.interface.channels).index(modality)]
        has_other_B = has_B & (present_BM.sum(dim=1) > 1)
        x_BD = output.per_modality[modality]
        generated_BD = self.generate(modality, output.per_modality)

        sigma_BP, mu_BP = self.decompose[name](x_BD).chunk(2, dim=1)
        mean_P = (mu_BP * has_B[:, None]).sum(dim=0) / has_B.sum().clamp(min=1)
        recomposed_BD = self.recompose[name](torch.cat([sigma_BP, mu_BP], dim=1))
        distance = (self.properties[name] - mean_P).square().mean()
        return {
            "reconstruction": mean_over((generated_BD - x_BD.detach()).square().mean(dim=1), has_other_B),
            "orthogonality": mean_over(f.cosine_similarity(sigma_BP, mu_BP, dim=1).square(), has_B),
            "invariance": mean_over((mu_BP - mean_P).square().mean(dim=1), has_B),
            "approach": f.relu(distance - self.options.margin) * has_B.any(),
            "decomposition": mean_over((recomposed_BD - x_BD.detach()).square().mean(dim=1), has_B),
            "contrast": self._contrast(self.back_translate[name](output.embedding)[has_B], sigma_BP[has_B]),
        }

    def _contrast(self, translated_BP: Tensor, sigma_BP: Tensor) -> Tensor:
        """InfoNCE (van den Oord et al. 2018): row i's X_tilde^m must find row i's Sigma^m among all rows'."""
        if len(sigma_BP) < 2:
            return sigma_BP.sum() * 0.0
        similarity_BB = f.normalize(translated_BP, dim=1) @ f.normalize(sigma_BP, dim=1).T
        return f.cross_entropy(
            similarity_BB / self.options.temperature, torch.arange(len(sigma_BP), device=sigma_BP.device)
        )

    def synthesis(self, modality: Modality) -> tuple[str, ...]:
        """The names of P^m and of all parameters of G_m, DE_m (with recomposition) and B_m: what can make up X^m."""
        parts = ("generators", "decompose", "recompose", "back_translate")
        towers = tuple(f"{part}.{modality.value}." for part in parts)
        own = {f"properties.{modality.value}"}
        return tuple(name for name, _ in self.named_parameters() if name in own or name.startswith(towers))

    def own_groups(self) -> list[ParameterGroup]:
        """One group a channel, and one for all P^m at their own rate."""
        rate = self.options.property_learning_rate
        properties = ParameterGroup("properties", tuple(self.properties.values()), learning_rate=rate)
        return [*super().own_groups(), properties]
