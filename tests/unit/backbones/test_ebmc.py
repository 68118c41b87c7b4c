"""EBMC's mechanisms, on rows whose truth is known: what is common, what is strong, what is noise."""

from dataclasses import replace
from functools import cache

import pytest
import torch

from mbd.backbones.base import ChannelShape, Interface, Output
from mbd.backbones.ebmc import trust
from mbd.backbones.zoo import build
from mbd.cohort.batch import Batch
from mbd.cohort.modality import Modality

TEXT, AUDIO, VISION = Modality
PAIR = (TEXT, AUDIO)
DIMS = (8, 6)
STRONG_AND_WEAK = (0.1, 1.0)
ALONE = {"task", "invariance", "orthogonality", "unimodal", "common", "specific", "uncertainty", "enhancement"}
BALANCED = {"balance", "gradient_penalty", "distillation"}


def rows(seed, count=128, noise=(0.1, 0.1), noisy_rows=0.0):
    """Text and audio that share two factors and have two of their own; the label is the sum of one of each.

    Args:
        seed: of the rows; how factors become features is always the same.
        count: of rows.
        noise: the deviation of text's and of audio's noise.
        noisy_rows: the share of rows (the first ones) whose audio is drowned.
    """
    draw = torch.Generator().manual_seed(0)
    mixing = {m: torch.linalg.qr(torch.randn(dim, 4, generator=draw)).Q.T for m, dim in zip(PAIR, DIMS, strict=True)}
    draw = torch.Generator().manual_seed(10 + seed)
    common, own = torch.randn(count, 2, generator=draw), torch.randn(2, count, 2, generator=draw)
    features = {}
    for factors, modality, deviation in zip(own, PAIR, noise, strict=True):
        clean = torch.cat([common, factors], dim=1) @ mixing[modality]
        features[modality] = clean + deviation * torch.randn(clean.shape, generator=draw)
    drowned = int(noisy_rows * count)
    features[AUDIO][:drowned] += 3 * torch.randn(drowned, DIMS[1], generator=draw)
    frames = {m: torch.ones(count, 1, dtype=torch.bool) for m in PAIR}
    present = torch.tensor([[True, True, False]]).expand(count, 3)
    target = (common[:, 0] + 0.5 * own[0, :, 0] + 0.5 * own[1, :, 0])[:, None]
    return Batch({m: x[:, None] for m, x in features.items()}, frames, frames, present, target)


def practise(batch, seed):
    """The rows with channels hidden at random, as the training loop does."""
    draw = torch.Generator().manual_seed(seed)
    patterns = torch.tensor([[True, True, False], [True, False, False], [False, True, False]])
    return batch.mask(patterns[torch.randint(3, (len(batch.present),), generator=draw)])


def pair(seed=0, **options):
    """A fresh network over text and audio without dropout."""
    torch.manual_seed(seed)
    interface = Interface({m: ChannelShape(dim, sequence=False) for m, dim in zip(PAIR, DIMS, strict=True)}, 1)
    return build("ebmc", interface, {"width": 16, "dropout": 0.0, "input_dropout": 0.0, **options}).eval()


@cache
def trained(seed=0, noise=(0.1, 0.1), noisy_rows=0.0, **options):
    """A network after both stages on such rows, drawn anew for every step: what it learns it does not memorise."""
    backbone, epochs = pair(seed, **options).train(), 80
    optimiser = torch.optim.AdamW(backbone.parameters(), lr=0.01, weight_decay=0.01)
    for epoch in range(epochs):
        optimiser.param_groups[0]["lr"] = 0.01 * (1 - epoch / epochs)
        backbone.begin_epoch(epoch, epochs)
        masked = practise(rows(1000 * seed + epoch, noise=noise, noisy_rows=noisy_rows), epoch)
        sum(backbone.losses(backbone(masked), masked).values()).backward()
        optimiser.step()
        optimiser.zero_grad()
    return backbone.eval()


def unseen(seed, **kind):
    """Rows that no step saw."""
    return rows(900 + seed, count=512, **kind)


def spread(backbone, batch):
    """How far apart text's and audio's energies are."""
    energies = backbone.energies(backbone(batch), batch).detach()
    return (energies[0] - energies[1]).abs().item()


def unimodal_losses(backbone, output, batch):
    """The squared error of what each modality alone predicts [M]."""
    return (backbone.unimodal(output) - batch.target[:, None]).square().mean(dim=(0, 2))


