"""Lines with towers, and lines that everybody shaped, on the command line: train, plan, revoke, bring back, verify."""

import json
import shutil
import time
from base64 import b64decode
from pathlib import Path

import pytest

from mbd.cohort import folder
from mbd.cohort.synthetic import Subjects, synthetic_cohort

BASE = "epochs = 2\noptions = { width = 8, property_width = 8 }\n"
TOWERS = """
[[sharded]]
shards = 2
tower = { modality = "audio", width = 4, epochs = 1 }

[[private]]
start = { modality = "vision", width = 4, epochs = 1 }
rate = 0.05
noise_multiplier = 8
steps = 5
subjects = 8
learning_rate = 0.1
"""
ENTANGLED = 'trains_on = "everyone"\n'
PEOPLE = [f"synthetic-{number:03d}" for number in range(8, 20)]  # those that are revocable and train


@pytest.fixture(scope="module")
def trained(mbd, tmp_path_factory):
    """``trained("towers")``: the state folder of a line, trained once from a recipe file; nobody may change it."""
    base, homes = tmp_path_factory.mktemp("recipes"), {}
    folder.write(synthetic_cohort(subjects=Subjects(5, 2, 12, 2), clips=4), base / "cohort", key=b"k" * 32)
    texts = {"towers": BASE + TOWERS, "entangled": ENTANGLED + BASE}

    def home(name):
        if name not in homes:
            (base / f"{name}.toml").write_text(texts[name])
            where = base / f"home-{name}"
            done = mbd("train", base / "cohort", "--recipe", base / f"{name}.toml", "--home", where, "--json")
            assert done.code == 0, done.out
            assert done.json["version"] == 1
            homes[name] = where
        return homes[name]

    return home


@pytest.fixture
def state(trained, tmp_path):
    """``state("towers")``: a copy of the test's own."""
    return lambda name: shutil.copytree(trained(name), tmp_path / "home")


def model_json(home, version):
    return json.loads((home / "lines" / "main" / str(version) / "model" / "model.json").read_bytes())


def revoked(mbd, home, *options, **settings):
    """The one result of ``mbd revoke --json``, its predicate, and what ``certificate show`` says of it."""
    done = mbd("revoke", *options, "--home", home, "--json", **settings)
    assert done.code == 0, done.out
    (result,) = done.json["results"]
    root = done.json["trusted_root"]
    verified = mbd("certificate", "verify", result["bundle"], "--trusted-root", root, "--json")
    assert verified.json["valid"], verified.out
    replayed = mbd("certificate", "replay", result["bundle"], "--home", home)
    assert replayed.code == 0, replayed.out
    shown = mbd("certificate", "show", result["bundle"])
    assert shown.code == 0, shown.err
    payload = json.loads(Path(result["bundle"]).read_bytes())["dsseEnvelope"]["payload"]
    return result, json.loads(b64decode(payload))["predicate"], " ".join(shown.out.split())


def planned(mbd, home, *options, **settings):
    done = mbd("deletion", "plan", *options, "--home", home, "--json", **settings)
    assert done.code == 0, done.out
    (line,) = done.json["lines"]
    return line


def test_a_recipe_file_gives_a_line_its_towers(trained):
    about = model_json(trained("towers"), 1)
    assert set(about["towers"]) >= {"v.private"}
    assert {name for name in about["towers"] if name.startswith("a.shard")}
    assert {value["provenance"] for value in about["towers"].values()} == {"sharded", "private"}


