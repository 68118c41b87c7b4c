"""Two ranks share each batch and end with the same weights: those of one process, but for rounding and dropout."""

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mbd.backbones.weights import load_backbone
from mbd.training.loop import train

SCRIPT = Path(__file__).with_name("rank.py")
RANKS = 2
SHIFTS = ("pool.bias", "query_key_value.bias")
"""They shift all logits of a softmax: their gradient is rounding alone, of which AdamW makes steps as of any other."""


@pytest.fixture(scope="module")
def rank():
    """The module that each rank runs."""
    specification = importlib.util.spec_from_file_location("training_rank", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def found(folder):
    """What each of the ranks found. torchrun starts all of them again when one was killed."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={RANKS}", "--max-restarts=2"]
    done = subprocess.run(
        [sys.executable, *launcher, "--monitor-interval=0.05", SCRIPT, folder],
        env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads((folder / f"{number}.json").read_text()) for number in range(RANKS)]


@pytest.fixture(scope="module")
def alone(rank):
    """One process's training without dropout."""
    return train(replace(rank.RECIPE, options=rank.STILL), rank.cohort(), seed=3)


def test_every_rank_ends_with_the_same_weights_and_transcript(found):
    first, second = found
    assert first["digest"] == second["digest"] == first["transcript"]["weights_digest"]
    assert first["transcript"] == second["transcript"]


def test_the_same_ranks_and_seed_give_the_same_transcript_again(found):
    assert all(one["again"] == one["transcript"] for one in found)


def test_the_transcript_says_how_many_ranks_there_were(found):
    assert found[0]["transcript"]["ranks"] == 2
    assert "device" not in found[0]["transcript"]


def test_the_gradient_is_that_of_one_process_whatever_the_shares(found):
    for one in found:
        assert max(one["gradients"]) < 1e-12


@pytest.mark.parametrize("bug", ["mean of shares", "everyone counts"])
def test_a_planted_bug_would_be_caught(found, bug):
    assert min(found[0][bug]) > 1e-2


def test_without_dropout_the_weights_are_those_of_one_process_up_to_rounding(found, folder, alone):
    shared, own = load_backbone(folder / "still.safetensors").state_dict(), alone.backbone.state_dict()
    differ = {name for name in own if not torch.allclose(shared[name], own[name], rtol=0, atol=1e-6)}
    assert {name for name in differ if not name.endswith(SHIFTS)} == set()
    curve = [epoch.score for epoch in alone.transcript.curve]
    assert [epoch["score"] for epoch in found[0]["still"]["curve"]] == pytest.approx(curve, rel=1e-5)


def test_validation_has_the_bits_of_one_process(found):
    assert all(one["validation"] == one["validation alone"] for one in found)


def test_a_private_tower_has_the_bits_of_one_process(found, rank):
    assert [one["private"] for one in found] == [rank.private_tower().transcript.to_json()] * 2


def test_ranks_at_other_work_are_refused_on_all_alike(found):
    said = "RanksError: The 2 processes are not at the same work: initial weights, seed differ."
    assert [one["another seed"] for one in found] == [said, said]


@pytest.mark.parametrize(
    ("failure", "failing", "error"),
    [("no rows on one", 1, "has no public rows to train on"), ("stopped on the way", 0, "broken off after 1")],
)
def test_a_rank_that_fails_leaves_no_other_waiting(found, failure, failing, error):
    assert error in found[failing][failure]
    assert found[1 - failing][failure].startswith("RanksError: Another of the 2 processes")


def test_several_ranks_and_a_gpu_are_refused(found):
    assert all("TrainingError: 2 processes cannot share a GPU" in one["a GPU"] for one in found)


def test_ranks_that_were_all_killed_after_each_epoch_end_with_the_same_transcript(found, folder):
    epochs = {path.name for path in folder.glob("epoch-*")}
    assert epochs == {f"epoch-{start + 1}-of-start-{start}" for start in range(3)}
    assert [one["resumed"] for one in found] == [one["transcript"] for one in found]
    assert list((folder / "run").iterdir()) == []
