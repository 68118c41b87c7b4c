"""What every backbone promises, and the one guarantee that none of them has to keep by itself: isolation of blocks.

It knows no network, no optimiser and no lattice. Legend: B rows, M = 3 modalities, D embedding width, K outputs.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from mbd.backbones.standardiser import Standardiser
from mbd.cohort.batch import Batch
from mbd.cohort.cohort import Cohort
from mbd.cohort.modality import COLUMN, Modality, ModalitySet, in_order
from mbd.errors import TrainingError

Fidelity = Literal["paper", "partial", "inspired"]
"""How close a backbone follows its paper: in full, in part, or in idea only."""

Json = dict[str, Any]


@dataclass(frozen=True)
class ChannelShape:
    """What a backbone has to know about one channel.

    Attributes:
        dim: features per vector or per frame.
        sequence: whether the channel has frames; a vector is a sequence of one.
    """

    dim: int
    sequence: bool


@dataclass(frozen=True)
class Interface:
    """The sockets of a backbone: its channels, and how many numbers it predicts.

    Attributes:
        channels: the cohort's modalities, in declaration order.
        outputs: 1 for regression, the number of classes for classification.
    """

    channels: Mapping[Modality, ChannelShape]
    outputs: int

    @classmethod
    def of(cls, cohort: Cohort) -> Self:
        """The interface that fits a cohort."""
        return cls(
            channels={
                modality: ChannelShape(dim=channel.dim, sequence=channel.kind == "sequence")
                for modality, channel in ((m, cohort.channels[m]) for m in cohort.modalities)
            },
            outputs=cohort.task.outputs,
        )

    def to_json(self) -> Json:
        """As plain JSON; the inverse of `from_json`."""
        channels = {m.value: {"dim": s.dim, "sequence": s.sequence} for m, s in self.channels.items()}
        return {"channels": channels, "outputs": self.outputs}

    @classmethod
    def from_json(cls, value: Json) -> Self:
        """From plain JSON; the inverse of `to_json`."""
        shapes = {Modality(name): ChannelShape(**shape) for name, shape in value["channels"].items()}
        return cls(channels={m: shapes[m] for m in in_order(shapes)}, outputs=value["outputs"])


@dataclass(frozen=True)
class Output:
    """What one forward pass says about B rows.

    Attributes:
        prediction: [B,K], the score, or one number per class (the largest is the predicted class).
        embedding: [B,D], the fused representation Z.
        per_modality: [B,D] for each channel of the interface; zeros in rows that lack it.
        log_variance: [B], the logarithm of the variance that it expects of its error, in standard units; None from
            networks that do not say.
        weights: [B,M], how much each channel of the interface counted, rows summing to 1 where some channel is present;
            None likewise.
        terms: what else the losses need, [B, ...] by name.
    """

    prediction: Tensor
    embedding: Tensor
    per_modality: Mapping[Modality, Tensor]
    log_variance: Tensor | None = None
    weights: Tensor | None = None
    terms: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that belong together.

    Attributes:
        name: a modality, ``shared``, or what else a backbone sets apart.
        parameters: each parameter of the backbone is in exactly one group.
        learning_rate: the group's own rate, or None for the recipe's.
    """

    name: str
    parameters: tuple[nn.Parameter, ...]
    learning_rate: float | None = None