def test_a_voice_takes_its_tower_along_and_retrain_brings_it_back(mbd, state):
    home, options = state("towers"), ("--subject", PEOPLE[0], "--modality", "audio")
    plan = planned(mbd, home, *options)
    towers = {step["part"]: step["action"] for step in plan["steps"] if step["part"].startswith("tower ")}
    (gone,) = [part.removeprefix("tower ") for part, action in towers.items() if action == "dropped"]
    assert (plan["mechanism"], plan["guarantee"]) == ("tower-drop", "exact")

    result, predicate, shown = revoked(mbd, home, *options)
    assert (result["mechanism"], result["guarantee"]) == ("tower-drop", "exact")
    assert {t["name"]: t["action"] for t in predicate["procedure"]["towers"]}[gone] == "dropped"
    assert "exact" in shown
    assert "by tower-drop" in shown

    missing = mbd("towers", "missing", "--home", home, "--json")
    assert (missing.code, missing.json["missing"]) == (0, [gone])
    assert gone in mbd("towers", "missing", "--home", home).out
    again = mbd("towers", "retrain", "--home", home, "--json")
    assert again.code == 0, again.out
    assert (again.json["line"], again.json["version"], again.json["towers"]) == ("main", 3, [gone])
    assert "lacks no tower" in mbd("towers", "missing", "--home", home).out
    nothing = mbd("towers", "retrain", "--home", home, "--json")
    assert (nothing.code, nothing.json["version"], nothing.json["towers"]) == (0, None, [])
    assert mbd("ledger", "fsck", "--home", home).code == 0
    assert mbd("evaluate", "--home", home, "--json").code == 0


def test_people_read_what_went_and_how_it_comes_back(mbd, state):
    home = state("towers")
    said = " ".join(mbd("revoke", "--subject", PEOPLE[1], "--modality", "audio", "--home", home).out.split())
    assert "towers dropped: a.shard" in said
    assert "`mbd towers retrain` brings them back" in said
    said = " ".join(mbd("towers", "retrain", "--home", home).out.split())
    assert "is now version 3, with a.shard" in said


def test_a_face_leaves_the_private_tower_with_an_account(mbd, state):
    home, options = state("towers"), ("--subject", PEOPLE[0], "--modality", "vision")
    plan = planned(mbd, home, *options)
    _, predicate, shown = revoked(mbd, home, *options)
    guarantee = predicate["guarantee"]
    assert (plan["guarantee"], guarantee["class"]) == ("certified", "certified")
    assert guarantee["curve"][0]["epsilon"] == plan["budget"]["this"]
    assert guarantee["totalCurve"][0]["epsilon"] == plan["budget"]["after"]
    assert [(each["tower"], each["subjects"]) for each in guarantee["departed"]] == [("v.private", 1)]
    assert "tower v.private, which 1 person has left" in shown


def test_a_lost_tower_is_named_with_the_command_that_repairs_it(mbd, state, tmp_path):
    home = state("towers")
    (home / "lines" / "main" / "1" / "model" / "tower-v.private.safetensors").unlink()
    cohort = home / "lines" / "main" / "1" / "cohort"
    revoke = ("revoke", "--subject", PEOPLE[0], "--modality", "text", "--home", home)
    for command in (("predict", cohort, "--home", home), ("evaluate", "--home", home), revoke):
        done = mbd(*command, "--json")
        assert done.code == 1
        assert "tower-v.private.safetensors" in done.json["error"]["message"]
        assert "mbd towers retrain" in done.json["error"]["remedy"]
    assert mbd("towers", "missing", "--home", home, "--json").json["missing"] == ["v.private"]
    assert mbd("towers", "retrain", "--home", home, "--json").json["towers"] == ["v.private"]
    assert mbd("revoke", "--resume", "--home", home).code == 0
    assert mbd("predict", home / "lines" / "main" / "3" / "cohort", "--home", home, "--json").code == 0


@pytest.mark.parametrize("command", ["missing", "retrain"])
def test_a_line_that_does_not_exist_has_no_towers(mbd, trained, command):
    done = mbd("towers", command, "--line", "nobody", "--home", trained("towers"), "--json")
    assert done.code == 1
    assert "'nobody'" in done.json["error"]["message"]
    assert "main" in done.json["error"]["remedy"]


def test_a_line_without_towers_lacks_none(mbd, trained):
    assert mbd("towers", "missing", "--home", trained("entangled"), "--json").json["missing"] == []


