"""Weights on disk are the weights in memory, bit for bit, and nothing else is taken for them."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mbd.backbones.weights import load_backbone, save_backbone, weights_digest
from mbd.cohort.modality import Modality, subsets
from mbd.errors import TrainingError


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_a_loaded_backbone_is_the_saved_one_bit_for_bit(make_backbone, make_random_batch, tmp_path, dtype):
    backbone, batch, path = make_backbone(width=12, dropout=0.5).to(dtype), make_random_batch(), tmp_path / "weights"
    digest = save_backbone(backbone, path)
    loaded = load_backbone(path)
    assert digest == weights_digest(backbone) == weights_digest(loaded)
    assert (loaded.interface, loaded.options) == (backbone.interface, backbone.options)
    assert not loaded.training
    for block in subsets(Modality):
        assert torch.equal(loaded.embed(batch, block), backbone.embed(batch, block))


def test_one_changed_bit_changes_the_digest(make_backbone):
    backbone = make_backbone()
    before = weights_digest(backbone)
    with torch.no_grad():
        bias = backbone.head.bias
        bias.copy_(torch.nextafter(bias, bias + 1))
    assert weights_digest(backbone) != before


def test_standardisation_is_part_of_the_digest(make_backbone):
    backbone = make_backbone()
    before = weights_digest(backbone)
    backbone.standardiser.text_mean[0] += 1.0
    assert weights_digest(backbone) != before


def test_loading_draws_nothing_from_the_callers_generator(make_backbone, tmp_path):
    save_backbone(make_backbone(), tmp_path / "weights")
    state = torch.get_rng_state()
    load_backbone(tmp_path / "weights")
    assert torch.equal(torch.get_rng_state(), state)


def test_saving_replaces_the_file_and_leaves_no_other(make_backbone, tmp_path):
    path = tmp_path / "weights"
    save_backbone(make_backbone(seed=1), path)
    digest = save_backbone(make_backbone(seed=2), path)
    assert weights_digest(load_backbone(path)) == digest
    assert [entry.name for entry in tmp_path.iterdir()] == ["weights"]


def test_a_missing_file_is_a_clear_error(tmp_path):
    with pytest.raises(TrainingError, match="cannot be read as tensors"):
        load_backbone(tmp_path / "nothing")


def test_a_damaged_file_is_a_clear_error(make_backbone, tmp_path):
    path = tmp_path / "weights"
    save_backbone(make_backbone(), path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(TrainingError, match="cannot be read as tensors"):
        load_backbone(path)


def test_tensors_of_another_program_are_refused(tmp_path):
    path = tmp_path / "weights"
    save_file({"w": torch.zeros(2)}, path)
    with pytest.raises(TrainingError, match="not one of kind mbd-backbone/1"):
        load_backbone(path)


def test_parameters_that_do_not_fit_their_configuration_are_refused(make_backbone, tmp_path):
    path = tmp_path / "weights"
    save_backbone(make_backbone(), path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    state = load_file(path)
    del state["head.bias"]
    save_file(state, path, metadata=metadata)
    with pytest.raises(TrainingError, match="does not hold the parameters of the backbone 'mbd'"):
        load_backbone(path)
