"""Where a network trains: on each device that is here, and never half on one and half on another."""

import pytest
import torch

from mbd.backbones.base import Interface
from mbd.backbones.zoo import ZOO, build
from mbd.cohort.batch import make_batch
from mbd.errors import TrainingError
from mbd.training.loop import train

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU that torch can use")


class StoppedError(Exception):
    """Raised by a progress callback to break off a run."""


def break_off(*_):
    raise StoppedError


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NO_GPU)])
def test_a_run_that_was_broken_off_goes_on_there_and_its_transcript_names_the_device(cohort, recipe, tmp_path, device):
    with pytest.raises(StoppedError):
        train(recipe, cohort, seed=0, checkpoint_dir=tmp_path, on_progress=break_off, device=device)
    told = []
    trained = train(
        recipe, cohort, seed=0, checkpoint_dir=tmp_path, on_progress=lambda done, *_: told.append(done), device=device
    )
    assert told == [2, 3, 4]
    assert trained.transcript.device == device
    assert {tensor.device.type for tensor in trained.backbone.state_dict().values()} == {"cpu"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_a_clear_error_before_anything_is_written(cohort, recipe, tmp_path):
    with pytest.raises(TrainingError, match=r"no GPU that torch can use\. Remedy: train on the CPU"):
        train(recipe, cohort, seed=0, checkpoint_dir=tmp_path, device="cuda")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ZOO)
def test_a_backbone_makes_its_tensors_where_its_input_is(cohort, name):
    """With `meta` as the default device, a tensor made without naming the input's device cannot meet the input."""
    backbone = build(name, Interface.of(cohort), {}).train()
    batch = make_batch(cohort, range(12))
    with torch.device("meta"):
        terms = backbone.losses(backbone(batch), batch)
        torch.autograd.backward(torch.stack(list(terms.values())).sum())
    assert {parameter.grad.device.type for parameter in backbone.parameters() if parameter.grad is not None} == {"cpu"}


def test_a_tensor_made_elsewhere_would_be_found(cohort):
    batch = make_batch(cohort, range(2))
    with torch.device("meta"), pytest.raises((RuntimeError, NotImplementedError)):
        (batch.target + torch.arange(len(batch.target))[:, None]).sum().item()


def test_a_batch_that_is_there_already_is_not_copied(cohort):
    batch = make_batch(cohort, range(3))
    assert batch.to("cpu") is batch
    moved = batch.to("meta")
    assert {x.device.type for x in (*moved.features.values(), *moved.valid.values(), moved.present, moved.target)} == {
        "meta"
    }
