"""PRLF's own mechanisms: who is found reliable, that the choice can be learned, and that the others come closer."""

from dataclasses import replace
from functools import cache

import pytest
import torch

from mbd.backbones.base import ChannelShape, Interface
from mbd.backbones.prlf import dominance, straight_through
from mbd.backbones.zoo import build
from mbd.cohort.batch import Batch
from mbd.cohort.modality import Modality
from mbd.errors import TrainingError

TEXT, AUDIO, VISION = Modality
SEEDS = range(4)
FEATURES = 8


def halves(rows: int, seed: int) -> tuple[Batch, torch.Tensor]:
    """Rows whose label is in audio alone or in vision alone, and which it is [B] (1 or 2).

    The other two channels are nothing but louder noise, which can be seen without the label.
    """
    generator = torch.Generator().manual_seed(seed)
    directions_MF = torch.randn(3, FEATURES, generator=torch.Generator().manual_seed(99))
    target_B1 = torch.randn(rows, 1, generator=generator)
    informative_B = torch.randint(1, 3, (rows,), generator=generator)
    features = {}
    for column, modality in enumerate(Modality):
        noise_BF = torch.randn(rows, FEATURES, generator=generator)
        speaks_B1 = informative_B[:, None] == column
        features[modality] = torch.where(speaks_B1, target_B1 * directions_MF[column] + 0.5 * noise_BF, 2 * noise_BF)
    seen = {m: torch.ones(rows, 1, dtype=torch.bool) for m in Modality}
    vectors = {m: x_BF[:, None] for m, x_BF in features.items()}
    return Batch(vectors, seen, dict(seen), torch.ones(rows, 3, dtype=torch.bool), target_B1), informative_B


@cache
def trained(seed: int):
    """A network after a short training on such rows, with every option at its default but a smaller width."""
    torch.manual_seed(seed)
    shapes = {m: ChannelShape(dim=FEATURES, sequence=False) for m in Modality}
    backbone = build("prlf", Interface(shapes, outputs=1), {"width": 16})
    batch, _ = halves(512, seed)
    optimiser = torch.optim.AdamW(backbone.parameters(), lr=5e-3)
    for _ in range(20):
        for rows in torch.randperm(512).split(64):
            part = batch.select(rows)
            sum(backbone.losses(backbone(part), part).values()).backward()
            optimiser.step()
            optimiser.zero_grad()
    return backbone.eval()


@pytest.fixture
def complete(make_random_batch):
    """Rows that have every channel."""
    batch = make_random_batch(rows=40)
    return replace(batch, present=torch.ones_like(batch.present))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_dominant_channel_is_the_informative_one_on_rows_never_seen(seed):
    batch, informative_B = halves(400, 1000 + seed)
    output = trained(seed)(batch)
    chosen_B = output.terms["dominant"].argmax(dim=1)
    assert (chosen_B == informative_B).double().mean() > 0.85
    assert torch.equal(output.weights.argmax(dim=1), chosen_B)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_choice_was_learned(seed):
    batch, informative_B = halves(400, 1000 + seed)
    torch.manual_seed(seed)
    untrained = build("prlf", trained(seed).interface, {"width": 16}).eval()
    assert (untrained(batch).terms["dominant"].argmax(dim=1) == informative_B).double().mean() < 0.7


@pytest.mark.parametrize("seed", SEEDS)
def test_every_round_brings_the_others_closer_to_the_dominant_channel(seed):
    batch, _ = halves(400, 1000 + seed)
    terms = trained(seed)(batch).terms
    others_BM = 1 - terms["dominant"]
    cosine_R = (terms["cosine"] * others_BM[:, None]).sum(dim=(0, 2)) / others_BM.sum()
    assert cosine_R.shape == (4,)
    assert (cosine_R.diff() > 0.01).all()


def test_the_dominant_channel_itself_does_not_move(make_backbone, complete):
    terms = make_backbone("prlf")(complete).terms
    chosen_BRM = terms["dominant"][:, None].expand_as(terms["cosine"]).bool()
    assert torch.allclose(terms["cosine"][chosen_BRM], torch.ones(()))


