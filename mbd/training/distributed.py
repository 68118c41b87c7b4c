"""One batch's gradients, by one process or by several that share its rows. It knows no network, optimiser or launcher.

Losses of the zoo mix the rows of a batch (contrast, means), forward passes do not. So every rank runs the forward pass
of its own rows; the outputs are gathered; every rank computes the loss of the *whole* batch from them; and each takes
its rows' gradient back through its own forward pass. The sum over ranks is the gradient of one process, whatever the
shares, up to rounding. Only dropout draws other masks. `DistributedDataParallel` would average the gradients of each
rank's own loss, which is another loss. The price: the loss's own parameters (generators, contrast) work on every rank.
Legend: B rows of the batch, W all numbers of an output side by side.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mbd.backbones.base import Backbone, Output
from mbd.cohort.batch import Batch
from mbd.ranks import Ranks
from mbd.training.randomness import derived_seed


def loss_gradients(backbone: Backbone, batch: Batch, ranks: Ranks, *, seed: int, step: str) -> dict[str, float]:
    """Leave the gradient of the whole batch's loss in every parameter, and return the loss terms; alike on all ranks.

    Args:
        backbone: in training mode, without gradients, with the same weights on every rank.
        batch: all of its rows, on every rank.
        ranks: who shares the work; their masks of dropout come from streams of their own.
        seed: of those streams.
        step: tells this call's streams from others'.

    Raises:
        RanksError: another process stopped.
    """
    if ranks.count == 1:
        terms = backbone.losses(backbone(batch), batch)
        torch.autograd.backward(_total(terms))
        return {name: term.item() for name, term in terms.items()}

    rows = ranks.share(len(batch.present))
    mine = slice(rows.start, rows.stop)
    with torch.random.fork_rng(devices=[]):  # masks drawn here must not move the stream that all ranks share
        torch.manual_seed(derived_seed(seed, f"{step}, rank {ranks.rank}"))
        # A rank without rows looks at one to know what an output is like.
        own = backbone(batch.select(torch.arange(rows.start, rows.stop) if rows else torch.zeros(1, dtype=torch.int64)))
        own_BW = _flat(own)
        whole_BW = torch.zeros(len(batch.present), own_BW.shape[1], dtype=own_BW.dtype)
        if rows:
            whole_BW[mine] = own_BW.detach()
        # The outputs of all ranks, as a leaf whose gradient is asked for. Each row is one rank's numbers plus zeros.
        whole_BW = ranks.sum(whole_BW).requires_grad_()
        torch.manual_seed(derived_seed(seed, f"{step}, losses"))
        terms = backbone.losses(_shaped(whole_BW, own), batch)
    torch.autograd.backward(_total(terms))
    if not ranks.first:  # the loss's own gradient is everybody's: the first rank counts it
        backbone.zero_grad()
    if rows and whole_BW.grad is not None:
        torch.autograd.backward(own_BW, whole_BW.grad[mine])
    _sum_gradients(list(backbone.parameters()), ranks)
    values = torch.stack([term.detach() for term in terms.values()])
    told = ranks.sum(values if ranks.first else torch.zeros_like(values))
    return dict(zip(terms, told.tolist(), strict=True))


def _total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def _tensors(output: Output) -> list[Tensor]:
    """Everything that an output holds, in one order."""
    optional = [tensor for tensor in (output.log_variance, output.weights) if tensor is not None]
    return [output.prediction, output.embedding, *output.per_modality.values(), *optional, *output.terms.values()]


def _flat(output: Output) -> Tensor:
    return torch.cat([tensor.flatten(1) if tensor.ndim > 1 else tensor[:, None] for tensor in _tensors(output)], dim=1)


def _shaped(whole_BW: Tensor, like: Output) -> Output:
    """The inverse of `_flat`, for an output that is like this one but for its number of rows."""
    shapes = [tensor.shape[1:] for tensor in _tensors(like)]
    pieces = torch.split(whole_BW, [shape.numel() for shape in shapes], dim=1)
    found = iter([piece.reshape(-1, *shape) for piece, shape in zip(pieces, shapes, strict=True)])
    return Output(
        prediction=next(found),
        embedding=next(found),
        per_modality={modality: next(found) for modality in like.per_modality},
        log_variance=None if like.log_variance is None else next(found),
        weights=None if like.weights is None else next(found),
        terms={name: next(found) for name in like.terms},
    )


def _sum_gradients(parameters: Sequence[nn.Parameter], ranks: Ranks) -> None:
    """Replace every gradient by the sum over ranks; a parameter that no rank has one for keeps none, as alone."""
    pieces = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    reached = torch.tensor([p.grad is not None for p in parameters], dtype=pieces[0].dtype)
    summed = ranks.sum(torch.cat([piece.reshape(-1) for piece in (*pieces, reached)]))
    *gradients, reached = torch.split(summed, [piece.numel() for piece in (*pieces, reached)])
    for parameter, gradient, by in zip(parameters, gradients, reached.tolist(), strict=True):
        parameter.grad = gradient.view_as(parameter) if by else None
