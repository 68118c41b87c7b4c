"""What QA-MoE claims: reliability falls as inputs get worse, one set of weights for all, three experts a row."""

from dataclasses import replace

import pytest
import torch
from scipy.stats import spearmanr

from mbd.backbones.base import ChannelShape, Interface
from mbd.backbones.qa_moe import imbalance
from mbd.backbones.stem import gaussian_nll
from mbd.backbones.zoo import build
from mbd.cohort.batch import Batch
from mbd.cohort.modality import Modality, subsets
from mbd.training.masking import as_columns, draw_patterns

TEXT, AUDIO, VISION = Modality
SHAPES = {
    TEXT: ChannelShape(dim=24, sequence=False),
    AUDIO: ChannelShape(dim=16, sequence=True),
    VISION: ChannelShape(dim=16, sequence=True),
}
FRAMES = 8
NOISES = [0.25 * step for step in range(9)]
LOSSES = [0.1 * step for step in range(10)]


def make_rows(rows, seed):
    """Complete rows in standard units: each channel shows its own share of the label among four other things."""
    world, draw = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    features, target = {}, torch.zeros(rows, 1)
    for m, share in zip(Modality, (0.8, 0.5, 0.33), strict=True):
        shape = SHAPES[m]
        directions = torch.linalg.qr(torch.randn(shape.dim, 5, generator=world))[0].T * shape.dim**0.5 / 5**0.5
        hidden = torch.randn(rows, FRAMES if shape.sequence else 1, 5, generator=draw)
        hidden[..., 0] = hidden[:, :1, 0]  # what says the label stays the same in all frames
        features[m] = hidden @ directions + 0.1 * torch.randn(*hidden.shape[:2], shape.dim, generator=draw)
        target += share * hidden[:, 0, :1]
    whole = {m: torch.ones(x.shape[:2], dtype=torch.bool) for m, x in features.items()}
    return Batch(features, whole, dict(whole), torch.ones(rows, 3, dtype=torch.bool), target)


def train(seed, *, epochs=40):
    """A small network, trained as the loop does it: 400 rows, in each step masked to patterns at random."""
    torch.manual_seed(seed)
    rows, patterns = make_rows(400, seed=100 + seed), as_columns(subsets(Modality))
    backbone = build("qa-moe", Interface(SHAPES, 1), {"width": 16, "dropout": 0.1, "input_dropout": 0.1})
    optimiser = torch.optim.AdamW(backbone.parameters(), lr=5e-3)
    backbone.train()
    for _ in range(epochs):
        for picked in torch.randperm(400).split(50):
            batch = rows.select(picked)
            batch = batch.mask(draw_patterns(batch.present, patterns))
            sum(backbone.losses(backbone(batch), batch).values()).backward()
            optimiser.step()
            optimiser.zero_grad()
    return backbone.eval()


