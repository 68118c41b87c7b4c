"""CONTRIBUTING.md shows a whole backbone; it is added as it says there, and nothing else is changed."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mbd.backbones import zoo
from mbd.benchmark import unit
from mbd.benchmark.figures import draw
from mbd.benchmark.leaderboard import Leaderboard, by_protocol
from mbd.benchmark.plan import Plan, Unit
from mbd.cohort.protocols import Protocol
from mbd.lattice.model import load_model
from mbd.settings import Settings
from mbd.training.recipe import Recipe
from mbd.workflow.revocation import revoke
from mbd.workflow.system import open_system
from mbd.workflow.training import train_line

ROOT = Path(__file__).resolve().parents[3]
CACHE = ROOT / ".mypy_cache"


@pytest.fixture
def page(tmp_path):
    """The page's code, in a file."""
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("## How to add a backbone")[2].partition("\n## ")[0]
    (source,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (tmp_path / "sum.py").write_text(source)
    return tmp_path / "sum.py"


@pytest.fixture
def added(page, monkeypatch):
    """The class, in the zoo's only list."""
    spec = importlib.util.spec_from_file_location("mbd.backbones.sum", page)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "mbd.backbones.sum", module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(zoo.ZOO, "sum", module.Sum)
    return module.Sum


def test_the_backbone_of_the_page_is_trained_and_deleted_from(added, cohort, people, *, check, audio, tmp_path):
    with open_system(Settings(home=tmp_path / "home"), create=True) as system:
        train_line(system, cohort, Recipe(backbone="sum", epochs=2), line="main", seed=0)
        (result,) = revoke(system, [(people[0], audio)])
        assert check(system, result).statement.predicate.lineage.version == 2
        backbone = load_model(system.model_folder("main", 2)).featurizer.backbone
    assert type(backbone) is added


def test_the_benchmark_compares_it_without_a_change(added, cohort, tmp_path):
    plan = Plan(Recipe(epochs=1), ("sum", "control"), 1, (Protocol.FIXED,))
    results = [unit.run_unit(plan, Unit(name, 0), cohort, on_progress=lambda _: None) for name in plan.backbones]
    board = Leaderboard(results, cohort.modalities)
    assert {row[0] for row in by_protocol(board)[1]} == {"sum", "control"}
    assert all(path.stat().st_size for path in draw(board, tmp_path))


@pytest.mark.parametrize(
    "words",
    [
        ("ruff", "check", "--stdin-filename", "mbd/backbones/sum.py", "-"),
        ("ruff", "format", "--check", "--stdin-filename", "mbd/backbones/sum.py", "-"),
        ("mypy", "--strict", f"--cache-dir={CACHE if CACHE.exists() else os.devnull}"),
    ],
    ids=["lint", "format", "types"],
)
def test_it_passes_what_make_check_asks_of_every_file(page, words):
    tool = Path(sys.executable).with_name(words[0])
    last = [] if "-" in words else [str(page)]
    done = subprocess.run(
        [tool, *words[1:], *last], check=False, cwd=ROOT, input=page.read_text(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