@pytest.mark.parametrize("seed", range(3))
def test_balance_brings_energies_together_and_does_not_worsen_the_strong_modality(seed):
    batch = unseen(seed, noise=STRONG_AND_WEAK)
    without, balanced = (trained(seed, STRONG_AND_WEAK, balance=weight) for weight in (0.0, 0.1))
    losses = [unimodal_losses(each, each(batch), batch).detach() for each in (without, balanced)]
    assert losses[0][0] < 0.6 * losses[0][1]
    assert spread(balanced, batch) < 0.3 * spread(without, batch)
    assert losses[1][0] < 1.05 * losses[0][0]


@pytest.fixture
def lopsided():
    """A network that knows the label well from text and badly from audio, and whose energies are log l_m alone."""
    backbone = pair(energy_norm=0.0, energy_uncertainty=0.0)
    backbone.load_state_dict(trained(0, STRONG_AND_WEAK, balance=0.1).state_dict())
    batch = unseen(0, noise=STRONG_AND_WEAK)
    output = backbone(batch)
    return backbone, output, batch, unimodal_losses(backbone, output, batch)


def worsening(gap, loss, head):
    """How fast the loss rises where ``head`` goes down the gap's slope."""
    slopes = [torch.autograd.grad(each, head.weight, retain_graph=True)[0] for each in (gap, loss)]
    return -(slopes[0] * slopes[1]).sum().item()


def test_a_gap_that_holds_nothing_pays_for_a_worse_strong_modality_even_with_the_logarithm(lopsided):
    """Why the loss of the lower energy is held. The logarithm alone pushes harder, as losses here are below 1."""
    backbone, output, batch, losses = lopsided
    text, energies = backbone.teachers["text"], backbone.energies(output, batch)
    raw = worsening((losses[1] - losses[0]).square(), losses[0], text)
    logarithmic = worsening((energies[1] - energies[0]).square(), losses[0], text)
    held = worsening(backbone.losses(output, batch)["balance"], losses[0], text)
    assert logarithmic > raw > 0
    assert held == 0


def test_the_balance_works_on_the_weak_modalitys_loss(lopsided):
    backbone, output, batch, losses = lopsided
    audio, balance = backbone.teachers["audio"], backbone.losses(output, batch)["balance"]
    assert worsening(balance, losses[1], audio) < 0
    downhill = [
        torch.autograd.grad(each, audio.weight, retain_graph=True)[0].flatten() for each in (balance, losses[1])
    ]
    assert torch.cosine_similarity(*downhill, dim=0) > 0.999


def test_the_gap_does_not_depend_on_the_size_of_losses_but_on_their_ratio():
    """What the logarithm is for: errors a tenth as large leave the gap as it is."""
    backbone, batch = pair(energy_norm=0.0, energy_uncertainty=0.0), rows(0)
    gaps = []
    for size in (1.0, 0.1):
        for head in backbone.teachers.values():
            torch.nn.init.zeros_(head.weight)
        biases = (1.0, 3.0)
        for head, bias in zip(backbone.teachers.values(), biases, strict=True):
            torch.nn.init.constant_(head.bias, size * bias)
        zero = replace(batch, target=torch.zeros_like(batch.target))
        gaps.append(backbone.losses(backbone(zero), zero)["balance"].item())
    expected = backbone.options.balance * (2 * torch.tensor(3.0).log().item()) ** 2
    assert gaps[0] == pytest.approx(expected, rel=0.01)
    assert gaps[1] == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("noise", [STRONG_AND_WEAK, STRONG_AND_WEAK[::-1]], ids=["audio", "text"])
def test_a_modality_that_is_drowned_in_noise_gets_less_trust(noise):
    trusted_M = trained(0, noise, balance=0.1)(unseen(0, noise=noise)).weights.mean(dim=0)
    drowned = noise.index(max(noise))
    assert trusted_M[drowned] < 0.5 * trusted_M[1 - drowned]


def test_rows_whose_audio_is_drowned_trust_it_less_than_other_rows_do():
    """Trust is of a row, not of a modality: the noise is only in half of the rows."""
    audio_B = trained(0, noisy_rows=0.5)(unseen(0, noisy_rows=0.5)).weights[:, 1]
    assert audio_B[:256].mean() < 0.7 * audio_B[256:].mean()