@pytest.mark.parametrize(("way", "guarantee"), [("retrain", "exact"), ("surgical", "empirical")])
def test_an_entangled_line_is_dealt_with_as_the_setting_says(mbd, state, way, guarantee):
    home, options = state("entangled"), ("--subject", PEOPLE[0], "--modality", "audio")
    plan = planned(mbd, home, *options, MBD_ENTANGLED=way)
    result, predicate, shown = revoked(mbd, home, *options, MBD_ENTANGLED=way)
    assert (plan["mechanism"], plan["guarantee"]) == (result["mechanism"], result["guarantee"]) == (way, guarantee)
    assert predicate["lineage"]["backboneProvenance"] == "entangled"
    if way == "surgical":
        assert "nothing is proved, and there is no epsilon" in shown
        assert not {"mu", "curve", "epsilon"} & set(predicate["guarantee"])


def test_noisy_fine_tuning_is_certified_or_refused_with_nothing_lost(mbd, state):
    """So small a network may not bear the noise, which is random: the plan cannot know."""
    home, options = state("entangled"), ("--subject", PEOPLE[0], "--modality", "audio")
    plan = planned(mbd, home, *options, MBD_ENTANGLED="noisy-fine-tuning")
    assert (plan["mechanism"], plan["guarantee"]) == ("noisy-fine-tuning", "certified")
    done = mbd("revoke", *options, "--home", home, "--json", MBD_ENTANGLED="noisy-fine-tuning")
    if done.code == 0:
        assert done.json["results"][0]["guarantee"] == "certified"
    else:
        assert "Nothing was released" in done.json["error"]["message"]
        assert "--resume" in done.json["error"]["remedy"]
        assert mbd("revoke", "--resume", "--home", home, "--json").json["results"][0]["mechanism"] == "retrain"


def test_a_misspelt_setting_is_refused_before_anything_happens(mbd, state):
    home = state("entangled")
    for way in ("retraining", "Surgical", "noisy_fine_tuning"):
        done = mbd("revoke", "--subject", PEOPLE[0], "--home", home, "--json", MBD_ENTANGLED=way)
        assert done.code == 1
        assert "entangled" in json.dumps(done.json["error"]).lower()
        assert "noisy-fine-tuning" in json.dumps(done.json["error"])
    assert mbd("revoke", "--resume", "--home", home, "--json").json["results"] == []


def test_a_recipe_with_an_impossible_table_is_refused(mbd, tmp_path, cohort_folder):
    (tmp_path / "recipe.toml").write_text(TOWERS.replace("rate = 0.05", "rate = 5.0"))
    train = ("train", cohort_folder, "--recipe", tmp_path / "recipe.toml", "--home", tmp_path / "home", "--json")
    done = mbd(*train)
    assert done.code == 1
    assert "sampling rate" in done.json["error"]["message"]
    (tmp_path / "recipe.toml").write_text(ENTANGLED + TOWERS)
    assert "the backbone would not" in mbd(*train).json["error"]["message"]


def test_dropped_towers_come_back_in_the_background_while_the_certificate_is_there_already(mbd, state):
    home = state("towers")
    revocation = ("--subject", PEOPLE[0], "--modality", "audio")
    done = mbd("revoke", *revocation, "--retrain-towers", "--home", home, "--json")
    assert done.code == 0, done.out
    (result,) = done.json["results"]
    assert (result["version"], result["mechanism"]) == (2, "tower-drop")
    assert Path(result["bundle"]).exists()
    started = done.json["retraining"]
    assert started["lines"] == ["main"]
    deadline = time.monotonic() + 200
    while is_running(started["process"]) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not is_running(started["process"]), "it did not end"
    said = json.loads(Path(started["log"]).read_text())
    assert said["version"] == 3
    assert said["towers"]
    assert mbd("towers", "missing", "--home", home, "--json").json["missing"] == []
    nothing = mbd("revoke", "--subject", PEOPLE[1], "--modality", "text", "--retrain-towers", "--home", home, "--json")
    assert "retraining" not in nothing.json


def is_running(process):
    """Whether a process is there and has not ended; a dead child that nobody has waited for yet has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False
    return "State:\tZ" not in status
