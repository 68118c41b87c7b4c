"""What every backbone of the zoo promises, besides isolation."""

from dataclasses import replace

import pytest
import torch

from mbd.backbones.zoo import ZOO, build
from mbd.cohort.modality import Modality, subsets
from mbd.errors import TrainingError
from mbd.training.distributed import _flat, _shaped

every_backbone = pytest.mark.parametrize("name", ZOO)
every_cohort = pytest.mark.parametrize("channels", subsets(Modality), ids=lambda c: "+".join(sorted(c)))


@every_backbone
@every_cohort
@pytest.mark.parametrize("outputs", [1, 4])
def test_any_declared_channels_give_finite_predictions_and_losses(
    make_backbone, make_random_batch, name, channels, outputs
):
    backbone = make_backbone(name, channels=channels, outputs=outputs)
    batch = make_random_batch(rows=9, channels=channels, outputs=outputs)
    output = backbone(batch)
    assert output.prediction.shape == (9, outputs)
    assert output.embedding.shape == (9, backbone.embedding_dim)
    losses = backbone.losses(output, batch)
    assert "task" in losses
    assert all(torch.isfinite(term) for term in losses.values())


@every_backbone
@every_cohort
def test_every_parameter_has_a_finite_gradient(make_backbone, make_random_batch, name, channels):
    backbone = make_backbone(name, channels=channels)
    batch = make_random_batch(rows=30, channels=channels)
    sum(backbone.losses(backbone(batch), batch).values()).backward()
    without = [n for n, p in backbone.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == []
    still = {group.name for group in backbone.parameter_groups() if not any(p.grad.any() for p in group.parameters)}
    alone = {"properties"} if len(channels) == 1 else set()  # what MBD generates from: there is nothing to generate
    assert still <= alone


@every_backbone
def test_losses_know_the_output_alone_and_so_can_be_computed_where_it_was_gathered(
    make_backbone, make_random_batch, name
):
    """As ranks do: each row's outputs side by side, in another process, without what made them."""
    backbone = make_backbone(name).double().train()
    batch = make_random_batch(rows=12)
    output = backbone(batch)
    torch.manual_seed(0)
    terms = backbone.losses(output, batch)
    gathered = _shaped(_flat(output).detach().requires_grad_(), output)
    featureless = replace(batch, features={m: x * torch.nan for m, x in batch.features.items()})
    torch.manual_seed(0)
    again = backbone.losses(gathered, featureless)
    assert {n: term.item() for n, term in again.items()} == {n: pytest.approx(t.item()) for n, t in terms.items()}


@every_backbone
def test_a_row_without_any_channel_gives_the_prior_and_never_nan(make_backbone, make_random_batch, name):
    backbone, batch = make_backbone(name), make_random_batch(rows=3)
    empty = replace(
        batch,
        features={m: x * torch.nan for m, x in batch.features.items()},
        present=torch.zeros_like(batch.present),
    )
    prediction = backbone(empty).prediction
    assert torch.isfinite(prediction).all()
    assert torch.equal(prediction[0], prediction[1])
    assert all(torch.isfinite(term) for term in backbone.losses(backbone(empty), empty).values())


@every_backbone
def test_predictions_do_not_read_labels(make_backbone, make_random_batch, name):
    backbone, batch = make_backbone(name), make_random_batch()
    unlabelled = replace(batch, target=batch.target * torch.nan)
    assert torch.equal(backbone(batch).prediction, backbone(unlabelled).prediction)


@every_backbone
@every_cohort
def test_each_parameter_is_in_exactly_one_group(make_backbone, name, channels):
    backbone = make_backbone(name, channels=channels)
    groups = backbone.parameter_groups()
    grouped = [id(p) for group in groups for p in group.parameters]
    assert sorted(grouped) == sorted(id(p) for p in backbone.parameters())
    assert {m.value for m in channels} <= {group.name for group in groups}


@every_backbone
def test_a_backbone_says_how_close_to_its_paper_it_is(name):
    assert ZOO[name].fidelity in {"paper", "partial", "inspired"}
    assert ZOO[name].fidelity == "paper" or ZOO[name].deviations


def test_an_unknown_backbone_is_refused_by_name(make_backbone):
    with pytest.raises(TrainingError, match=r"There is no backbone 'transformer'\. Remedy: use one of: mbd"):
        build("transformer", make_backbone().interface, {})


def test_an_unknown_option_is_refused_by_name(make_backbone):
    with pytest.raises(TrainingError, match="no option depth, layers"):
        make_backbone(layers=3, depth=2)
