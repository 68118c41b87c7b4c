"""Late fusion of decisions: one network a channel, and the mean of their predictions. It generates no channel.

The second control beside the papers' systems. Both fuse late: the masked-training control fuses the encodings and reads
their mean out by one head; here each channel predicts by itself and the predictions are fused, so that no channel can
lean on another. It knows neither optimiser nor cohort, and the masking is the training loop's, as for every backbone.
Legend: B rows, T frames, F raw features, D width, K outputs, M channels.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from mbd.backbones.base import Backbone, Fidelity, Interface, Output
from mbd.backbones.stem import Encoders, StemOptions
from mbd.cohort.batch import Batch
from mbd.cohort.modality import COLUMN


class LateFusion(Backbone):
    """Each channel's encoding is read out by a head of its own; the prediction is the mean over those that are there.

    The embedding [B,D*M] is the channels' encodings side by side, each divided by the number of channels that the row
    has, zeros for the others: all heads side by side read the prediction out of it, linearly. (Hence heads without a
    constant, which would depend on the channels; the encodings' last norm has one.) A row without any channel is
    answered with the mean label of the training rows.
    """

    name = "late-fusion"
    Options = StemOptions
    fidelity: ClassVar[Fidelity] = "inspired"
    deviations = (
        "no paper's system but a control beside them: late fusion of decisions, masked training, no generators",
        "late fusion is the mean over the present channels' predictions; each is trained by its own task loss too",
    )

    options: StemOptions

    def __init__(self, interface: Interface, options: StemOptions) -> None:
        super().__init__(interface, options)
        self.encoders = Encoders(interface, options)
        self.heads = nn.ModuleDict(
            {m.value: nn.Linear(options.width, interface.outputs, bias=False) for m in interface.channels}
        )

    @property
    def embedding_dim(self) -> int:
        """D for each channel."""
        return self.options.width * len(self.interface.channels)

    def forward(self, batch: Batch) -> Output:
        """Encode what is present, let each channel predict, average."""
        encoded = self.encoders.encoded(self, batch)
        encoded_BMD = torch.stack(list(encoded.values()), dim=1)
        present_BM = self.present(batch).to(encoded_BMD.dtype)
        weights_BM = present_BM / present_BM.sum(dim=1, keepdim=True).clamp(min=1)
        share_BMD = encoded_BMD * weights_BM[..., None]
        said_BMK = torch.stack([self.heads[m.value](share_BMD[:, i]) for i, m in enumerate(encoded)], dim=1)
        return Output(self.answer(said_BMK.sum(dim=1), batch), share_BMD.flatten(1), encoded, weights=weights_BM)

    def losses(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """The squared error in standard units, as the control's, of the mean; and of each channel by itself."""
        target_BK = self.standardiser.target(batch.target)
        own = []
        for m, x_BD in output.per_modality.items():
            error_B = (self.heads[m.value](x_BD) - target_BK).square().mean(dim=1)
            has_B = batch.present[:, COLUMN[m]]
            own.append((error_B * has_B).sum() / has_B.sum().clamp(min=1))
        return {"task": self.task_loss(output.prediction, batch), "unimodal": torch.stack(own).mean()}