def test_the_dominant_channel_is_not_drawn_to_the_others(make_backbone, complete):
    """Closed gates leave the cosine between two encodings; an estimator that says the same everywhere takes no part."""
    backbone = make_backbone("prlf")
    with torch.no_grad():
        backbone.align.gate.bias.fill_(-1e4)
        for estimator in backbone.estimators.values():
            estimator.log_variance.down.weight.zero_()
    output = backbone(complete)
    dominant, *others = sorted(Modality, key=lambda m: -output.terms["dominant"][:, list(Modality).index(m)].sum())
    assert output.terms["dominant"][:, list(Modality).index(dominant)].all()
    for encoded_BD in output.per_modality.values():
        encoded_BD.retain_grad()
    backbone.losses(output, complete)["alignment"].backward()
    assert not output.per_modality[dominant].grad.any()
    assert all(output.per_modality[other].grad.any() for other in others)


def test_the_choice_is_hard_forward_and_soft_backward():
    torch.manual_seed(0)
    logits_BM, value_BM = torch.randn(50, 3, dtype=torch.float64, requires_grad=True), torch.randn(50, 3).double()
    weights_BM = logits_BM.softmax(dim=1)
    choice_BM = straight_through(weights_BM)
    assert torch.equal(choice_BM, torch.eye(3, dtype=torch.float64)[logits_BM.argmax(dim=1)])
    (hard,) = torch.autograd.grad((choice_BM * value_BM).sum(), logits_BM, retain_graph=True)
    (soft,) = torch.autograd.grad((weights_BM * value_BM).sum(), logits_BM)
    assert torch.allclose(hard, soft)
    assert hard.any()


def test_the_estimator_learns_through_the_choice_alone(make_backbone, complete):
    """The cosines know the weights by nothing but who was chosen."""
    backbone = make_backbone("prlf")
    backbone.losses(backbone(complete), complete)["alignment"].backward()
    for estimator in backbone.estimators.values():
        assert all(p.grad.any() for p in estimator.log_variance.parameters())
        assert estimator.mean.weight.grad.any()  # by its Fisher trace
        assert estimator.mean.bias.grad is None  # of which the bias is no part


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_fisher_trace_is_that_of_automatic_differentiation_and_of_sampled_labels(make_backbone, outputs):
    """By its two definitions: minus the expected second derivative, and the expected square of the first."""
    estimator = make_backbone("prlf", outputs=outputs).double().estimators[AUDIO.value]
    torch.manual_seed(0)
    x_D = torch.randn(8, dtype=torch.float64)
    mean_K, log_variance = (part[0].detach() for part in estimator(x_D[None]))
    claimed = estimator.fisher_trace(log_variance).item()

    def log_likelihood(x_D, y_K):
        return -0.5 * (y_K - estimator.mean(x_D)).square().sum() * torch.exp(-log_variance)

    # For a linear mean the second derivative is the same for every label, so one label gives its expectation.
    hessian_DD = torch.autograd.functional.hessian(lambda x: log_likelihood(x, mean_K + 1.0), x_D)
    assert claimed == pytest.approx(-hessian_DD.trace().item(), rel=1e-12)

    labels_NK = mean_K + torch.exp(0.5 * log_variance) * torch.randn(40_000, outputs, dtype=torch.float64)
    score_ND = torch.func.vmap(torch.func.grad(log_likelihood), in_dims=(None, 0))(x_D, labels_NK)
    assert claimed == pytest.approx(score_ND.square().sum(dim=1).mean().item(), rel=0.03)


def test_confidence_and_fisher_trace_both_count():
    present_BM = torch.ones(1, 3)
    certain, wide = torch.tensor([[0.0, -1.0, 0.0]]), torch.tensor([[1.0, 1.0, 4.0]])
    assert dominance(certain, torch.ones(1, 3), present_BM).argmax() == 1
    assert dominance(torch.zeros(1, 3), wide, present_BM).argmax() == 2
    expected = torch.tensor([1.0, torch.e, 4.0])
    assert torch.allclose(dominance(certain, wide, present_BM)[0], expected / expected.sum())