class Backbone(nn.Module, ABC):
    """A network of the zoo.

    Promises of every subclass: no operation mixes rows in `forward`; labels are read by `losses` alone, and of a
    forward pass it knows the `Output` alone; a channel that a row lacks is never read; a row without any channel gives
    the prior, never NaN.

    Attributes:
        name: in the zoo.
        generates: whether channels that a row lacks are made up from the others.
        reads_context: whether `forward` reads `Batch.context` where it is given. In the lattice it is not: there a row
            stands for itself, so that a deletion takes away no more and no less than the person's rows.

    Args:
        interface: the channels and outputs it is built for.
        options: its sizes and loss weights, a frozen dataclass of plain numbers.
    """

    name: ClassVar[str]
    generates: ClassVar[bool] = False
    reads_context: ClassVar[bool] = False
    fidelity: ClassVar[Fidelity]
    deviations: ClassVar[tuple[str, ...]]
    Options: ClassVar[type[Any]]

    def __init__(self, interface: Interface, options: Any) -> None:
        super().__init__()
        self.interface = interface
        self.options = options
        self.standardiser = Standardiser({m: s.dim for m, s in interface.channels.items()}, interface.outputs)

    @property
    def embedding_dim(self) -> int:
        """D, the width of every h_B: that of the stem, unless a network says otherwise."""
        return int(self.options.width)

    @abstractmethod
    def forward(self, batch: Batch) -> Output:
        """Predict from the channels that are present; a channel may be missing from `batch.features` altogether."""

    @abstractmethod
    def losses(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """The weighted loss terms of this batch; their sum is minimised, and ``task`` is among them."""

    def parameter_groups(self) -> list[ParameterGroup]:
        """All parameters: those that belong together, and the others as ``shared``."""
        groups = self.own_groups()
        grouped = {id(p) for group in groups for p in group.parameters}
        shared = tuple(p for p in self.parameters() if id(p) not in grouped)
        return [*groups, ParameterGroup("shared", shared)] if shared else groups

    def own_groups(self) -> list[ParameterGroup]:
        """The parameters of each modality; a network that sets more apart adds to them.

        What stands in a `ModuleDict` under a modality's name is that modality's.
        """
        dicts = [module for module in self.modules() if isinstance(module, nn.ModuleDict)]
        return [
            ParameterGroup(m, tuple(p for each in dicts if m in each for p in each[m].parameters()))
            for m in (modality.value for modality in self.interface.channels)
        ]

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Told before each epoch which one it is, of at most how many: networks that train in stages change here."""

    def stage(self, epoch: int, epochs: int) -> int:
        """In which stage of training an epoch is: weights of one stage are not kept once there are some of a later."""
        return 0

    def read(self, modality: Modality, batch: Batch) -> tuple[Tensor, Tensor]:
        """One channel's standardised features [B,T,F], zero where nothing was observed, and where something was [B,T].

        A channel that the batch does not have is one frame that was not observed.
        """
        if modality not in batch.features:
            dim = self.interface.channels[modality].dim
            zeros_BTF = self.standardiser.get_buffer("target_mean").new_zeros(len(batch.present), 1, dim)
            return zeros_BTF, zeros_BTF[..., 0].bool()
        observed_BT = batch.observed[modality] & batch.present[:, COLUMN[modality], None]
        return self.standardiser.features(modality, batch.features[modality], observed_BT), observed_BT

    def present(self, batch: Batch) -> Tensor:
        """Which row has which of the interface's channels, bool [B,M]."""
        return batch.present[:, [COLUMN[modality] for modality in self.interface.channels]]

    def answer(self, standard_BK: Tensor, batch: Batch) -> Tensor:
        """Predictions [B,K] from standard units; a row without any channel is answered with the mean label."""
        some_B1 = self.present(batch).any(dim=1, keepdim=True)
        return self.standardiser.prediction(torch.where(some_B1, standard_BK, 0.0))

    def task_loss(self, prediction_BK: Tensor, batch: Batch) -> Tensor:
        """The mean squared error in standard units, of scores or one-hot classes: the loss of the lattice's heads."""
        error_BK = self.standardiser.target(prediction_BK) - self.standardiser.target(batch.target)
        return error_BK.square().mean()

    def embed(self, batch: Batch, block: ModalitySet) -> Tensor:
        """The embedding h_B [B,D] of the channels in ``block``: `embed_each` with one block for all rows."""
        return self.embed_each(batch, [block] * len(batch.present))

    def embed_each(self, batch: Batch, blocks: Sequence[ModalitySet]) -> Tensor:
        """The embeddings h_B [B,D], with a block for each row, in the backbone's own precision.

        The network is handed rows that hold nothing but their block's channels (no other channel's values, length or
        presence, no label) and it does not mix rows, so h_B is a function of the block alone. Dropout is off.
        Rows that lack a channel of their block are zero.

        Raises:
            TrainingError: a block is empty, or names a channel this backbone was not built for.
        """
        known = self.interface.channels
        number = {block: n for n, block in enumerate(dict.fromkeys(blocks))}
        for block in number:
            if not block or not block <= set(known):
                found = [modality.value for modality in in_order(block)]
                raise TrainingError(
                    f"The block {found} is not a non-empty set of this backbone's channels.",
                    remedy=f"use channels among: {', '.join(m.value for m in known)}; "
                    "or train a backbone on a cohort that has the missing ones",
                )
        columns = np.array([[modality in block for modality in Modality] for block in number], dtype=np.bool_)
        wanted_BM = torch.from_numpy(columns.reshape(-1, len(Modality))[[number[block] for block in blocks]])
        isolated = isolate(batch, frozenset().union(*number))
        if len(number) > 1:
            isolated = isolated.mask(wanted_BM)
        was_training = self.training
        awake = any(module.training for module in self.modules())  # looking costs a quarter of setting
        if awake:
            self.eval()
        try:
            with torch.inference_mode():  # what leaves this method is an ordinary tensor again
                output: Output = self(isolated)
        finally:
            if awake:
                self.train(was_training)
        complete_B = (isolated.present == wanted_BM).all(dim=1)
        return torch.where(complete_B[:, None], output.embedding, 0.0)


def isolate(batch: Batch, block: ModalitySet) -> Batch:
    """The same rows with nothing but the channels of ``block``: no others, no clip before, and zeros for labels."""
    return Batch(
        features={m: batch.features[m] for m in in_order(block)},
        valid={m: batch.valid[m] for m in in_order(block)},
        observed={m: batch.observed[m] for m in in_order(block)},
        present=batch.present & torch.tensor([modality in block for modality in Modality]),
        target=torch.zeros_like(batch.target),
    )
