"""What AlignMamba-2 claims: channels are drawn together by training, free of cost at inference; one scan fuses them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch.overrides import TorchFunctionMode

import mbd.backbones.alignmamba as module
from mbd.backbones.alignmamba import interleaved, mean_discrepancy, sinkhorn, transport_cost
from mbd.backbones.base import isolate
from mbd.backbones.stem import Frames
from mbd.cohort.modality import Modality

ALL = frozenset(Modality)
TEXT, AUDIO, VISION = Modality
STILL = {"dropout": 0.0, "input_dropout": 0.0}
SINKHORN = {"steps": 10, "temperature": 0.1}


@pytest.fixture
def complete(make_random_batch):
    """Rows that have every channel."""
    batch = make_random_batch(rows=40)
    return replace(batch, present=torch.ones_like(batch.present))


def draw_frames(rows=6, frames=5, width=4, seed=0, lost=0.3):
    """Random frames, some of them unobserved, at least the first one observed."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, frames, width, generator=generator, dtype=torch.float64)
    observed = torch.rand(rows, frames, generator=generator) >= lost
    observed[:, 0] = True
    return Frames(torch.where(observed[..., None], x, 0.0), observed)


def shares(observed):
    return observed.double() / observed.sum(dim=1, keepdim=True).clamp(min=1)


