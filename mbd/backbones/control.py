"""The masked-training control: MBD's encoders, late fusion, nothing else. It generates no channel and has one loss.

What a paper's machinery is worth is what it adds to this network; it knows neither optimiser nor cohort. The masking
itself is the training loop's, as for every backbone. Legend: B rows, T frames, F raw features, D width, K outputs, M
channels.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from mbd.backbones.base import Backbone, Fidelity, Interface, Output
from mbd.backbones.stem import Encoders, GatedMlp, StemOptions
from mbd.cohort.batch import Batch


class MaskedTrainingControl(Backbone):
    """Each channel is encoded by itself; the mean over the channels that are there is refined, normed and read out.

    A row without any channel is answered with the mean label of the training rows.
    """

    name = "control"
    Options = StemOptions
    fidelity: ClassVar[Fidelity] = "inspired"
    deviations = (
        "no paper's system but the control beside them: late fusion, masked training, no generators, no auxiliary loss",
        "late fusion is the mean over the present channels' encodings, then one gated MLP and a linear head",
    )

    options: StemOptions

    def __init__(self, interface: Interface, options: StemOptions) -> None:
        super().__init__(interface, options)
        width = options.width
        self.encoders = Encoders(interface, options)
        self.refine = GatedMlp(width, width, hidden=2 * width, dropout=options.dropout)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, interface.outputs)

    def forward(self, batch: Batch) -> Output:
        """Encode what is present, average, predict."""
        encoded = self.encoders.encoded(self, batch)
        present_BM = self.present(batch)
        mean_BD = torch.stack(list(encoded.values())).sum(dim=0) / present_BM.sum(dim=1, keepdim=True).clamp(min=1)
        embedding_BD = self.norm(mean_BD + self.refine(mean_BD))
        return Output(self.answer(self.head(embedding_BD), batch), embedding_BD, encoded)

    def losses(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """The squared error in standard units, of scores or of one-hot classes, as MBD's task loss; no other term."""
        return {"task": self.task_loss(output.prediction, batch)}
