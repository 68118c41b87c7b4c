"""A line with towers, from training to certificates: verified offline, replayed, brought back, killed and repaired."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from certs.statement import Certified, Exact
from mbd.cohort import folder
from mbd.cohort.cohort import EVERYONE
from mbd.cohort.modality import Modality
from mbd.deletion import towers
from mbd.errors import TrainingError
from mbd.lattice.model import tower_file
from mbd.lattice.towers import Sharded, shard_of
from mbd.records import fsck, requests
from mbd.records.database import begin_snapshot
from mbd.records.exposure import live_descendants_of_revoked, models_exposed_to
from mbd.records.suppression import Channel
from mbd.settings import Settings
from mbd.training.recipe import Recipe
from mbd.training.tower_recipe import PrivateRecipe, ShardedRecipe, TowerRecipe
from mbd.workflow.live import load_live_model
from mbd.workflow.planning import plan_revocation
from mbd.workflow.replay import replay
from mbd.workflow.revocation import resume, revoke
from mbd.workflow.system import System, open_system
from mbd.workflow.towers import missing, retrain_towers
from mbd.workflow.training import train_line

AUDIO, TEXT, VISION = Modality.AUDIO, Modality.TEXT, Modality.VISION
TOWERS = Recipe(
    epochs=1,
    options={"width": 8, "property_width": 8},
    sharded=(ShardedRecipe(TowerRecipe("audio", width=4, epochs=1), 2),),
    private=(
        PrivateRecipe(
            TowerRecipe("vision", width=4, epochs=1),
            rate=0.05,
            noise_multiplier=8.0,
            steps=5,
            subjects=8,
            learning_rate=0.1,
        ),
    ),
)


@pytest.fixture(scope="module")
def trained_towers(cohort, people, tmp_path_factory):
    """Shards are random; this line is one with at least two people in each, so that each can be trained again."""
    while True:
        home = tmp_path_factory.mktemp("towers") / "home"
        with open_system(Settings(home=home), create=True) as system:
            key = train_line(system, cohort, TOWERS, line="main", seed=0).model.shard_key
        if 2 <= sum(shard_of(person, 2, key) for person in people) <= len(people) - 2:
            return home


@pytest.fixture
def home(trained_towers, tmp_path):
    shutil.copytree(trained_towers, tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def system(home) -> Iterator[System]:
    with open_system(Settings(home=home), create=False) as opened:
        yield opened


def live_model(system):
    return load_live_model(system, system.live("main"))


def shard_name(system, person):
    """The tower that a person's voice trained."""
    model = live_model(system)
    return next(
        name for name, o in model.origins.items() if isinstance(o, Sharded) and o.concerns(person, model.shard_key)
    )


def certified_and_replayed(check, system, pairs):
    """Revoke; verify offline, with the artifacts; replay; the predicate."""
    (planned,) = plan_revocation(system, frozenset(pairs))
    (result,) = revoke(system, pairs)
    assert planned.plan.mechanism == result.outcome.mechanism
    assert planned.plan.guarantee == result.outcome.guarantee
    predicate = check(system, result).statement.predicate
    found = replay(system, result.bundle.read_bytes())
    assert found.matched, [one for one in found.checks if not one.matched]
    if isinstance(predicate.guarantee, Certified):
        assert predicate.guarantee.curve[0].epsilon == planned.plan.budget.this
        assert predicate.guarantee.total_curve[0].epsilon == planned.plan.budget.after
    return predicate


def actions(predicate):
    return {tower.name: tower.action for tower in predicate.procedure.towers}


