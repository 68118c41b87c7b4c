"""``mbd deletion plan``: what would be done, before anything is."""

import json
from base64 import b64decode
from pathlib import Path

import pytest


@pytest.fixture
def plan(home, mbd):
    def run(*options):
        done = mbd("deletion", "plan", *options, "--home", home, "--json")
        assert done.code == 0, done.out
        (line,) = done.json["lines"]
        return line

    return run


def everything(home):
    return {path.relative_to(home): path.read_bytes() for path in home.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "options",
    [("--subject", "{person}", "--modality", "audio"), ("--subject", "{person}"), ("--everyone", "--modality", "text")],
    ids=["one channel", "everything", "a modality of all"],
)
def test_the_plan_is_what_revoke_then_does(plan, home, mbd, people, options):
    options = [option.format(person=people[0]) for option in options]
    planned = plan(*options)
    done = mbd("revoke", *options, "--home", home, "--json")
    (result,) = done.json["results"]
    assert result["version"] == planned["version"] + 1
    for key in ("mechanism", "guarantee", "rows_touched"):
        assert result[key] == planned[key], key
    bundle = json.loads(Path(result["bundle"]).read_bytes())
    predicate = json.loads(b64decode(bundle["dsseEnvelope"]["payload"]))["predicate"]
    procedure, guarantee = predicate["procedure"], predicate["guarantee"]
    heads = [(step["part"], step["action"]) for step in planned["steps"] if step["part"].startswith("head ")]
    by_action = {
        action: {part.removeprefix("head ") for part, did in heads if did == action}
        for action in ("released again", "kept", "dropped")
    }
    assert {head["head"] for head in procedure["updated"]} == by_action["released again"]
    assert set(procedure["unchanged"]) == by_action["kept"]
    assert set(procedure["dropped"]) == by_action["dropped"]
    if guarantee["class"] == "certified":
        assert guarantee["curve"][0]["epsilon"] == planned["budget"]["this"]
        assert guarantee["totalCurve"][0]["epsilon"] == planned["budget"]["after"]


def test_every_part_says_where_it_comes_from_and_what_proves_it(plan, people):
    steps = plan("--subject", people[0], "--modality", "audio")["steps"]
    assert [step["part"] for step in steps][:3] == ["backbone", "constants", "statistics"]
    assert {step["provenance"] for step in steps[:2]} == {"public"}
    assert {step["provenance"] for step in steps[2:]} == {"statistics"}
    assert {step["part"] for step in steps if step["guarantee"] == "certified"} == {
        "head a",
        "head ta",
        "head av",
        "head tav",
    }
    assert all(step["reason"] for step in steps)


def test_planning_leaves_every_file_as_it_was(home, mbd, people):
    before = everything(home)
    done = mbd("deletion", "plan", "--subject", people[0], "--home", home)
    assert done.code == 0, done.err
    assert "Nothing was changed." in done.out
    after = everything(home)
    changed = {path for path in before | after if before.get(path) != after.get(path)}
    assert not {path for path in changed if not path.name.startswith("mbd.sqlite3")}
    fsck = mbd("ledger", "fsck", "--home", home, "--json")
    assert fsck.code == 0, fsck.out


def test_what_revoke_refuses_the_plan_refuses(home, mbd):
    for options in (("--subject", "nobody"), ("--subject", "synthetic-001", "--modality", "audio")):
        planned, revoked = (
            mbd(*words, *options, "--home", home, "--json") for words in (("deletion", "plan"), ("revoke",))
        )
        assert planned.code == revoked.code == 1
        assert planned.json["error"] == revoked.json["error"]


def test_a_plan_of_nobody_is_a_usage_error(home, mbd):
    assert mbd("deletion", "plan", "--home", home).code == 2


def test_the_plan_says_what_would_be_certified_absent(home, mbd):
    before = everything(home)
    options = ("deletion", "plan", "--subject", "nobody", "--certify-absence", "--home", home)
    planned = mbd(*options, "--json")
    assert (planned.json["lines"], planned.json["absent"]) == ([], [{"line": "demo", "version": 2}])
    said = " ".join(mbd(*options).out.split())
    assert "Model line 'demo': nothing to delete; a certificate would say that version 2 holds none of it." in said
    after = everything(home)
    assert {path for path in before | after if before.get(path) != after.get(path)} <= {
        path for path in after if path.name.startswith("mbd.sqlite3")
    }
    (result,) = mbd("revoke", *options[2:], "--json").json["results"]
    assert (result["line"], result["version"], result["kind"]) == ("demo", 2, "absence")
