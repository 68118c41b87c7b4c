"""What is particular to late fusion: channels that do not know each other, the mean of what they say, nothing else."""

from dataclasses import replace

import pytest
import torch

from mbd.cohort.modality import Modality

TEXT, AUDIO, VISION = Modality


@pytest.fixture
def fusion(make_backbone):
    """In float64, with four outputs and labels that are not standard."""
    backbone = make_backbone("late-fusion", outputs=4).double()
    backbone.standardiser.target_mean.copy_(torch.tensor([0.5, -1.0, 2.0, 0.0]))
    backbone.standardiser.target_scale.fill_(3.0)
    return backbone


@pytest.fixture
def batch(make_random_batch):
    return make_random_batch(rows=30, outputs=4)


def only(modality):
    return torch.tensor([[m is modality for m in Modality]])


def test_the_prediction_is_the_mean_of_what_each_present_channel_predicts_alone(fusion, batch):
    alone = torch.stack([fusion(batch.mask(only(m))).prediction for m in Modality], dim=1)
    mean = (alone * batch.present[..., None]).sum(dim=1) / batch.present.sum(dim=1, keepdim=True)
    assert len(set(batch.present.sum(dim=1).tolist())) == 3
    assert torch.allclose(fusion(batch).prediction, mean, rtol=0, atol=1e-12)


def test_an_absent_channels_network_changes_nothing_for_the_others(fusion, batch):
    before = fusion(batch).prediction
    with torch.no_grad():
        for parameter in [*fusion.encoders[VISION.value].parameters(), *fusion.heads[VISION.value].parameters()]:
            parameter.add_(torch.randn_like(parameter))
    same = (fusion(batch).prediction == before).all(dim=1)
    assert torch.equal(same, ~batch.present[:, 2])


def test_the_prediction_is_a_linear_read_out_of_the_embedding(fusion, batch):
    output = fusion(batch)
    weights = torch.cat([fusion.heads[m.value].weight for m in Modality], dim=1)
    read_out = fusion.standardiser.prediction(output.embedding @ weights.T)
    assert output.embedding.shape == (30, 3 * 8)
    assert torch.allclose(read_out, output.prediction, rtol=0, atol=1e-12)


def test_each_channel_is_trained_as_if_there_were_no_other(fusion, batch):
    """By its own loss, a channel's network gets a third of the gradient that it would get alone."""

    def gradients(term, rows):
        fusion.zero_grad()
        fusion.losses(fusion(rows), rows)[term].backward()
        return [p.grad.clone() for p in fusion.parameter_groups()[0].parameters]

    has_text = batch.select(batch.present[:, 0].nonzero().flatten())
    together, alone = gradients("unimodal", batch), gradients("task", has_text.mask(only(TEXT)))
    assert any(gradient.abs().max() > 1e-3 for gradient in alone)
    for mine, other in zip(together, alone, strict=True):
        assert torch.allclose(3 * mine, other, rtol=0, atol=1e-12)


def test_the_mean_is_never_worse_than_the_channels_are_on_average(fusion, batch):
    complete = replace(batch, present=torch.ones_like(batch.present))
    losses = fusion.losses(fusion(complete), complete)
    assert set(losses) == {"task", "unimodal"}
    assert losses["task"] < losses["unimodal"]


def test_channels_that_are_there_count_alike(fusion, batch):
    weights = fusion(batch).weights
    assert torch.allclose(weights.sum(dim=1), torch.ones(30, dtype=torch.float64))
    assert torch.equal(weights > 0, batch.present)
    assert (weights.amax(dim=1) * batch.present.sum(dim=1)).tolist() == pytest.approx([1.0] * 30)


def test_a_row_without_any_channel_gets_the_mean_label_exactly(fusion, batch):
    output = fusion(replace(batch, present=torch.zeros_like(batch.present)))
    assert output.prediction.tolist() == [[0.5, -1.0, 2.0, 0.0]] * 30
    assert not output.weights.any()


def test_nothing_is_shared_between_channels(fusion):
    assert [group.name for group in fusion.parameter_groups()] == ["text", "audio", "vision"]
