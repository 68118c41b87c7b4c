"""``mbd train``, ``evaluate`` and ``predict``: what they say, and what a withdrawn channel forbids."""

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from mbd.cohort import folder
from mbd.cohort.synthetic import Subjects, synthetic_cohort
from mbd.training.checkpoint import NAME
from mbd.training.processes import train_by
from mbd.training.recipe import Recipe


def test_a_prediction_says_where_each_channel_came_from(home, demo, mbd):
    cohort = home / "lines" / "demo" / "2" / "cohort"
    answers = mbd("predict", cohort, "--line", "demo", "--home", home, "--json").json["predictions"]
    said = {how for answer in answers for how in answer["channels"].values()}
    assert said == {"present", "reconstructed", "suppressed"}
    for answer in answers:
        withdrawn = answer["clip"].startswith(demo.json["subject"])
        assert (answer["channels"]["audio"] == "suppressed") == withdrawn
        present = [m[0] for m, how in answer["channels"].items() if how == "present"]
        assert answer["pattern"] == "".join(present)
        assert (answer["output"] is None) == (not present)


def test_people_see_the_same_in_a_table_of_as_many_rows_as_they_ask_for(home, demo, mbd):
    cohort = home / "lines" / "demo" / "2" / "cohort"
    done = mbd("predict", cohort, "--line", "demo", "--limit", 3, "--home", home)
    assert re.search(r"^clip +prediction +present +reconstructed +suppressed$", done.out, re.MULTILINE)
    assert len(re.findall(r"^synthetic-\d+-clip-\d+ ", done.out, re.MULTILINE)) == 3
    assert "more (see --limit and --json)" in done.out


def test_evaluation_measures_the_live_version(home, demo, mbd):
    done = mbd("evaluate", "--line", "demo", "--home", home, "--json")
    assert (done.json["version"], done.json["metrics"]) == (2, demo.json["metrics_after"])


def test_a_line_that_does_not_exist_is_refused_with_those_that_do(home, mbd):
    done = mbd("evaluate", "--home", home, "--json")
    assert done.code == 1
    assert "'main'" in done.json["error"]["message"]
    assert "demo" in done.json["error"]["remedy"]


@pytest.mark.parametrize("line", ["", "a/b", "..", "two words", "-x", "x" * 65])
def test_a_line_has_a_name_that_a_folder_and_a_certificate_can_bear(cohort_folder, mbd, tmp_path, line):
    done = mbd("train", cohort_folder, f"--line={line}", "--home", tmp_path / "new", "--json")
    assert (done.code, done.json["error"]["type"]) == (2, "UsageError")
    assert not (tmp_path / "new").exists()


def test_training_refuses_a_channel_that_was_withdrawn(home, cohort_folder, mbd):
    train = ("train", cohort_folder, "--line", "second", "--home", home)
    refused = mbd(*train, "--json")
    assert (refused.code, refused.json["error"]["type"]) == (1, "ChannelSuppressedError")
    assert "--drop-suppressed" in refused.json["error"]["remedy"]
    assert "second" not in mbd("lineage", "--home", home).out


def test_training_without_the_withdrawn_channels_tells_each_finished_stage(home, demo, cohort_folder, mbd):
    train = ("train", cohort_folder, "--line", "second", "--home", home)
    done = mbd(*train, "--drop-suppressed")
    assert done.code == 0, done.err
    assert re.search(r"^backbone: done in \d+\.\d s \(.+\)$", done.out, re.MULTILINE)
    assert re.search(r"^heads: done in \d+\.\d s", done.out, re.MULTILINE)
    assert "\x1b" not in done.out
    subject = demo.json["subject"]
    seen = mbd("lineage", "--subject", subject, "--modality", "audio", "--home", home, "--json").json["exposures"]
    assert {row["line"] for row in seen} == {"demo"}
    again = mbd(*train, "--drop-suppressed")
    assert again.code == 1
    assert "exists already" in again.err


@pytest.fixture
def _interruptible():
    """Children obey Ctrl-C, even if whoever started the tests ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_ctrl_c_ends_a_training_at_once_and_says_so(demo, start, program, tmp_path):
    cohort, home = demo.home / "lines" / "demo" / "2" / "cohort", tmp_path / "new"
    process = start(program, "train", cohort, "--home", home)
    while not (home / "training").exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert err.startswith("Error: Interrupted.\nRemedy: ")


def test_a_recipe_file_trains_a_line_and_its_mistakes_are_named(mbd, tmp_path):
    cohort, recipe = tmp_path / "cohort", tmp_path / "small.toml"
    folder.write(synthetic_cohort(subjects=Subjects(5, 2, 6, 2), clips=5), cohort, key=bytes(32))
    recipe.write_text("epochs = 1\n[options]\nwidth = 8\nproperty_width = 8\n")
    done = mbd("train", cohort, "--home", tmp_path / "home", "--recipe", recipe, "--json")
    assert done.code == 0, done.err
    transcript = json.loads((tmp_path / "home" / "transcripts" / f"{done.json['transcript']}.json").read_bytes())
    assert transcript["recipe"] == Recipe(epochs=1, options={"width": 8, "property_width": 8}).to_json()

    recipe.write_text("epoch = 1\n")
    wrong = mbd("train", cohort, "--home", tmp_path / "home", "--line", "two", "--recipe", recipe, "--json")
    assert wrong.code == 1
    assert "epoch: there is no such key" in wrong.json["error"]["message"]


def other_rank(process):
    """The process id of the one other rank that a training has started."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text("ascii").split()
    (rank,) = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return int(rank)


def test_a_training_by_two_processes_survives_the_death_of_one(cohort_folder, start, installed, program, tmp_path):
    home, file = tmp_path / "new", tmp_path / "long.toml"
    recipe = Recipe(epochs=25, patience=25, options={"width": 8, "property_width": 8})
    file.write_text("epochs = 25\npatience = 25\n[options]\nwidth = 8\nproperty_width = 8\n")
    words = ("train", cohort_folder, "--home", home, "--recipe", file, "--processes", 2)
    process = start(program, *words)
    while not (home / "training" / "main" / NAME).exists() and process.poll() is None:
        time.sleep(0.002)
    os.kill(other_rank(process), signal.SIGKILL)
    _, err = process.communicate()
    assert process.returncode == 1
    assert re.match(r"Error: A training process was ended from outside \(SIGKILL\)\.\nRemedy: .*goes on from its", err)

    done = installed(*words, "--json")
    assert done.code == 0, done.err
    transcript = json.loads((home / "transcripts" / f"{done.json['transcript']}.json").read_bytes())
    undisturbed = train_by(2, recipe, folder.read(cohort_folder), stored=cohort_folder, seed=0).transcript
    assert (transcript["ranks"], transcript["weights_digest"]) == (2, undisturbed.weights_digest)


def test_training_on_a_gpu_that_is_not_there_is_refused_with_a_remedy(cohort_folder, mbd, tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = mbd("train", cohort_folder, "--home", tmp_path / "new", "--device", "cuda")
    assert done.code == 1
    assert done.err.startswith("Error: There is no GPU that torch can use.\nRemedy: train on the CPU (the default)")


@pytest.mark.parametrize("recipe", ["none", "none.toml"])
def test_a_recipe_that_is_neither_a_name_nor_a_file_is_a_usage_error(mbd, tmp_path, recipe):
    done = mbd("train", tmp_path, "--home", tmp_path / "home", "--recipe", recipe, "--json")
    assert done.code == 2
    assert "neither one of synthetic, mosi, ravdess nor a .toml file" in done.json["error"]["message"]
