"""Gradients of a network's own losses on given rows, masked as training masks them. It knows no method.

Legend: B rows, M = 3 modalities, P parameters.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mbd.backbones.base import Backbone
from mbd.cohort.batch import Batch, make_batch
from mbd.cohort.cohort import Cohort
from mbd.cohort.modality import Modality, ModalitySet
from mbd.training.masking import as_columns, draw_patterns


@contextmanager
def own_generator(seed: int) -> Iterator[None]:
    """Torch's generator from this seed inside, and as it was outside."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def clone(network: Backbone) -> Backbone:
    """A copy that may be changed."""
    return copy.deepcopy(network)


def batches(rows: Cohort, size: int, *, must: Modality | None = None) -> Iterator[Batch]:
    """One pass in random order, each row masked to a pattern of its channels, which holds ``must`` if that is given."""
    patterns = [p for p in rows.patterns if must is None or must in p]
    order = torch.randperm(len(rows)).tolist()
    for start in range(0, len(order), size):
        whole = make_batch(rows, order[start : start + size])
        yield masked(whole, patterns)


def masked(whole: Batch, patterns: Sequence[ModalitySet]) -> Batch:
    """Each row with a pattern drawn among these."""
    return whole.mask(draw_patterns(whole.present, as_columns(patterns)))


def all_losses(network: Backbone, batch: Batch) -> Tensor:
    """What training minimises."""
    return torch.stack(list(network.losses(network(batch), batch).values())).sum()


def task_loss(network: Backbone, batch: Batch) -> Tensor:
    """The task's term alone."""
    return network.losses(network(batch), batch)["task"]


def gradients(loss: Tensor, parameters: Sequence[nn.Parameter], *, graph: bool = False) -> list[Tensor]:
    """Of a loss, in the parameters' shapes; zeros where it does not depend on them."""
    return list(torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True, create_graph=graph))


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """All numbers as one vector [P]."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def add(parameters: Sequence[nn.Parameter], change_P: Tensor) -> None:
    """Add a vector [P] to the parameters, in place."""
    parts = torch.split(change_P, [p.numel() for p in parameters])
    with torch.no_grad():
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.add_(part.reshape(parameter.shape))