class Operations(TorchFunctionMode):
    """The names of all operations that were run."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("steps", "tolerance"), [(10, 0.03), (500, 1e-9)])
def test_the_marginals_of_the_plan_are_the_masses(steps, tolerance):
    one, other = draw_frames(), draw_frames(frames=7, seed=1)
    cost = 1 - torch.nn.functional.cosine_similarity(one.x[:, :, None], other.x[:, None], dim=-1)
    plan = sinkhorn(cost, shares(one.observed), shares(other.observed), steps=steps, temperature=0.1)
    assert plan.min() >= 0
    assert torch.allclose(plan.sum(dim=1), shares(other.observed), rtol=0, atol=1e-12)
    assert torch.allclose(plan.sum(dim=2), shares(one.observed), rtol=0, atol=tolerance)
    assert not plan.masked_select(~one.observed[..., None] | ~other.observed[:, None]).any()


def test_the_transport_costs_what_the_best_assignment_costs():
    """With equally many frames of equal mass the exact problem is an assignment."""
    one, other = draw_frames(lost=0.0), draw_frames(lost=0.0, seed=1)
    cost = 1 - torch.nn.functional.cosine_similarity(one.x[:, :, None], other.x[:, None], dim=-1)
    found = transport_cost(one, other, steps=2000, temperature=0.05)
    for row in range(6):
        best = cost[row].numpy()[linear_sum_assignment(cost[row].numpy())].mean()
        assert best - 1e-6 <= found[row].item() < best + 0.06


def test_the_same_frames_in_another_order_cost_almost_nothing_and_opposite_ones_two():
    one = Frames(torch.eye(4).repeat(3, 1, 1).double(), torch.ones(3, 4, dtype=torch.bool))
    assert transport_cost(one, replace(one, x=one.x.flip(1)), **SINKHORN).max() < 1e-3
    point = Frames(one.x[:, :1], one.observed[:, :1])
    assert transport_cost(point, replace(point, x=-point.x), **SINKHORN).tolist() == pytest.approx([2.0] * 3)


def test_frames_that_were_not_observed_have_no_mass_and_no_gradient():
    one, other = draw_frames(), draw_frames(frames=7, seed=1)
    clean = transport_cost(one, other, **SINKHORN), mean_discrepancy(one, other)
    junk = torch.where(one.observed[..., None], one.x, 50.0).requires_grad_()
    found = (
        transport_cost(Frames(junk, one.observed), other, **SINKHORN),
        mean_discrepancy(Frames(junk, one.observed), other),
    )
    for value, expected in zip(found, clean, strict=True):
        assert torch.allclose(value, expected, rtol=0, atol=1e-12)
    (gradient,) = torch.autograd.grad(found[0].sum() + found[1], junk)
    assert gradient[one.observed].abs().amax(dim=1).min() > 0
    assert not gradient[~one.observed].any()


def test_a_row_that_lacks_a_channel_costs_nothing():
    one, other = draw_frames(), draw_frames(seed=1)
    lacks = Frames(other.x, other.observed & (torch.arange(6) > 2)[:, None])
    cost = transport_cost(one, lacks, **SINKHORN)
    assert not cost[:3].any()
    assert torch.equal(cost[3:], transport_cost(one, other, **SINKHORN)[3:])
    assert mean_discrepancy(one, Frames(other.x, torch.zeros_like(other.observed))).item() == 0.0


def test_the_discrepancy_is_zero_between_alike_and_grows_with_the_distance():
    one, other = draw_frames(rows=200, frames=1), draw_frames(rows=200, frames=1, seed=1)
    assert mean_discrepancy(one, one).item() == pytest.approx(0.0, abs=1e-12)
    values = [mean_discrepancy(one, replace(other, x=other.x + shift)).item() for shift in (0.0, 0.5, 1.0, 2.0)]
    assert values[0] < 0.02
    assert values == sorted(values)
    assert values[-1] > 0.5
    tenth = [replace(each, x=each.x / 10) for each in (one, replace(other, x=other.x + 1.0))]
    assert mean_discrepancy(*tenth).item() == pytest.approx(values[2])  # shrinking is no way out


def test_the_regularisers_draw_the_channels_together(make_backbone, complete):
    """The same steps on the same rows, once with both weights and once without."""
    cost, discrepancy, task = {}, {}, {}
    for weight in (0.0, 1.0):
        align = make_backbone("alignmamba-2", transport=weight, discrepancy=weight, **STILL).train()
        optimiser = torch.optim.AdamW(align.parameters(), lr=5e-3)
        for _ in range(60):
            losses = align.losses(align(complete), complete)
            sum(losses.values()).backward()
            optimiser.step()
            optimiser.zero_grad()
        frames = align.eval().encoders.frames(align, complete)
        pairs = [(frames[a], frames[b]) for a, b in ((TEXT, AUDIO), (TEXT, VISION), (AUDIO, VISION))]
        cost[weight] = np.mean([transport_cost(*pair, **SINKHORN).mean().item() for pair in pairs])
        discrepancy[weight] = np.mean([mean_discrepancy(*pair).item() for pair in pairs])
        task[weight] = losses["task"].item()
    assert cost[1.0] < 0.5 * cost[0.0]
    assert discrepancy[1.0] < 0.5 * discrepancy[0.0]
    assert task[1.0] < 0.5


def test_at_inference_nothing_of_the_regularisers_is_left(make_backbone, complete, monkeypatch):
    found = {}
    for weight in (0.0, 7.0):
        align = make_backbone("alignmamba-2", transport=weight, discrepancy=weight)
        with torch.no_grad(), Operations() as operations:
            output = align(complete)
            losses = align.losses(output, complete)
        assert set(losses) == {"task"}
        assert not output.terms
        found[weight] = operations.names, output.prediction
    assert found[0.0][0] == found[7.0][0]
    assert torch.equal(found[0.0][1], found[7.0][1])

    def refused(*_, **__):
        raise AssertionError("a regulariser was computed")

    monkeypatch.setattr(module, "transport_cost", refused)
    monkeypatch.setattr(module, "mean_discrepancy", refused)
    align.losses(align(complete), complete)
    align.train()
    with pytest.raises(AssertionError, match="a regulariser was computed"):
        align.losses(align(complete), complete)


def test_the_weights_scale_their_terms_and_leave_the_task_alone(make_backbone, complete):
    once, twice = (make_backbone("alignmamba-2", transport=w, discrepancy=2 * w, **STILL).train() for w in (0.5, 1.0))
    terms = [align.losses(align(complete), complete) for align in (once, twice)]
    assert set(terms[0]) == {"task", "transport", "discrepancy"}
    assert torch.equal(terms[0]["task"], terms[1]["task"])
    for name in ("transport", "discrepancy"):
        assert terms[1][name].item() == pytest.approx(2 * terms[0][name].item(), rel=1e-5)
        assert terms[0][name].item() > 0


def test_losses_are_finite_where_no_row_has_a_pair_of_channels(make_backbone, complete):
    align = make_backbone("alignmamba-2").train()
    for batch in (isolate(complete, frozenset({AUDIO})), complete.mask(torch.zeros(1, 3, dtype=torch.bool))):
        losses = align.losses(align(batch), batch)
        assert losses["transport"].item() == losses["discrepancy"].item() == 0.0
        sum(losses.values()).backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in align.parameters())
        align.zero_grad()


def test_frames_are_interleaved_by_time():
    three, six = torch.ones(1, 3, dtype=torch.bool), torch.ones(1, 6, dtype=torch.bool)
    assert interleaved([three, three], [three, three]).tolist() == [[0, 3, 1, 4, 2, 5]]
    assert interleaved([three, six], [three, six]).tolist() == [[3, 0, 4, 5, 1, 6, 7, 2, 8]]


def test_a_lost_frame_keeps_its_time_and_comes_last():
    three, lost = torch.ones(1, 3, dtype=torch.bool), torch.tensor([[True, False, True]])
    assert interleaved([lost, three], [three, three]).tolist() == [[0, 3, 4, 2, 5, 1]]


def scanned(align, batch, modality):
    frames = align.encoders.frames(align, batch)
    return align._scanned(frames, batch)[modality][frames[modality].observed]


@pytest.mark.parametrize("modality", list(Modality))
def test_the_scan_carries_every_channel_to_every_other(make_backbone, complete, modality):
    align = make_backbone("alignmamba-2").double()
    whole = scanned(align, complete, modality)
    for other in ALL - {modality}:
        without = isolate(complete, ALL - {other})
        assert (scanned(align, without, modality) - whole).abs().amax(dim=1).median() > 1e-6


@pytest.mark.parametrize("modality", [AUDIO, VISION])
def test_the_order_of_frames_matters(make_backbone, complete, modality):
    align = make_backbone("alignmamba-2").double()
    every = {m: torch.ones_like(valid) for m, valid in complete.valid.items()}
    whole = replace(complete, valid=every, observed=every)
    backwards = replace(whole, features=whole.features | {modality: whole.features[modality].flip(1)})
    assert (align(whole).embedding - align(backwards).embedding).abs().amax(dim=1).min() > 1e-6


def test_a_modalitys_experts_serve_its_frames_alone_and_the_shared_ones_all(make_backbone, complete):
    align = make_backbone("alignmamba-2")
    blocks = {m: isolate(complete, frozenset({m})) for m in Modality}
    before = {m: align(batch).embedding for m, batch in blocks.items()}
    with torch.no_grad():
        for projection in (align.layers[0].up, align.layers[0].down):
            projection.own["audio"].weight.add_(0.1)
    changed = {m: not torch.equal(align(batch).embedding, before[m]) for m, batch in blocks.items()}
    assert changed == {TEXT: False, AUDIO: True, VISION: False}
    with torch.no_grad():
        align.layers[0].up.shared.weight.add_(0.1)
    assert all(not torch.equal(align(batch).embedding, before[m]) for m, batch in blocks.items())


def test_experts_are_in_their_modalitys_group_and_shared_projections_are_not(make_backbone):
    align = make_backbone("alignmamba-2")
    names = {id(p): n for n, p in align.named_parameters()}
    for group in align.parameter_groups():
        owned = {n for p in group.parameters if ".own." in (n := names[id(p)])}
        assert all(f".own.{group.name}." in n for n in owned)
        assert len(owned) == (0 if group.name == "shared" else 4)