def test_a_story_of_towers(check, system, people):
    first, second, third, fourth = people[:4]
    gone = shard_name(system, first)
    other = next(name for name in ("a.shard0", "a.shard1") if name != gone)
    predicate = certified_and_replayed(check, system, [(first, AUDIO)])
    assert (predicate.procedure.mechanism, type(predicate.guarantee)) == ("tower-drop", Exact)
    assert actions(predicate) == {gone: "dropped", other: "kept", "v.private": "kept"}
    assert missing(system, "main") == (gone,)

    predicate = certified_and_replayed(check, system, [(second, VISION)])
    assert actions(predicate) == {other: "kept", "v.private": "kept"}
    assert [(each.tower, each.subjects) for each in predicate.guarantee.departed] == [("v.private", 1)]

    version, names = retrain_towers(system, "main")
    assert (version.version, names, missing(system, "main")) == (4, (gone,), ())
    assert retrain_towers(system, "main") is None

    predicate = certified_and_replayed(check, system, [(third, VISION), (fourth, VISION)])
    assert predicate.guarantee.departed[0].subjects == 3
    predicate = certified_and_replayed(check, system, [(EVERYONE, AUDIO)])
    assert actions(predicate) == {"a.shard0": "dropped", "a.shard1": "dropped", "v.private": "kept"}
    assert predicate.procedure.mechanism == "lattice-drop"
    assert missing(system, "main") == (), "towers of a modality that nobody has are not missed"
    with begin_snapshot(system.engine) as connection:
        assert live_descendants_of_revoked(connection) == ()
        assert fsck.fsck(connection, verify_note=system.keyring.read_checkpoint).ok
    assert [path.name for path in (system.home / "lines" / "main").iterdir()] == ["6"]


def test_the_towers_that_a_withdrawal_drops_are_gone_from_the_disk(system, people):
    gone = tower_file(shard_name(system, people[0]))
    content = (system.model_folder("main", 1) / gone).read_bytes()
    revoke(system, [(people[0], AUDIO)])
    assert not [path for path in system.home.rglob("*") if path.name == gone]
    assert content not in [path.read_bytes() for path in system.home.rglob("*.safetensors")]


def test_lineage_names_the_models_that_saw_a_voice_and_no_later_one(system, people):
    channel = Channel(system.identities.subject_key(people[0]), "audio")
    with begin_snapshot(system.engine) as connection:
        assert [found.version for found in models_exposed_to(connection, channel)] == [1]
    revoke(system, [(people[0], AUDIO)])
    retrain_towers(system, "main")
    with begin_snapshot(system.engine) as connection:
        (found,) = models_exposed_to(connection, channel)
    assert (found.version, found.ended_by.version) == (1, 2)
    other = Channel(system.identities.subject_key(people[1]), "audio")
    with begin_snapshot(system.engine) as connection:
        assert [found.version for found in models_exposed_to(connection, other)] == [1, 2, 3]


def test_two_lines_trained_alike_share_no_digest_of_a_tower(system, cohort):
    other = train_line(system, cohort, TOWERS, line="other", seed=0)
    main = {path.name: path.read_bytes() for path in system.model_folder("main", 1).iterdir()}
    twin = {path.name: path.read_bytes() for path in other.saved.folder.iterdir()}
    public = {"backbone.safetensors", "constants.safetensors"}
    assert {name for name in main if main[name] == twin.get(name)} == public
    assert live_model(system).shard_key != other.model.shard_key


@pytest.mark.parametrize("damage", ["lost", "changed"])
def test_a_lost_tower_is_refused_with_the_remedy_and_repaired(check, system, people, damage):
    path = system.model_folder("main", 1) / tower_file("a.shard1")
    content = path.read_bytes()
    path.unlink() if damage == "lost" else path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(TrainingError, match=r"tower-a\.shard1") as refused:
        revoke(system, [(people[0], TEXT)])
    assert "mbd towers retrain" in refused.value.remedy
    with pytest.raises(TrainingError, match=r"tower-a\.shard1"):
        live_model(system)
    assert missing(system, "main") == ("a.shard1",)
    version, names = retrain_towers(system, "main")
    assert (version.version, names) == (2, ("a.shard1",))
    (result,) = resume(system)
    assert result.version == 3
    check(system, result)
    assert replay(system, result.bundle.read_bytes()).matched


