"""The network's own mechanisms: generation of what is missing, and each loss term's meaning."""

from dataclasses import replace

import pytest
import torch

from mbd.backbones.base import isolate
from mbd.cohort.modality import Modality

ALL = frozenset(Modality)
TEXT, AUDIO, VISION = Modality


@pytest.fixture
def complete(make_random_batch):
    """Rows that have every channel."""
    batch = make_random_batch(rows=40)
    return replace(batch, present=torch.ones_like(batch.present))


@pytest.mark.parametrize("missing", list(Modality))
def test_a_missing_channel_is_generated_from_the_others_and_its_property(make_backbone, complete, missing):
    backbone, block = make_backbone(), ALL - {missing}
    before = backbone.embed(complete, block)
    with torch.no_grad():
        backbone.properties[missing.value].add_(1.0)
    assert not torch.equal(backbone.embed(complete, block), before)


def test_a_channel_that_is_there_is_not_generated(make_backbone, complete):
    backbone = make_backbone()
    before = backbone.embed(complete, ALL)
    with torch.no_grad():
        for parameter in [*backbone.properties.values(), *backbone.generators.parameters()]:
            parameter.add_(1.0)
    assert torch.equal(backbone.embed(complete, ALL), before)


def test_the_reconstruction_target_carries_no_gradient(make_backbone, complete):
    """With generators that ignore their sources, encoders are targets only, and must feel nothing."""
    backbone = make_backbone(reconstruction=1.0)
    for generator in backbone.generators.values():
        with torch.no_grad():
            generator.up.weight.zero_()
    backbone.losses(backbone(complete), complete)["reconstruction"].backward()
    assert all(not p.grad.any() for p in backbone.encoders.parameters() if p.grad is not None)
    assert any(p.grad.any() for p in backbone.generators.parameters())


def test_rows_with_one_channel_have_nothing_to_reconstruct(make_backbone, complete):
    backbone = make_backbone(reconstruction=1.0)
    alone = isolate(complete, frozenset({VISION}))
    assert backbone.losses(backbone(alone), alone)["reconstruction"].item() == 0.0


@pytest.mark.parametrize("term", ["task", "reconstruction", "orthogonality", "invariance", "decomposition", "contrast"])
def test_each_loss_term_can_be_learned(descend, make_backbone, complete, term):
    options = {"reconstruction": 1.0, "property_weight": 1.0, "contrast": 1.0}
    first, last = descend(make_backbone(**options), complete, term)
    assert last < 0.8 * first


def test_orthogonality_is_not_lowered_by_opposite_directions(make_backbone, complete):
    """The signed inner product of the paper would reward Sigma = -mu."""
    backbone = make_backbone(property_weight=1.0)
    for decompose in backbone.decompose.values():
        with torch.no_grad():
            half = decompose.down.out_features // 2
            decompose.down.weight[half:] = -decompose.down.weight[:half]
            decompose.down.bias[half:] = -decompose.down.bias[:half]
    assert backbone.losses(backbone(complete), complete)["orthogonality"].item() == pytest.approx(1.0, abs=1e-5)


def test_the_property_embedding_is_drawn_to_the_invariant_part_but_only_to_the_margin(descend, make_backbone, complete):
    backbone = make_backbone(property_weight=1.0, margin=0.5)
    assert backbone.losses(backbone(complete), complete)["approach"].item() == 0.0
    with torch.no_grad():
        for parameter in backbone.properties.values():
            parameter.fill_(1.5)
    far, near = descend(backbone, complete, "approach", steps=120)
    assert far > 1.0
    assert near < 0.1


def test_contrast_is_lowest_when_z_tells_rows_apart(descend, make_backbone, complete):
    backbone = make_backbone(contrast=1.0)
    first, last = descend(backbone, complete, "contrast", steps=150)
    assert last < 0.6 * first
    shuffled = replace(backbone(complete), embedding=backbone(complete).embedding.roll(1, dims=0))
    assert backbone.losses(shuffled, complete)["contrast"].item() > 2 * last


def test_loss_weights_scale_their_terms_and_zero_switches_them_off(make_backbone, complete):
    once, twice, off = (
        make_backbone(reconstruction=w, property_weight=w, contrast=w, margin=0.0) for w in (1.0, 2.0, 0.0)
    )
    terms = [backbone.losses(backbone(complete), complete) for backbone in (once, twice, off)]
    assert torch.equal(terms[0]["task"], terms[1]["task"])
    for name in set(terms[0]) - {"task"}:
        assert terms[1][name].item() == pytest.approx(2 * terms[0][name].item(), rel=1e-5)
        assert terms[2][name].item() == 0.0


def test_the_order_of_frames_matters_to_a_sequence(make_backbone, complete):
    backbone, block = make_backbone(), frozenset({AUDIO})
    every = {m: torch.ones_like(valid) for m, valid in complete.valid.items()}
    whole = replace(complete, valid=every, observed=every)
    backwards = replace(whole, features=whole.features | {AUDIO: whole.features[AUDIO].flip(1)})
    assert (backbone.embed(whole, block) - backbone.embed(backwards, block)).abs().max() > 1e-4


def test_the_property_embeddings_learn_at_their_own_rate(make_backbone):
    rates = {group.name: group.learning_rate for group in make_backbone().parameter_groups()}
    assert rates == {"text": None, "audio": None, "vision": None, "properties": 1e-3, "shared": None}
