"""Every command of the README, run in its order by the program itself."""

import csv
import re
import shlex
import signal
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from mbd.cohort.modality import Modality
from mbd.cohort.synthetic import Subjects, synthetic_cohort
from mbd.training.recipe_file import read_recipe

README = Path(__file__).resolve().parents[2] / "README.md"
FENCE = re.compile(r"^```console\n(.*?)^```", re.DOTALL | re.MULTILINE)
SERVICES = {"serve", "worker", "predictor"}
"""They run until they are told to stop."""

COMMANDS = [line[2:] for block in FENCE.findall(README.read_text("utf-8")) for line in block.splitlines()]


@pytest.fixture
def own_data(tmp_path):
    """What the section on own data supposes: an index and one file of features per modality."""
    cohort = synthetic_cohort(7, subjects=Subjects(6, 3, 6, 3), clips=6, missing=0.2)
    with (tmp_path / "index.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["clip", "subject", "label", "partition", "split"])
        writer.writerows((row.clip, f"own-{row.subject}", row.label, row.partition, row.split) for row in cohort.rows)
    features = {
        m: {row.clip: f for row, f in zip(cohort.rows, cohort.features[m], strict=True) if f is not None}
        for m in Modality
    }
    width = cohort.channels[Modality.TEXT].dim
    absent = np.full(width, np.nan, np.float32)
    np.save(tmp_path / "text.npy", np.stack([features[Modality.TEXT].get(row.clip, absent) for row in cohort.rows]))
    np.savez(tmp_path / "audio.npz", **features[Modality.AUDIO])
    save_file(features[Modality.VISION], tmp_path / "vision.safetensors")


@pytest.fixture
def requests(tmp_path):
    """What the section on filing supposes: two people of the demo who ask for different things."""
    (tmp_path / "requests.csv").write_text("subject,modality\nsynthetic-038,audio\nsynthetic-039,\n")


@pytest.mark.timeout(900)  # every command of the README, one after the other
@pytest.mark.usefixtures("own_data", "requests")
def test_every_command_of_the_readme_does_what_it_says(mbd, service, tmp_path):
    assert len(COMMANDS) > 15
    ours = {"state", "mine", "my-cohort", "index.csv", "text.npy", "audio.npz", "vision.safetensors", "requests.csv"}
    ours |= {"lineage.cdx.json"}
    for line in COMMANDS:
        program, *words = shlex.split(line, comments=True)
        assert program == "mbd", line
        words = [str(tmp_path / word) if word.split("/")[0] in ours else word for word in words]
        if any("CERTIFICATE" in word for word in words):
            newest = max((tmp_path / "state" / "certificates").iterdir(), key=lambda folder: folder.stat().st_mtime_ns)
            words = [word.replace("CERTIFICATE", newest.name) for word in words]
        if words[0] in SERVICES:
            listen = ("--listen", "127.0.0.1:0") if words[0] == "serve" else ()
            done = service(*words, *listen).end(signal.SIGTERM)
        else:
            done = mbd(*words)
        assert done.code == 0, f"{line}\n{done.out}\n{done.err}"
        assert done.out.strip()


def test_the_recipe_of_the_readme_is_one(tmp_path):
    (block,) = re.findall(r"^```toml\n(.*?)^```", README.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    (tmp_path / "recipe.toml").write_text(block)
    recipe = read_recipe(tmp_path / "recipe.toml")
    assert {str(tower.modality) for tower in recipe.towers} == {"audio", "vision"}


def test_no_interval_of_the_accuracy_tables_lies_below_zero():
    """The README says so of all of them."""
    rows = re.findall(r"\[([+-][0-9.]+), ([+-][0-9.]+)\] \|", README.read_text("utf-8"))
    assert len(rows) == 12
    assert all(float(high) >= 0 for _, high in rows)