def test_a_tower_never_trains_on_a_channel_whose_withdrawal_waits(system, people, monkeypatch):
    """A revocation was filed and failed: until it is finished, no network may be trained on what was withdrawn."""
    person = people[0]
    name = shard_name(system, person)
    (system.model_folder("main", 1) / tower_file(name)).unlink()
    with pytest.raises(TrainingError):
        revoke(system, [(person, AUDIO)])
    with begin_snapshot(system.engine) as connection:
        assert len(requests.unfinished(connection)) == 1
    trained_on = []
    train_tower = towers.train_tower

    def noting(recipe, rows, seed, **more):
        trained_on.append(rows.subjects)
        return train_tower(recipe, rows, seed, **more)

    monkeypatch.setattr(towers, "train_tower", noting)
    retrain_towers(system, "main")
    assert trained_on
    assert not any(person in subjects for subjects in trained_on)
    (result,) = resume(system)
    assert name in result.outcome.towers


KILLED = """
import os, signal, sys
from pathlib import Path
from mbd.settings import Settings
from mbd.workflow import towers
from mbd.workflow.system import open_system

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

where = sys.argv[2]
if where != "training":
    setattr(towers, where, die)
with open_system(Settings(home=Path(sys.argv[1])), create=False) as system:
    towers.retrain_towers(system, "main", on_progress=die if where == "training" else lambda done, name: None)
"""


@pytest.mark.parametrize("where", ["training", "save_model", "register_successor", "remove_unregistered"])
def test_a_killed_retraining_of_towers_leaves_the_live_version_whole(check, system, home, people, where):
    revoke(system, [(people[0], AUDIO)])
    names = missing(system, "main")
    command = [sys.executable, "-c", KILLED, str(home), where]
    killed = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = where == "remove_unregistered"  # it was registered already
    assert system.live("main").version == (3 if done else 2)
    assert missing(system, "main") == (() if done else names)
    live_model(system)
    assert retrain_towers(system, "main") is None if done else retrain_towers(system, "main")[1] == names
    (result,) = revoke(system, [(people[1], AUDIO)])
    check(system, result)
    assert replay(system, result.bundle.read_bytes()).matched
    assert [path.name for path in (home / "lines" / "main").iterdir()] == [str(result.version)]


def test_statistics_after_a_repair_are_those_of_the_rows(system, people):
    revoke(system, [(people[0], AUDIO)])
    retrain_towers(system, "main")
    model, rows = live_model(system), folder.read(system.cohort_folder("main", 3))
    assert model.statistics == model.featurizer.statistics(rows.where(split="train"))


def test_an_account_that_a_large_delta_covers_whole_is_certified_all_the_same(check, cohort, people, tmp_path):
    """One person among five steps of much noise, heads solved from nothing: at delta 0.01 epsilon would be 0."""
    settings = Settings(home=tmp_path / "large", delta=0.01, exact_rows=10_000)
    with open_system(settings, create=True) as system:
        train_line(system, cohort, TOWERS, line="main", seed=0)
        (result,) = revoke(system, [(people[0], VISION)])
        guarantee = check(system, result).statement.predicate.guarantee
    assert (guarantee.mu, guarantee.departed[0].subjects) == (0, 1)
    assert 0 < guarantee.curve[0].epsilon < 1e-6


@pytest.mark.postgres
def test_the_same_with_the_records_in_postgresql(empty_postgres_url, tmp_path, cohort, people, check):
    settings = Settings(home=tmp_path / "pg", database_url=SecretStr(empty_postgres_url))
    with open_system(settings, create=True) as system:
        train_line(system, cohort, TOWERS, line="main", seed=0)
        shards = {person: shard_name(system, person) for person in people}
        person = next(p for p in people if list(shards.values()).count(shards[p]) > 1)
        predicate = certified_and_replayed(check, system, [(person, AUDIO), (person, VISION)])
        assert predicate.procedure.mechanism == "tower-drop"
        assert retrain_towers(system, "main")[0].version == 3
        other = next(p for p in people if p != person)
        certified_and_replayed(check, system, [(other, AUDIO)])