@pytest.fixture(scope="module")
def trained():
    """Three seeds' networks; one is enough where a claim is about one set of weights."""
    return [train(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def unseen():
    return make_rows(300, seed=7)


def reliability(backbone, batch):
    """r of every row [B]."""
    with torch.no_grad():
        return 1 / (1 + backbone(batch).log_variance.exp())


def worse(backbone, batch, *, noise=0.0, missing=0.0):
    """The same rows at a point of the spectrum; the same draw for every point."""
    torch.manual_seed(1)
    return backbone.degraded(batch, noise=noise, missing=missing)


def error(backbone, batch):
    with torch.no_grad():
        return (backbone(batch).prediction - batch.target).square().mean().item()


def test_reliability_falls_with_injected_noise(trained, unseen):
    for backbone in trained:
        r_NB = torch.stack([reliability(backbone, worse(backbone, unseen, noise=noise)) for noise in NOISES])
        assert spearmanr(NOISES, r_NB.mean(dim=1)).statistic < -0.95
        each = [spearmanr(NOISES, r_N).statistic for r_N in r_NB.T]
        assert torch.tensor(each).mean() < -0.8


def test_reliability_falls_with_what_is_missing(trained, unseen):
    for backbone in trained:
        r_NB = torch.stack([reliability(backbone, worse(backbone, unseen, missing=loss)) for loss in LOSSES])
        assert spearmanr(LOSSES, r_NB.mean(dim=1)).statistic < -0.95


@pytest.mark.parametrize("corrupt", list(Modality))
def test_a_channel_that_alone_gets_noise_loses_weight_to_the_others(trained, unseen, corrupt):
    for backbone in trained:
        noisy = worse(backbone, unseen, noise=2.0).features[corrupt]
        with torch.no_grad():
            clean = backbone(unseen).weights
            weights = backbone(replace(unseen, features=unseen.features | {corrupt: noisy})).weights
        column = list(Modality).index(corrupt)
        assert weights[:, column].mean() < clean[:, column].mean()


def test_one_set_of_weights_beats_the_prior_all_over_the_spectrum(trained, unseen):
    prior = (unseen.target - unseen.target.mean()).square().mean().item()
    for backbone in trained:
        errors = {
            (noise, missing): error(backbone, worse(backbone, unseen, noise=noise, missing=missing))
            for noise in (0.0, 1.0, 2.0)
            for missing in (0.0, 0.35, 0.7)
        }
        assert max(errors.values()) < 0.9 * prior
        assert min(errors, key=errors.get) == (0.0, 0.0)
        assert errors[0.0, 0.0] < 0.4 * prior


def test_the_variance_it_states_is_that_of_its_errors(trained, unseen):
    for backbone in trained:
        for noise, missing in [(0.0, 0.0), (1.0, 0.0), (2.0, 0.0), (0.0, 0.7), (2.0, 0.7)]:
            batch = worse(backbone, unseen, noise=noise, missing=missing)
            with torch.no_grad():
                stated = backbone(batch).log_variance.exp().mean().item()
            assert 0.5 < error(backbone, batch) / stated < 2


def test_likelihood_wants_a_larger_variance_for_wrong_predictions_and_a_smaller_one_for_right_ones():
    square_B = torch.tensor([0.1, 1.0, 3.0]).square()
    log_variance_B = square_B.log().requires_grad_()
    gaussian_nll(square_B, log_variance_B).sum().backward()
    assert torch.allclose(log_variance_B.grad, torch.zeros(3), atol=1e-6)  # best where it is the squared error
    small, large = (gaussian_nll(square_B, torch.full((3,), value)) for value in (-1.0, 1.0))
    assert (large < small).tolist() == [False, True, True]


def test_exactly_three_experts_answer_for_a_row_with_weights_that_sum_to_one(make_backbone, make_random_batch):
    output = make_backbone("qa-moe")(make_random_batch(rows=40))
    gates, routing = output.terms["gates"], output.terms["routing"]
    assert gates.shape == (40, 8)
    assert ((gates > 0).sum(dim=1) == 3).all()
    assert torch.allclose(gates.sum(dim=1), torch.ones(40))
    assert (torch.where(gates > 0, routing, 1).amin(dim=1) >= torch.where(gates > 0, 0, routing).amax(dim=1)).all()
    assert torch.allclose(routing.sum(dim=1), torch.ones(40))


def test_experts_that_were_not_chosen_change_nothing(make_backbone, make_random_batch):
    backbone, batch = make_backbone("qa-moe"), make_random_batch(rows=1)
    before = backbone(batch)
    unused = before.terms["gates"][0] == 0
    assert unused.sum() == 5
    with torch.no_grad():
        backbone.mixture.up.bias.view(8, -1)[unused] += 10.0
    assert torch.equal(backbone(batch).prediction, before.prediction)
    with torch.no_grad():
        backbone.mixture.up.bias.view(8, -1)[~unused] += 10.0
    assert not torch.equal(backbone(batch).prediction, before.prediction)


def test_every_expert_learns_from_a_batch(make_backbone, make_random_batch):
    backbone, batch = make_backbone("qa-moe"), make_random_batch(rows=200)
    backbone.losses(backbone(batch), batch)["task"].backward()
    assert (backbone.mixture.up.weight.grad.view(8, -1).abs().amax(dim=1) > 0).all()


def test_after_training_every_expert_is_still_in_use(trained, unseen):
    for backbone in trained:
        batch = worse(backbone, unseen, noise=1.0, missing=0.5)
        with torch.no_grad():
            used = (backbone(batch).terms["gates"] > 0).float().mean(dim=0)
        assert used.min() > 0.02


def test_imbalance_is_one_when_all_experts_are_alike_and_more_when_few_do_all():
    even = torch.eye(8)
    assert imbalance(even, torch.full((8, 8), 1 / 8)).item() == pytest.approx(1.0)
    few = even[:1].expand(8, 8)
    assert imbalance(few, few).item() == pytest.approx(8.0)


def test_balance_reaches_the_router_of_experts_that_nobody_chose(make_backbone, make_random_batch):
    backbone, batch = make_backbone("qa-moe"), make_random_batch(rows=1)
    output = backbone(batch)
    backbone.losses(output, batch)["balance"].backward()
    assert (backbone.mixture.router.weight.grad.abs().amax(dim=1) > 0).all()


def test_the_router_reads_reliability(make_backbone):
    mixture, mu = make_backbone("qa-moe").mixture, torch.randn(5, 8)
    (_, _, trusted), (_, _, doubted) = (mixture(mu, torch.full((5, 3), r)) for r in (0.9, 0.1))
    assert ((trusted - doubted).abs().amax(dim=1) > 1e-3).all()


def test_a_channels_weight_is_its_own_reliability_over_that_of_all_that_the_row_has(make_backbone, make_random_batch):
    backbone, batch = make_backbone("qa-moe"), make_random_batch(rows=30)
    output = backbone(batch)
    r_BM = batch.present / (1 + output.terms["sigma2"].mean(dim=2))
    assert torch.allclose(output.weights, r_BM / r_BM.sum(dim=1, keepdim=True), atol=1e-6)
    for column, row in enumerate(torch.eye(3, dtype=torch.bool)):
        alone = backbone(batch.mask(row))  # what else a row has does not make a channel more reliable
        mine = batch.present[:, column]
        assert torch.allclose(alone.terms["sigma2"][mine, column], output.terms["sigma2"][mine, column], atol=1e-6)
        assert torch.equal(alone.weights[mine], row.float().expand(int(mine.sum()), 3))


def test_a_row_without_evidence_has_the_variance_of_labels_and_no_weights(make_backbone, make_random_batch):
    backbone, batch = make_backbone("qa-moe"), make_random_batch(rows=4).mask(torch.zeros(3, dtype=torch.bool))
    output = backbone(batch)
    assert torch.allclose(output.log_variance, torch.zeros(4), atol=1e-6)
    assert not output.weights.any()


def test_a_linear_head_without_bias_reads_the_prediction_from_the_embedding(make_backbone, make_random_batch):
    """So that a row whose reliability goes to zero is answered with the prior, the mean label."""
    backbone, batch = make_backbone("qa-moe", outputs=4), make_random_batch(rows=9, outputs=4)
    backbone.standardiser.target_mean.fill_(0.25)
    output = backbone(batch)
    assert torch.allclose(output.prediction, output.embedding @ backbone.head.weight.T + 0.25, atol=1e-6)


def test_evaluation_is_deterministic_and_undegraded(make_backbone, make_random_batch, monkeypatch):
    backbone, batch = make_backbone("qa-moe"), make_random_batch()
    monkeypatch.setattr(backbone, "degraded", None)  # not even called
    state = torch.get_rng_state()
    assert torch.equal(backbone(batch).prediction, backbone(batch).prediction)
    assert torch.equal(torch.get_rng_state(), state)


def test_training_degrades_each_batch_once_in_one_of_three_profiles(make_backbone, make_random_batch, monkeypatch):
    backbone, batch, points = make_backbone("qa-moe", noise=1.5, missing=0.4).train(), make_random_batch(), []

    def record(degraded, *, noise, missing):
        points.append((noise, missing))
        return degraded

    monkeypatch.setattr(backbone, "degraded", record)
    for _ in range(90):
        backbone(batch)
    assert len(points) == len(set(points)) == 90
    profiles = [(noise > 0, missing > 0) for noise, missing in points]
    assert set(profiles) == {(False, True), (True, False), (True, True)}
    assert min(profiles.count(profile) for profile in set(profiles)) > 15
    noises, losses = zip(*points, strict=True)
    assert 1.3 < max(noises) <= 1.5
    assert 0.3 < max(losses) <= 0.4


def test_the_origin_of_the_spectrum_changes_nothing(make_backbone, make_random_batch):
    backbone, batch = make_backbone("qa-moe"), make_random_batch(rows=20)
    same = backbone.degraded(batch, noise=0.0, missing=0.0)
    assert torch.equal(same.present, batch.present)
    assert torch.equal(backbone(same).prediction, backbone(batch).prediction)


def test_noise_is_measured_in_each_features_standard_deviations(make_backbone, unseen):
    backbone = build("qa-moe", Interface(SHAPES, 1), {})
    backbone.standardiser.text_scale.copy_(torch.linspace(1, 24, 24))
    added = backbone.degraded(unseen, noise=0.5, missing=0.0).features[TEXT] - unseen.features[TEXT]
    assert torch.allclose(added.std(dim=(0, 1)), 0.5 * torch.linspace(1, 24, 24), rtol=0.2)


def test_frames_are_lost_singly_vectors_whole_and_no_row_loses_its_last_channel(unseen):
    backbone = build("qa-moe", Interface(SHAPES, 1), {})
    half = backbone.degraded(unseen, noise=0.0, missing=0.5)
    assert half.present[:, 0].float().mean().item() == pytest.approx(0.5, abs=0.1)
    assert half.observed[AUDIO].float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert half.present[:, 1].all()
    most = backbone.degraded(unseen, noise=0.0, missing=1.0)
    assert (most.present.sum(dim=1) == 1).all()
    assert most.present.any(dim=0).all()
    assert torch.equal(most.observed[AUDIO].all(dim=1), most.present[:, 1])


def test_what_a_row_does_not_have_is_never_given_to_it(make_backbone, make_random_batch):
    backbone, batch = make_backbone("qa-moe"), make_random_batch(rows=60)
    batch = batch.mask(torch.rand(60, 1) < 0.5)
    lost = backbone.degraded(batch, noise=1.0, missing=0.9)
    assert not (lost.present & ~batch.present).any()
    assert torch.equal(lost.present.any(dim=1), batch.present.any(dim=1))
    assert all(not (lost.observed[m] & ~batch.observed[m]).any() for m in Modality)
