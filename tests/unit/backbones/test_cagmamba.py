"""What CAGMamba claims: the order of the pair matters, the clip before is used where there is one, a gate decides."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mbd.backbones.base import isolate
from mbd.cohort.batch import Batch
from mbd.cohort.modality import Modality

TEXT, AUDIO, VISION = Modality
STILL = {"dropout": 0.0, "input_dropout": 0.0}


@pytest.fixture
def cag(make_backbone):
    return make_backbone("cagmamba").double()


@pytest.fixture
def complete(make_random_batch):
    """Rows, and clips before them, that have every channel, padded alike."""

    def make(seed):
        batch = make_random_batch(rows=12, seed=seed)
        return replace(batch, present=torch.ones_like(batch.present))

    return replace(make(0), context=make(1))


def swapped(batch):
    """The clip before as the clip, and the clip as the one before."""
    return replace(batch.context, context=replace(batch, context=None))


def distance(one, other):
    """The largest change of each row's prediction."""
    return (one.prediction - other.prediction).abs().amax(dim=1)


def test_the_order_of_the_pair_matters(cag, complete):
    assert distance(cag(complete), cag(swapped(complete))).min() > 1e-3


@pytest.mark.parametrize("channel", list(Modality))
def test_each_channel_of_the_clip_before_counts(cag, complete, channel):
    moved = {channel: complete.context.features[channel] + 1.0}
    other = replace(complete, context=replace(complete.context, features=complete.context.features | moved))
    assert distance(cag(complete), cag(other)).min() > 1e-6


def test_the_clip_before_counts(cag, complete):
    assert distance(cag(complete), cag(replace(complete, context=None))).min() > 1e-5


def test_a_clip_before_that_does_not_exist_is_none(cag, complete):
    nan = {m: torch.full_like(x, torch.nan) for m, x in complete.context.features.items()}
    context = replace(complete.context, features=nan, present=torch.zeros_like(complete.present))
    nobody, none = cag(replace(complete, context=context)), cag(replace(complete, context=None))
    assert torch.equal(nobody.prediction, none.prediction)


def test_the_first_clip_of_a_recording_stands_for_itself_beside_rows_that_have_a_clip_before(cag, complete):
    present = complete.context.present.clone()
    present[::2] = False
    mixed = cag(replace(complete, context=replace(complete.context, present=present)))
    without, with_it = cag(replace(complete, context=None)), cag(complete)
    assert torch.allclose(mixed.prediction[::2], without.prediction[::2], rtol=0, atol=1e-12)
    assert torch.allclose(mixed.prediction[1::2], with_it.prediction[1::2], rtol=0, atol=1e-12)


def test_a_channel_that_the_clip_lacks_still_counts_in_the_clip_before(cag, complete):
    silent = replace(complete, present=complete.present & torch.tensor([True, False, True]))
    deaf = replace(silent, context=complete.context.mask(torch.tensor([[True, False, True]])))
    assert distance(cag(silent), cag(deaf)).min() > 1e-6
    assert not cag(silent).per_modality[AUDIO].any()


def test_a_row_without_any_channel_gets_the_prior_whatever_was_before(cag, complete):
    cag.standardiser.target_mean.fill_(0.625)
    empty = replace(complete, present=torch.zeros_like(complete.present))
    assert cag(empty).prediction.flatten().tolist() == [0.625] * 12


def test_what_was_before_reaches_the_clip_through_the_state_of_the_scan_alone(cag, complete):
    """With states that decay at once, nothing is left of the clip before."""
    with torch.no_grad():
        for mixer in (cag.cross, *cag.mixers.values()):
            mixer.scan.log_rate.fill_(100.0)
    assert torch.allclose(cag(complete).prediction, cag(replace(complete, context=None)).prediction, atol=1e-12)


def test_each_channels_own_mixer_reads_its_own_channel_alone(cag, complete):
    alone = isolate(complete, frozenset({TEXT}))
    alone = replace(alone, context=isolate(complete.context, frozenset({TEXT})))
    assert torch.allclose(cag(complete).per_modality[TEXT], cag(alone).per_modality[TEXT], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("bias", "counts"), [(-1000.0, False), (1000.0, True)])
