"""Our AdamW is AdamW, and goes on from its state to the same bits."""

import pytest
import torch
from torch import nn

from mbd.training.adamw import AdamW


def parameters():
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(3, 2, generator=generator)), nn.Parameter(torch.randn(4, generator=generator))]


def pull(parameters, step):
    """Gradients of a loss that changes from step to step."""
    sum(((p - step) ** 2 * torch.arange(1, p.numel() + 1).view_as(p)).sum() for p in parameters).backward()


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_it_agrees_with_torchs(weight_decay):
    ours, theirs = parameters(), parameters()
    mine = AdamW([ours[:1], ours[1:]], weight_decay=weight_decay)
    reference = torch.optim.AdamW([{"params": [p]} for p in theirs], weight_decay=weight_decay)
    for step in range(50):
        rates = [0.1 / (step + 1), 0.02]
        for group, rate in zip(reference.param_groups, rates, strict=True):
            group["lr"] = rate
        pull(ours, step % 3)
        pull(theirs, step % 3)
        mine.step(rates)
        reference.step()
        reference.zero_grad()
    for mine_p, reference_p in zip(ours, theirs, strict=True):
        assert torch.allclose(mine_p, reference_p, rtol=0, atol=1e-6)


def test_it_goes_on_from_its_state_to_the_same_bits():
    whole, broken = parameters(), parameters()
    first = AdamW([whole], weight_decay=0.1)
    second = AdamW([broken], weight_decay=0.1)
    for step in range(20):
        pull(whole, step)
        first.step([0.05])
    for step in range(20):
        if step == 7:
            stored = {name: tensor.clone() for name, tensor in second.state().items()}
            second = AdamW([broken], weight_decay=0.1)
            second.restore(stored)
        pull(broken, step)
        second.step([0.05])
    assert all(torch.equal(a, b) for a, b in zip(whole, broken, strict=True))


def test_a_parameter_without_a_gradient_stays_and_gradients_are_cleared():
    used, unused = parameters()
    before = unused.clone()
    optimiser = AdamW([[used, unused]], weight_decay=0.5)
    pull([used], 0)
    optimiser.step([0.1])
    assert torch.equal(unused, before)
    assert used.grad is None
