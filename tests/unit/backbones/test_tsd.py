"""TSD's own mechanisms: subspaces that can be told apart, are independent and agree; the supervisor; the gate."""

import math
from dataclasses import replace
from itertools import combinations, permutations

import numpy as np
import pytest
import torch

from mbd.backbones.base import ChannelShape, Interface
from mbd.backbones.tsd import disagreement, hsic
from mbd.backbones.zoo import build
from mbd.cohort.batch import Batch
from mbd.cohort.modality import Modality, pattern_name, subsets
from mbd.training.masking import as_columns, draw_patterns

TEXT, AUDIO, VISION = Modality
KINDS = ["common", "pairwise", "private"]
FEATURES = 24
ROWS = 800


@pytest.fixture(scope="module")
def problem():
    """Channels mixed from a factor of all, a factor for each pair and a private one; the label is a sum of factors.

    The batch, and the factors by name, two numbers a row each.
    """
    rng = np.random.default_rng(0)
    factors = {pattern_name(whose): rng.standard_normal((ROWS, 2)) for whose in subsets(Modality)}
    features = {}
    for m in Modality:
        own = np.concatenate([factors[name] for name in factors if m.value[0] in name], axis=1)
        clean = own @ rng.standard_normal((own.shape[1], FEATURES)) / math.sqrt(own.shape[1])
        noisy = clean + 0.1 * rng.standard_normal(clean.shape)
        features[m] = torch.from_numpy(noisy[:, None]).float()
    target = torch.from_numpy(sum(factor[:, :1] for factor in factors.values()) / math.sqrt(len(factors))).float()
    frames = {m: torch.ones(ROWS, 1, dtype=torch.bool) for m in Modality}
    return Batch(features, frames, frames, torch.ones(ROWS, 3, dtype=torch.bool), target), factors