def test_the_gate_decides_whether_the_cross_modal_mixer_counts(cag, complete, bias, counts):
    with torch.no_grad():
        cag.gate.bias.fill_(bias)
        shut = cag(complete)
        cross = cag.cross.down(torch.zeros(1, cag.cross.down.in_features).double())
        cag.cross.down.bias.add_(torch.linspace(-1.0, 1.0, 8).double())
    assert cross.shape == (1, 8)
    assert (not torch.equal(shut.embedding, cag(complete).embedding)) == counts
    if not counts:
        uni = torch.stack(list(shut.per_modality.values())).mean(dim=0)
        assert torch.allclose(shut.embedding, cag.norm(uni), rtol=0, atol=1e-12)


def test_three_branches_and_the_prediction_have_l1_losses_in_standard_units(make_backbone, complete):
    cag = make_backbone("cagmamba", fused=0.5, branch=0.25)
    cag.standardiser.target_scale.fill_(2.0)
    batch = complete.mask(torch.rand(12, 3, generator=torch.Generator().manual_seed(0)) < 0.7)
    output = cag(batch)
    losses = cag.losses(output, batch)
    assert set(losses) == {"task", "fused", "text", "audio", "vision"}
    error = (output.prediction - batch.target) / 2
    assert losses["task"].item() == pytest.approx(error.square().mean().item())
    assert losses["fused"].item() == pytest.approx(0.5 * error.abs().mean().item())
    for column, modality in enumerate(Modality):
        has = batch.present[:, column]
        own = cag.branches[modality.value](output.per_modality[modality])[has] - batch.target[has] / 2
        assert losses[modality.value].item() == pytest.approx(0.25 * own.abs().mean().item())


def test_a_branch_trains_its_channel_alone(cag, complete):
    cag.losses(cag(complete), complete)["audio"].backward()
    for group in cag.parameter_groups():
        assert any(p.grad is not None and p.grad.any() for p in group.parameters) == (group.name == "audio")


def test_the_clip_before_is_left_out_at_random_in_training_alone(make_backbone, complete):
    never, always = (make_backbone("cagmamba", context_dropout=rate, **STILL) for rate in (0.0, 1.0))
    without = replace(complete, context=None)
    assert torch.equal(never(complete).prediction, always(complete).prediction)
    assert torch.equal(always.train()(complete).prediction, always(without).prediction)
    assert distance(never.train()(complete), never(without)).max() > 1e-4


def story(rows, seed):
    """Clips whose label is told by the text of the clip before, and by nothing else."""
    generator = torch.Generator().manual_seed(seed)
    seen = {m: torch.ones(rows, 1, dtype=torch.bool) for m in (TEXT, AUDIO)}
    present = torch.tensor([[True, True, False]]).expand(rows, 3)

    def clip(target):
        features = {m: torch.randn(rows, 1, dim, generator=generator) for m, dim in ((TEXT, 7), (AUDIO, 5))}
        return Batch(features, seen, seen, present, target)

    before = clip(torch.zeros(rows, 1))
    return replace(clip(before.features[TEXT][:, 0, :1]), context=before)


def test_a_label_that_the_clip_before_tells_is_learnt_with_it_and_not_without(make_backbone):
    error, fresh = {}, story(512, seed=0)
    for context in (True, False):
        cag = make_backbone("cagmamba", (TEXT, AUDIO), context_dropout=0.0, **STILL).train()
        optimiser = torch.optim.AdamW(cag.parameters(), lr=1e-2, weight_decay=0.1)
        for step in range(120):
            rows = story(64, seed=1 + step)
            rows = rows if context else replace(rows, context=None)
            sum(cag.losses(cag(rows), rows).values()).backward()
            optimiser.step()
            optimiser.zero_grad()
        judge = fresh if context else replace(fresh, context=None)
        cag.eval()
        error[context] = cag.losses(cag(judge), judge)["task"].item()
        if context:
            told, wrong_way_round = (cag(b).prediction.detach().flatten() for b in (judge, swapped(judge)))
    label = fresh.target.flatten()
    assert error[True] < 0.3
    assert error[False] > 0.9
    assert correlation(told, label) > 0.9
    assert abs(correlation(wrong_way_round, label)) < 0.2


def correlation(one, other):
    return np.corrcoef(one, other)[0, 1]
