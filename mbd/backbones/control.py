"""The masked-training control: MBD's encoders, late fusion, nothing else. It generates no channel and has one loss.

What a paper's machinery is worth is what it adds to this network; it knows neither optimiser nor cohort. The masking
itself is the training loop's, as for every backbone. Legend: B rows, T frames, F raw features, D width, K outputs, M
channels.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mbd.backbones.base import Backbone, Fidelity, Interface, Output, ParameterGroup
from mbd.backbones.mbd import Encoder, GatedMlp, MbdOptions
from mbd.cohort.batch import Batch
from mbd.cohort.modality import Modality

_COLUMN = {modality: column for column, modality in enumerate(Modality)}


@dataclass(frozen=True)
class ControlOptions:
    """Sizes, with the defaults of the network that it is the control of.

    Attributes:
        width: D, of every channel's encoding and of Z.
        dropout: after every hidden layer.
        input_dropout: on standardised input features, in training only.
    """

    width: int = MbdOptions.width
    dropout: float = MbdOptions.dropout
    input_dropout: float = MbdOptions.input_dropout


class MaskedTrainingControl(Backbone):
    """Each channel is encoded by itself; the mean over the channels that are there is refined, normed and read out.

    A row without any channel is answered with the mean label of the training rows.
    """

    name = "control"
    Options = ControlOptions
    fidelity: ClassVar[Fidelity] = "inspired"
    deviations = (
        "no paper's system but the control beside them: late fusion, masked training, no generators, no auxiliary loss",
        "late fusion is the mean over the present channels' encodings, then one gated MLP and a linear head",
    )

    options: ControlOptions

    def __init__(self, interface: Interface, options: ControlOptions) -> None:
        super().__init__(interface, options)
        width = options.width
        stem = MbdOptions(width=width, dropout=options.dropout, input_dropout=options.input_dropout)
        self.encoders = nn.ModuleDict(
            {m.value: Encoder(s.dim, sequence=s.sequence, options=stem) for m, s in interface.channels.items()}
        )
        self.refine = GatedMlp(width, width, hidden=2 * width, dropout=options.dropout)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, interface.outputs)

    @property
    def embedding_dim(self) -> int:
        """D."""
        return self.options.width

    def forward(self, batch: Batch) -> Output:
        """Encode what is present, average, predict."""
        encoded = {m: self._encode(m, batch) for m in self.interface.channels}
        present_BM = batch.present[:, [_COLUMN[m] for m in self.interface.channels]]
        mean_BD = torch.stack(list(encoded.values())).sum(dim=0) / present_BM.sum(dim=1, keepdim=True).clamp(min=1)
        embedding_BD = self.norm(mean_BD + self.refine(mean_BD))
        # zero in standard units is the mean label: the prior of a row that says nothing
        standard_BK = torch.where(present_BM.any(dim=1, keepdim=True), self.head(embedding_BD), 0.0)
        return Output(self.standardiser.prediction(standard_BK), embedding_BD, encoded)

    def _encode(self, modality: Modality, batch: Batch) -> Tensor:
        """One channel's encoding [B,D], zero in rows without it."""
        if modality not in batch.features:
            return self.head.weight.new_zeros(len(batch.present), self.options.width)
        present_B = batch.present[:, _COLUMN[modality]]
        observed_BT = batch.valid[modality] & present_B[:, None]
        features_BTF = self.standardiser.features(modality, batch.features[modality], observed_BT)
        encoded_BD: Tensor = self.encoders[modality.value](features_BTF, observed_BT)
        return torch.where(present_B[:, None], encoded_BD, 0.0)

    def losses(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """The squared error in standard units, of scores or of one-hot classes, as MBD's task loss; no other term."""
        error_BK = self.standardiser.target(output.prediction) - self.standardiser.target(batch.target)
        return {"task": error_BK.square().mean()}

    def parameter_groups(self) -> list[ParameterGroup]:
        """One group a channel, and one shared."""
        own = [ParameterGroup(m.value, tuple(self.encoders[m.value].parameters())) for m in self.interface.channels]
        shared = (*self.refine.parameters(), *self.norm.parameters(), *self.head.parameters())
        return [*own, ParameterGroup("shared", shared)]
