"""CONTRIBUTING.md shows a whole backbone; it is added as it says there, and nothing else is changed."""

import re
from pathlib import Path

import pytest

from mbd.backbones import zoo
from mbd.lattice.model import load_model
from mbd.settings import Settings
from mbd.training.recipe import Recipe
from mbd.workflow.revocation import revoke
from mbd.workflow.system import open_system
from mbd.workflow.training import train_line

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def added(monkeypatch):
    """The class, in the zoo's list."""
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("## How to add a backbone")[2].partition("\n## ")[0]
    (source,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    module = {"__name__": "mbd.backbones.sum"}
    exec(compile(source, "CONTRIBUTING.md", "exec"), module)  # noqa: S102 - our own page
    monkeypatch.setattr(zoo, "ZOO", {**zoo.ZOO, "sum": module["Sum"]})
    return module["Sum"]


def test_the_backbone_of_the_page_is_trained_and_deleted_from(added, cohort, people, *, check, audio, tmp_path):
    with open_system(Settings(home=tmp_path / "home"), create=True) as system:
        train_line(system, cohort, Recipe(backbone="sum", epochs=2), line="main", seed=0)
        (result,) = revoke(system, [(people[0], audio)])
        assert check(system, result).statement.predicate.lineage.version == 2
        backbone = load_model(system.model_folder("main", 2)).featurizer.backbone
    assert type(backbone) is added
