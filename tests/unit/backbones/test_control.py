"""What is particular to the control: MBD's encoders, late fusion by a mean, one loss, and nothing that generates."""

from dataclasses import replace

import pytest
import torch

from mbd.backbones.mbd import MbdOptions
from mbd.backbones.stem import Encoder
from mbd.backbones.zoo import ZOO
from mbd.cohort.modality import Modality

TEXT, AUDIO, VISION = Modality


@pytest.fixture
def control(make_backbone):
    return make_backbone("control")


def test_its_encoders_are_mbds_and_its_sizes_default_to_mbds(make_backbone, control):
    mbd, sizes = make_backbone("mbd"), ZOO["control"].Options()
    assert all(isinstance(encoder, Encoder) for encoder in control.encoders.values())
    shapes = [{n: p.shape for n, p in network.encoders.named_parameters()} for network in (mbd, control)]
    assert shapes[0] == shapes[1]
    assert vars(sizes) == {name: getattr(MbdOptions(), name) for name in ("width", "dropout", "input_dropout")}


def test_squared_error_in_standard_units_is_its_only_loss(control, make_random_batch):
    batch = make_random_batch(rows=5)
    control.standardiser.target_scale.fill_(2.0)
    output = control(batch)
    terms = control.losses(output, batch)
    assert set(terms) == {"task"}
    assert terms["task"].item() == pytest.approx((output.prediction - batch.target).square().mean().item() / 4)


def test_fusion_sees_nothing_but_the_mean_of_the_encodings_that_are_there(control, make_random_batch):
    """With two channels whose encodings are equal, one of them alone says the same as both: no flag, no generator."""
    batch = make_random_batch(rows=6)
    both = torch.tensor([[False, True, True]]).expand(6, 3)
    batch = replace(batch, present=both)

    class Constant(torch.nn.Module):
        def forward(self, features_BTF, observed_BT):
            return torch.where(observed_BT.any(dim=1, keepdim=True), torch.linspace(-1, 1, 8), 0.0)

    for modality in (AUDIO, VISION):
        control.encoders[modality.value] = Constant()
    together = control(batch).prediction
    alone = control(batch.mask(torch.tensor([[False, True, False]]))).prediction
    assert torch.allclose(together, alone, atol=1e-6)


def test_an_absent_channel_does_not_weaken_the_others(control, make_random_batch):
    """The mean is over what a row has, not over all channels."""
    batch = replace(make_random_batch(rows=6), present=torch.tensor([[True, False, False]]).expand(6, 3))
    output = control(batch)
    z_BD = output.per_modality[TEXT]
    assert torch.allclose(output.embedding, control.norm(z_BD + control.refine(z_BD)), atol=1e-6)


def test_a_row_without_any_channel_gets_the_mean_label_exactly(control, make_random_batch):
    batch = make_random_batch(rows=3)
    control.standardiser.target_mean.fill_(0.625)
    empty = replace(batch, present=torch.zeros_like(batch.present))
    assert control(empty).prediction.flatten().tolist() == [0.625] * 3


def test_a_channel_that_nobody_in_the_batch_has_trains_nothing(control, make_random_batch):
    batch = make_random_batch(rows=12).mask(torch.tensor([[True, True, False]]))
    control.losses(control(batch), batch)["task"].backward()
    assert not any(p.grad is not None and p.grad.any() for p in control.encoders[VISION.value].parameters())
    assert any(p.grad.any() for p in control.encoders[TEXT.value].parameters())
