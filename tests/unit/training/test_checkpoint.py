"""A SIGKILL at any moment costs time and nothing else, and a foreign file executes nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mbd.backbones.tensorfile import read_tensors, write_tensors
from mbd.cohort.synthetic import Subjects, synthetic_cohort
from mbd.errors import TrainingError
from mbd.training.checkpoint import KIND, NAME, CheckpointFile, Progress
from mbd.training.loop import train
from mbd.training.recipe import Recipe

PROGRESS = Progress(
    weights={"a:b": torch.ones(2)},
    best={"a:b": torch.zeros(2)},
    optimiser={"steps": torch.tensor(3)},
    best_epoch=1,
    curve=[{"score": 0.1}, {"score": 1 / 3}],
)

PEOPLE = Subjects(public_train=5, public_valid=2, revocable_train=3, revocable_test=2)
RECIPE = Recipe(options={"width": 8, "property_width": 6}, epochs=16, batch_size=16, patience=16)
RUN = f"""
import sys
from pathlib import Path
from mbd.cohort.synthetic import Subjects, synthetic_cohort
from mbd.training.loop import train
from mbd.training.recipe import Recipe

cohort = synthetic_cohort(subjects={PEOPLE}, clips=8)
trained = train({RECIPE}, cohort, seed=0, checkpoint_dir=Path(sys.argv[1]),
                on_progress=lambda done, *_: print("epoch", done, flush=True))
print("digest", trained.transcript.digest, flush=True)
"""


def start(folder):
    return subprocess.Popen([sys.executable, "-c", RUN, str(folder)], stdout=subprocess.PIPE, text=True)


def same(one, other):
    states = [(getattr(one, part), getattr(other, part)) for part in ("weights", "best", "optimiser")]
    return (one.best_epoch, one.curve) == (other.best_epoch, other.curve) and all(
        set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a) for a, b in states
    )


def finish(folder):
    """Run to the end: the epochs that were announced, and the last line."""
    process = start(folder)
    lines = process.communicate(timeout=200)[0].splitlines()
    assert process.returncode == 0
    return [int(line.split()[1]) for line in lines if line.startswith("epoch")], lines[-1]


def test_a_run_killed_again_and_again_ends_with_the_same_digest(tmp_path):
    for epoch, delay in ((3, 0.0), (9, 0.013)):
        process = start(tmp_path)
        for line in process.stdout:
            if line == f"epoch {epoch}\n":
                break
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.stdout.close()
        assert process.wait(timeout=60) == -signal.SIGKILL
    epochs, last_line = finish(tmp_path)
    assert epochs[0] > 9
    undisturbed = train(RECIPE, synthetic_cohort(subjects=PEOPLE, clips=8), seed=0)
    assert last_line == f"digest {undisturbed.transcript.digest}"


def test_what_is_written_is_read(tmp_path):
    file = CheckpointFile(tmp_path / "run", {"seed": "1"})
    assert file.read() is None
    file.write(PROGRESS)
    assert same(file.read(), PROGRESS)
    file.remove()
    assert file.read() is None


def test_a_half_written_checkpoint_does_not_replace_a_whole_one(tmp_path):
    file = CheckpointFile(tmp_path, {"seed": "1"})
    file.write(PROGRESS)
    file.path.with_name(f".{file.path.name}.partial-1").write_bytes(b"half")
    assert same(file.read(), PROGRESS)


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_checkpoint_is_a_clear_error(tmp_path, damage):
    file = CheckpointFile(tmp_path, {"seed": "1"})
    file.write(PROGRESS)
    file.path.write_bytes(file.path.read_bytes()[:-100] if damage is None else damage)
    with pytest.raises(TrainingError, match=r"cannot be read as tensors .* delete it and train again"):
        file.read()


class Hostile:
    """Unpickling this would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_in_its_place_is_refused_and_executes_nothing(tmp_path):
    file, trace = CheckpointFile(tmp_path, {"seed": "1"}), tmp_path / "executed"
    torch.save({"identity": Hostile(trace)}, file.path)
    with pytest.raises(TrainingError, match="cannot be read as tensors"):
        file.read()
    assert not trace.exists()


def test_another_version_of_torch_does_not_continue_a_run(cohort, recipe, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, cohort, seed=0, checkpoint_dir=tmp_path, on_progress=stop)
    monkeypatch.setattr(torch, "__version__", "9.9.9")
    with pytest.raises(TrainingError, match="belongs to another run: torch differ"):
        train(recipe, cohort, seed=0, checkpoint_dir=tmp_path)


@pytest.mark.parametrize(("fact", "other"), [("ranks", "2"), ("device", "cuda")])
def test_a_run_of_another_number_of_processes_or_on_another_device_is_not_continued(
    cohort, recipe, tmp_path, fact, other
):
    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, cohort, seed=0, checkpoint_dir=tmp_path, on_progress=stop)
    tensors, description = read_tensors(tmp_path / NAME, kind=KIND)
    description["identity"][fact] = other
    write_tensors(tmp_path / NAME, tensors, kind=KIND, description=description)
    with pytest.raises(TrainingError, match=f"belongs to another run: {fact} differ"):
        train(recipe, cohort, seed=0, checkpoint_dir=tmp_path)