def test_trust_is_certainty_times_rho_over_the_channels_that_are_there():
    variance_BMK = torch.tensor([[[0.25], [1.0], [0.5]], [[0.25], [1.0], [0.5]], [[1.0], [1.0], [1.0]]])
    present_BM = torch.tensor([[True, True, True], [True, True, False], [False, False, False]])
    raw = torch.exp(-variance_BMK.sqrt())[..., 0] / (1 + variance_BMK[..., 0]).log()
    found = trust(variance_BMK, present_BM)
    assert torch.allclose(found[0], raw[0] / raw[0].sum())
    assert torch.allclose(found[1], torch.tensor([*(raw[1, :2] / raw[1, :2].sum()), 0.0]))
    assert found[2].tolist() == [0.0, 0.0, 0.0]


def test_distillation_draws_the_fused_prediction_to_the_teachers_by_their_trust():
    backbone, batch = pair(distillation=1.0), rows(0)
    output = backbone(batch)
    teachers_BM = backbone.unimodal(output)[..., 0].detach()
    best = (output.weights * teachers_BM).sum(dim=1, keepdim=True)
    at_best = backbone.losses(replace(output, prediction=best), batch)["distillation"]
    for step in (-0.1, 0.1):
        elsewhere = backbone.losses(replace(output, prediction=best + step), batch)["distillation"]
        assert elsewhere.item() == pytest.approx(at_best.item() + 0.5 * step**2, rel=1e-4)


def test_common_parts_of_one_row_are_closer_than_those_of_different_rows():
    """In direction, which is all that invariance asks for."""

    def ratio(backbone):
        unit = torch.nn.functional.normalize(backbone(unseen(0)).terms["common"].detach(), dim=-1)
        distance_BB = torch.cdist(unit[:, 0], unit[:, 1])
        return distance_BB.diagonal().mean() / distance_BB[~torch.eye(len(unit), dtype=torch.bool)].mean()

    assert ratio(pair()) > 0.85
    assert ratio(trained()) < 0.7


def test_common_and_specific_parts_are_orthogonal_in_either_direction():
    backbone, batch = trained(), unseen(0)
    terms = backbone(batch).terms
    assert torch.cosine_similarity(terms["common"], terms["specific"], dim=-1).abs().mean() < 0.15
    opposite = replace(backbone(batch), terms={**terms, "specific": -terms["common"]})
    weight = backbone.options.disentanglement
    assert backbone.losses(opposite, batch)["orthogonality"].item() == pytest.approx(weight, rel=1e-4)


def test_shorter_common_parts_are_not_more_invariant():
    backbone, batch = pair(), rows(0)
    output = backbone(batch)
    short = replace(output, terms={**output.terms, "common": 0.1 * output.terms["common"]})
    before, after = (backbone.losses(each, batch)["invariance"].item() for each in (output, short))
    assert after == pytest.approx(before, rel=1e-4)


@pytest.mark.parametrize("missing", [0, 1])
def test_a_generated_common_part_is_closer_to_the_truth_than_the_mean_is(missing):
    backbone = trained()
    common_BMD = backbone(unseen(0)).terms["common"].detach()
    truth_BD = torch.nn.functional.rms_norm(common_BMD[:, missing], (16,))
    without = torch.ones(len(truth_BD), 2, dtype=torch.bool)
    without[:, missing] = False
    generated_BD = backbone.generate(common_BMD, without)[:, missing].detach()
    error = (generated_BD - truth_BD).square().mean()
    assert error < 0.7 * (truth_BD.mean(dim=0) - truth_BD).square().mean()


def test_a_generator_reads_nothing_of_the_channel_that_it_makes(make_backbone, make_random_batch):
    backbone, batch = make_backbone("ebmc"), make_random_batch(rows=8)
    common_BMD, present = backbone(batch).terms["common"], torch.ones(8, 3, dtype=torch.bool)
    for column in range(3):
        changed = common_BMD.clone()
        changed[:, column] += 1
        before, after = backbone.generate(common_BMD, present), backbone.generate(changed, present)
        assert torch.equal(before[:, column], after[:, column])
        assert not torch.equal(before, after)


def test_a_missing_channels_generated_part_is_read_by_the_fusion(make_backbone, make_random_batch):
    backbone = make_backbone("ebmc")
    batch = replace(make_random_batch(), present=torch.tensor([[True, True, False]]).expand(6, 3))
    before = backbone(batch).embedding
    with torch.no_grad():
        backbone.generators[VISION.value].down.bias += torch.linspace(-1, 1, 8)
    assert (backbone(batch).embedding - before).abs().amax(dim=1).min() > 1e-4