def test_the_dominant_channel_is_one_that_the_row_has(make_backbone, make_random_batch):
    backbone, batch = make_backbone("prlf"), make_random_batch(rows=200)
    output = backbone(batch)
    assert torch.equal(output.terms["dominant"].sum(dim=1), torch.ones(200))
    assert torch.allclose(output.weights.sum(dim=1), torch.ones(200))
    assert not output.terms["dominant"][~batch.present].any()
    assert not output.weights[~batch.present].any()
    alone_B = batch.present.sum(dim=1) == 1
    assert alone_B.any()
    assert torch.equal(output.terms["dominant"][alone_B].bool(), batch.present[alone_B])
    assert torch.equal(output.weights[alone_B].bool(), batch.present[alone_B])


def test_a_row_without_any_channel_chooses_nothing_and_has_finite_gradients(make_backbone, complete):
    backbone = make_backbone("prlf")
    present_BM = complete.present.clone()
    present_BM[::2] = False
    some = replace(complete, present=present_BM)
    output = backbone(some)
    assert not output.terms["dominant"][::2].any()
    assert not output.weights[::2].any()
    sum(backbone.losses(output, some).values()).backward()
    assert all(p.grad.isfinite().all() for p in backbone.parameters())


def test_every_group_and_the_alignment_learn(make_backbone, complete):
    backbone = make_backbone("prlf")
    sum(backbone.losses(backbone(complete), complete).values()).backward()
    groups = {group.name: group.parameters for group in backbone.parameter_groups()}
    assert set(groups) == {"text", "audio", "vision", "shared"}
    assert all(any(p.grad.any() for p in parameters) for parameters in groups.values())
    assert all(p.grad.any() for p in backbone.align.gate.parameters())
    assert backbone.align.query.weight.grad.any()


def test_the_estimators_loss_is_each_present_channels_gaussian_likelihood(make_backbone, make_random_batch):
    backbone, batch = make_backbone("prlf", outputs=3, estimation=1.0), make_random_batch(rows=20, outputs=3)
    output = backbone(batch)
    scale_BM1 = torch.exp(0.5 * output.terms["log_variance"])[..., None]
    gaussian = torch.distributions.Normal(output.terms["mean"], scale_BM1)
    likelihood_BMK = gaussian.log_prob(batch.target[:, None]) + 0.5 * torch.log(torch.tensor(2 * torch.pi))
    expected = -likelihood_BMK[batch.present].mean().item()
    assert backbone.losses(output, batch)["estimation"].item() == pytest.approx(expected, rel=1e-5)


def test_rows_with_one_channel_have_nothing_to_align(make_backbone, complete):
    backbone = make_backbone("prlf")
    alone = complete.mask(torch.tensor([[False, True, False]]))
    assert backbone.losses(backbone(alone), alone)["alignment"].item() == 0.0


def test_a_network_for_one_channel_has_no_rounds(make_backbone, make_random_batch, complete):
    alone = make_backbone("prlf", channels=(AUDIO,))
    assert alone(make_random_batch(channels=(AUDIO,))).terms["cosine"].shape[1] == 1
    assert make_backbone("prlf", rounds=5)(complete).terms["cosine"].shape[1] == 6


def test_loss_weights_scale_their_terms_and_zero_switches_them_off(make_backbone, complete):
    networks = [make_backbone("prlf", estimation=w, alignment=w) for w in (1.0, 2.0, 0.0)]
    once, twice, off = (backbone.losses(backbone(complete), complete) for backbone in networks)
    assert torch.equal(once["task"], twice["task"])
    for name in ("estimation", "alignment"):
        assert once[name].item() != 0.0
        assert twice[name].item() == pytest.approx(2 * once[name].item(), rel=1e-5)
        assert off[name].item() == 0.0


def test_without_rounds_there_is_no_prlf(make_backbone):
    with pytest.raises(TrainingError, match="at least one round"):
        make_backbone("prlf", rounds=0)