def train(batch, *, steps=300, **options):
    """A network for the problem after some steps of masked training on the first half of its rows."""
    torch.manual_seed(0)
    interface = Interface({m: ChannelShape(dim=FEATURES, sequence=False) for m in Modality}, outputs=1)
    backbone = build(
        "tsd", interface, {"width": 16, "subspace_width": 4, "dropout": 0.0, "input_dropout": 0.0, **options}
    ).train()
    optimiser = torch.optim.AdamW(backbone.parameters(), lr=5e-3)
    patterns = as_columns(subsets(Modality))
    for _ in range(steps):
        rows = batch.select(torch.randint(0, ROWS // 2, (32,)))
        rows = rows.mask(draw_patterns(rows.present, patterns))
        sum(backbone.losses(backbone(rows), rows).values()).backward()
        optimiser.step()
        optimiser.zero_grad()
    return backbone.eval()


@pytest.fixture(scope="module")
def trained(problem):
    return train(problem[0])


def parts_of(backbone, batch):
    """Every part [B,V,D] of every row, and the kind of each."""
    with torch.no_grad():
        parts = backbone(batch).terms["parts"]
    return parts, torch.tensor([KINDS.index(part.kind) for part in backbone.parts])


def probe_accuracy(backbone, batch):
    """Balanced accuracy of a linear probe of kinds: least squares on one half of the rows, tested on the other."""
    parts, kinds = parts_of(backbone, batch)
    halves = []
    for half in (parts[: ROWS // 2], parts[ROWS // 2 :]):
        flat = half.flatten(0, 1).double()
        halves.append((torch.cat([flat, torch.ones(len(flat), 1)], dim=1), kinds.repeat(len(half))))
    (x, y), (x_test, y_test) = halves
    share = (1 / torch.bincount(y).double()[y]).sqrt()[:, None]
    weights = torch.linalg.lstsq(x * share, torch.eye(3, dtype=torch.float64)[y] * share, driver="gelsd").solution
    right = (x_test @ weights).argmax(dim=1) == y_test
    return torch.stack([right[y_test == kind].double().mean() for kind in range(3)]).mean().item()


def test_a_linear_probe_tells_the_subspaces_apart_but_neither_before_training_nor_without_the_supervisor(
    problem, trained
):
    """On rows that the probe has not seen; chance is a third."""
    batch, _ = problem
    assert probe_accuracy(trained, batch) > 0.95
    assert probe_accuracy(train(batch, steps=0), batch) < 0.55
    assert probe_accuracy(train(batch, supervisor=0.0), batch) < 0.55


def test_parts_of_a_shared_subspace_agree_and_private_ones_do_not(problem, trained):
    batch, _ = problem
    parts, _ = parts_of(trained, batch.select(torch.arange(ROWS // 2, ROWS)))

    def apart(kind):
        found = [(v, part.subspace) for v, part in enumerate(trained.parts) if part.kind == kind]
        return [
            disagreement(parts[:, i], parts[:, j]).item()
            for (i, first), (j, second) in combinations(found, 2)
            if kind == "private" or first == second
        ]

    assert len(apart("common")) == len(apart("pairwise")) == len(apart("private")) == 3
    assert max(apart("common")) < 0.6
    assert max(apart("pairwise")) < 0.6
    assert min(apart("private")) > 0.8


def explained(parts_ND, factor_N2):
    """The share of a factor's variance that a linear read-out of the parts explains on rows that did not fit it."""
    x, y = np.c_[parts_ND, np.ones(len(parts_ND))], factor_N2
    half = len(x) // 2
    weights = np.linalg.lstsq(x[:half], y[:half], rcond=None)[0]
    return 1 - ((y[half:] - x[half:] @ weights) ** 2).sum() / ((y[half:] - y[half:].mean(axis=0)) ** 2).sum()


def held(backbone, batch, factors):
    """What the parts of a kind hold on average of the factor of all channels, and of their own channel's factor."""
    parts, _ = parts_of(backbone, batch)
    shares = {}
    for kind in ("common", "private"):
        mine = [(v, part.channel.value[0]) for v, part in enumerate(backbone.parts) if part.kind == kind]
        of_all = [explained(parts[:, v].numpy(), factors["tav"]) for v, _ in mine]
        of_own = [explained(parts[:, v].numpy(), factors[channel]) for v, channel in mine]
        shares[kind] = float(np.mean(of_all)), float(np.mean(of_own))
    return shares


def test_the_common_subspace_holds_what_all_share_and_private_ones_what_nobody_else_has(problem, trained):
    """The network is told neither factor: it has to find out by alignment which of a channel's factors is which."""
    shares = held(trained, *problem)
    assert shares["common"][0] > shares["private"][0] + 0.2
    assert shares["private"][1] > shares["common"][1] + 0.1
    for other in (train(problem[0], steps=0), train(problem[0], alignment=0.0)):
        shares = held(other, *problem)
        assert shares["common"][0] < shares["private"][0] + 0.2


def dependence(backbone, batch):
    """Normalised HSIC between the subspaces, on the rows that did not train."""
    rows = batch.select(torch.arange(ROWS // 2, ROWS))
    parts, _ = parts_of(backbone, rows)
    return backbone._dependence(parts, rows.present[:, backbone._columns]).item()


def test_the_independence_term_makes_subspaces_less_dependent(problem, trained):
    batch, _ = problem
    assert dependence(trained, batch) < 0.6 * dependence(train(batch, independence=0.0), batch)


def as_it_is_printed(own_score):
    """The printed loss by our notes: a probability for each kind by itself, asked only about parts of that kind."""
    return torch.nn.functional.softplus(-own_score).mean()


def test_the_printed_loss_is_lowest_for_a_constant_and_ours_is_not(problem, trained):
    """What always says yes is perfect by the printed loss; by ours it knows no more than a throw of a fair die."""
    batch, _ = problem
    parts, _ = parts_of(trained, batch)
    present = batch.present[:, trained._columns]
    assert as_it_is_printed(torch.full(parts.shape[:2], 30.0)).item() < 1e-12

    constant = train(batch, steps=0)
    with torch.no_grad():
        ours = trained._supervise(parts, present).item()
        constant.supervisor.weight.zero_()
        constant.supervisor.bias.zero_()
        fair = constant._supervise(parts, present).item()
        assert fair == pytest.approx(math.log(3), rel=1e-5)
        assert ours < 0.5 * fair
        for seed in range(20):
            constant.supervisor.bias.copy_(torch.randn(3, generator=torch.Generator().manual_seed(seed)))
            assert constant._supervise(parts, present).item() > fair


def naive_hsic(x, y):
    """The U-statistic over four different rows, one after the other."""

    def kernel(z):
        n = len(z)
        distance = [[sum((a - b) ** 2 for a, b in zip(z[i], z[j], strict=True)) for j in range(n)] for i in range(n)]
        width = sum(map(sum, distance)) / (n * (n - 1)) + 1e-6
        return [[math.exp(-distance[i][j] / width) for j in range(n)] for i in range(n)]

    k, g = kernel(x.tolist()), kernel(y.tolist())
    fours = list(permutations(range(len(x)), 4))
    total = sum(k[i][j] * g[i][j] + k[i][j] * g[q][r] - 2 * k[i][j] * g[i][q] for i, j, q, r in fours)
    return total / len(fours)


def test_hsic_is_what_its_definition_gives_row_by_row():
    x = torch.randn(3, 8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x[1, :, 0] = x[0, :, 0].square()
    matrix = hsic(x)
    for i in range(3):
        for j in range(3):
            assert matrix[i, j].item() == pytest.approx(naive_hsic(x[i], x[j]), abs=1e-12)


def test_hsic_is_zero_on_average_over_all_ways_to_pair_rows_and_so_for_independent_ones():
    x = torch.randn(2, 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    values = torch.stack([hsic(torch.stack([x[0], x[1][list(order)]]))[0, 1] for order in permutations(range(6))])
    assert values.std() > 1e-3
    assert values.mean().item() == pytest.approx(0.0, abs=1e-12)


def test_hsic_sees_dependence_without_correlation_and_not_the_size_of_vectors():
    x = torch.randn(300, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    y = torch.randn(300, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    matrix = hsic(torch.stack([x, x.square(), y, 100 * y]))
    assert matrix[0, 1] > 10 * matrix[0, 2].abs()
    assert matrix[0, 3].item() == pytest.approx(matrix[0, 2].item(), rel=1e-3)


def test_too_few_rows_show_no_dependence_and_no_disagreement():
    assert hsic(torch.randn(2, 3, 5)).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert disagreement(torch.randn(1, 5), torch.randn(1, 5)).item() == 0.0


def test_disagreement_is_one_minus_the_intraclass_correlation():
    x, y = torch.randn(2, 4000, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    x = x - x.mean(dim=0)
    assert disagreement(x, x).item() == 0.0
    assert disagreement(x, y).item() == pytest.approx(1.0, abs=0.05)
    assert disagreement(x, -x).item() == pytest.approx(2.0, abs=1e-5)
    assert disagreement(x, 1e-2 * y + 5).item() > 1.0  # alike in all rows, but not alike
    assert disagreement(1e-2 * x, 1e-2 * y).item() == pytest.approx(disagreement(x, y).item(), rel=0.01)


def test_the_gate_shares_one_among_the_parts_that_are_there(make_backbone, make_random_batch):
    backbone, batch = make_backbone("tsd").double(), make_random_batch(rows=40)
    output = backbone(batch)
    present = batch.present[:, backbone._columns]
    _, gate = backbone.fusion(output.terms["parts"], present)
    assert torch.equal(gate > 0, present)
    assert torch.allclose(gate.sum(dim=1), torch.ones(40, dtype=torch.float64), rtol=0, atol=1e-12)
    assert torch.allclose(output.weights.sum(dim=1), torch.ones(40, dtype=torch.float64), rtol=0, atol=1e-12)
    assert torch.equal(output.weights > 0, batch.present)
    assert gate[present].std() > 1e-3
    empty = replace(batch, present=torch.zeros_like(batch.present))
    assert not backbone(empty).weights.any()


def test_a_part_reads_the_other_kinds_of_parts_alone(make_backbone):
    """With the whole gate on one part, the fused vector moves with that part and with those of other kinds."""
    backbone = make_backbone("tsd").double()
    kinds = [part.kind for part in backbone.parts]
    parts = torch.randn(1, len(kinds), 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    alone = torch.zeros(len(kinds), dtype=torch.float64)

    class OnlyFirst(torch.nn.Module):
        def forward(self, mixed):
            return alone[None, :, None] * 1e4

    for first, kind in enumerate(kinds):
        alone[:] = 0
        alone[first] = 1
        backbone.fusion.gate = OnlyFirst()
        moving = parts.clone().requires_grad_()
        fused, _ = backbone.fusion(moving, torch.ones(1, len(kinds), dtype=torch.bool))
        fused.square().sum().backward()
        moved = [v for v in range(len(kinds)) if moving.grad[0, v].any()]
        assert moved == [v for v in range(len(kinds)) if v == first or kinds[v] != kind]


@pytest.mark.parametrize(
    ("channels", "subspaces"),
    [
        ((TEXT,), ["common", "text"]),
        ((TEXT, VISION), ["common", "text-vision", "text", "vision"]),
        (
            (TEXT, AUDIO, VISION),
            ["common", "text-audio", "text-vision", "audio-vision", "text", "audio", "vision"],
        ),
    ],
)
def test_there_is_a_map_for_each_subspace_that_the_declared_channels_have(
    make_backbone, make_random_batch, channels, subspaces
):
    backbone, batch = make_backbone("tsd", channels=channels), make_random_batch(channels=channels)
    assert list(backbone.maps) == subspaces
    assert backbone.supervisor.out_features == (2 if len(channels) == 1 else 3)
    assert ("alignment" in backbone.losses(backbone(batch), batch)) == (len(channels) > 1)


@pytest.mark.parametrize("term", ["supervisor", "independence", "alignment"])
def test_loss_weights_scale_their_terms_and_zero_switches_them_off(make_backbone, make_random_batch, term):
    batch = make_random_batch(rows=30)
    once, twice, off = (make_backbone("tsd", **{term: weight}) for weight in (1.0, 2.0, 0.0))
    terms = [backbone.losses(backbone(batch), batch)[term].item() for backbone in (once, twice, off)]
    assert terms[1] == pytest.approx(2 * terms[0], rel=1e-5)
    assert terms[2] == 0.0


def test_absent_parts_enter_no_loss(make_backbone, make_random_batch):
    backbone, batch = make_backbone("tsd"), make_random_batch(rows=30)
    output = backbone(batch)
    absent = ~batch.present[:, backbone._columns]
    garbled = replace(output, terms={"parts": output.terms["parts"] + 100.0 * absent[..., None]})
    before, after = backbone.losses(output, batch), backbone.losses(garbled, batch)
    assert {name: term.item() for name, term in before.items()} == {name: term.item() for name, term in after.items()}