def test_balance_and_trust_come_in_the_second_stage_and_task_means_the_same_in_both():
    backbone, batch = pair(first_stage=0.25), rows(0)
    outputs, losses = [], []
    for epoch in (0, 1, 2, 7):
        backbone.begin_epoch(epoch, 8)
        assert backbone.stage(epoch, 8) == int(epoch >= 2)
        outputs.append(backbone(batch))
        losses.append(backbone.losses(outputs[-1], batch))
    assert [set(terms) for terms in losses] == [ALONE, ALONE, ALONE | BALANCED, ALONE | BALANCED]
    assert all(torch.equal(output.prediction, outputs[0].prediction) for output in outputs)
    for name in ALONE:
        assert all(torch.equal(terms[name], losses[0][name]) for terms in losses)


def test_the_fused_task_shapes_the_modalities_only_in_the_second_stage():
    batch, reached = rows(0), []
    for epoch in (0, 9):
        backbone = pair(first_stage=0.5)
        backbone.begin_epoch(epoch, 10)
        backbone.losses(backbone(batch), batch)["task"].backward()
        assert backbone.head.weight.grad.any()
        reached.append(any(p.grad is not None and p.grad.any() for p in backbone.encoders.parameters()))
    assert reached == [False, True]


def test_neither_task_nor_distillation_nor_balance_trains_trust():
    backbone, batch = pair(), rows(0)
    terms = backbone.losses(backbone(batch), batch)
    (terms["task"] + terms["distillation"] + terms["balance"]).backward()
    assert all(p.grad is None or not p.grad.any() for p in backbone.variances.parameters())


def test_the_gradient_penalty_is_the_mean_squared_slope_of_a_rows_energy():
    """Without the loss in it, E = a ||z||^2 with a mean over Z numbers: the slope is 2 a z / Z."""
    backbone, batch = pair(energy_loss=0.0, energy_norm=3.0, gradient_penalty=1.0), practise(rows(0), 0)
    output = backbone(batch)
    z_BMZ = torch.cat([output.terms["common"], output.terms["specific"]], dim=-1)
    slope_BM = (2 * 3.0 * z_BMZ / 32).square().sum(dim=-1)
    present_BM = batch.present[:, :2]
    expected = ((slope_BM * present_BM).sum(dim=0) / present_BM.sum(dim=0)).mean()
    assert backbone.losses(output, batch)["gradient_penalty"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_losses_of_gathered_outputs_have_the_gradients_of_whole_ones(make_backbone, make_random_batch):
    """As in data-parallel training: the losses see leaves, and their gradients go back through the forward pass."""
    backbone, batch = make_backbone("ebmc", gradient_penalty=1.0).double(), make_random_batch(rows=12)
    sum(backbone.losses(backbone(batch), batch).values()).backward()
    whole = {name: p.grad.clone() for name, p in backbone.named_parameters()}
    backbone.zero_grad()
    own = backbone(batch)
    leaves = Output(
        prediction=own.prediction.detach().requires_grad_(),
        embedding=own.embedding.detach().requires_grad_(),
        per_modality={m: x.detach().requires_grad_() for m, x in own.per_modality.items()},
        weights=own.weights.detach().requires_grad_(),
        terms={name: x.detach().requires_grad_() for name, x in own.terms.items()},
    )
    sum(backbone.losses(leaves, batch).values()).backward()
    assert leaves.weights.grad is None
    for made, leaf in (
        (own.prediction, leaves.prediction),
        *zip(own.terms.values(), leaves.terms.values(), strict=True),
    ):
        made.backward(leaf.grad, retain_graph=True)
    for name, parameter in backbone.named_parameters():
        assert torch.allclose(parameter.grad, whole[name], rtol=0, atol=1e-10), name


def test_nothing_is_differentiated_in_validation():
    backbone, batch = pair(gradient_penalty=1.0), rows(0)
    with torch.no_grad():
        terms = backbone.losses(backbone(batch), batch)
    assert terms["gradient_penalty"].item() == 0.0
    assert backbone.losses(backbone(batch), batch)["gradient_penalty"].item() > 0.0
    assert terms["balance"].item() > 0.0


def test_a_batch_in_which_nobody_has_anything_trains_nothing_and_is_finite(make_backbone, make_random_batch):
    backbone, batch = make_backbone("ebmc"), make_random_batch(rows=4)
    empty = replace(batch, present=torch.zeros_like(batch.present))
    terms = backbone.losses(backbone(empty), empty)
    sum(terms.values()).backward()
    assert all(p.grad.isfinite().all() for p in backbone.parameters() if p.grad is not None)
    assert all(terms[name].item() == 0.0 for name in (ALONE | BALANCED) - {"task", "distillation"})
    assert backbone(empty).weights.tolist() == [[0.0] * 3] * 4
