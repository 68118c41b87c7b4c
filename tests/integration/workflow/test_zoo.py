"""Every network of the zoo can be a backbone of the lattice: a voice is withdrawn, and the certificate verifies.

And jointly, shaped by everybody: then the deletion trains it again on the rows that remain, bit for bit.
"""

import pytest

from certs.statement import Certified
from mbd.backbones.zoo import ZOO
from mbd.cohort import folder
from mbd.cohort.cohort import Partition
from mbd.cohort.modality import Modality
from mbd.lattice.fit import training_rows
from mbd.lattice.model import load_model
from mbd.settings import Settings
from mbd.training.loop import train
from mbd.training.recipe import Recipe
from mbd.workflow.revocation import revoke
from mbd.workflow.system import open_system
from mbd.workflow.training import train_line

AUDIO = Modality.AUDIO

every_backbone = pytest.mark.parametrize("name", ZOO)


@pytest.fixture
def system(tmp_path):
    with open_system(Settings(home=tmp_path / "home"), create=True) as opened:
        yield opened


@every_backbone
def test_a_voice_is_withdrawn_from_a_line_on_any_public_backbone(system, cohort, people, check, name):
    train_line(system, cohort, Recipe(backbone=name, epochs=1), line="main", seed=0)
    before = load_model(system.model_folder("main", 1))
    (result,) = revoke(system, [(people[0], AUDIO)])
    predicate = check(system, result).statement.predicate
    assert isinstance(predicate.guarantee, Certified)
    after = load_model(system.model_folder("main", 2))
    remaining = cohort.without([(people[0], AUDIO)])
    assert after.statistics == after.featurizer.statistics(training_rows(remaining)) != before.statistics
    assert after.featurizer.backbone.name == name


@every_backbone
def test_a_backbone_that_everybody_shaped_is_trained_again_without_the_voice(system, cohort, people, check, name):
    recipe = Recipe(backbone=name, epochs=1, trains_on="everyone")
    train_line(system, cohort, recipe, line="main", seed=0)
    (result,) = revoke(system, [(people[0], AUDIO)])
    assert check(system, result).statement.predicate.lineage.version == 2
    remaining = folder.read(system.cohort_folder("main", 2))
    anew = train(recipe, remaining, seed=0, partitions=tuple(Partition)).backbone
    released = load_model(system.model_folder("main", 2)).featurizer.backbone
    assert all((anew.state_dict()[n] == tensor).all() for n, tensor in released.state_dict().items())
