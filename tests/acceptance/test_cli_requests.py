"""``mbd requests``: how far a request has come, who took which step, and until when it must be done."""

import pytest


@pytest.fixture
def waiting(home, mbd, people):
    """A request that failed: its backbone's file is gone, and comes back afterwards."""
    (backbone,) = (home / "lines/demo/2/model").glob("backbone.safetensors")
    kept = backbone.read_bytes()
    backbone.unlink()
    done = mbd("revoke", "--subject", people[0], "--modality", "audio", "--home", home)
    assert done.code == 1
    backbone.write_bytes(kept)
    (found,) = mbd("requests", "list", "--home", home, "--json").json["requests"]
    assert found["state"] == "failed"
    return found["id"]


def test_what_waits_is_listed_and_what_is_done_with_all(mbd, home, waiting, people):
    shown = mbd("requests", "list", "--home", home)
    assert shown.code == 0, shown.err
    assert waiting in shown.out
    assert "audio of 1 person" in " ".join(shown.out.split())
    assert people[0] not in shown.out
    assert mbd("revoke", "--resume", "--home", home).code == 0
    assert "No request is waiting" in mbd("requests", "list", "--home", home).out
    every = mbd("requests", "list", "--all", "--home", home, "--json").json["requests"]
    assert {request["state"] for request in every} == {"completed"}
    assert waiting in {request["id"] for request in every}
    assert all(request["days_left"] is None for request in every)


def test_one_request_shows_every_step(mbd, home, waiting):
    shown = mbd("requests", "show", waiting, "--home", home, "--json").json
    actions = [step["action"] for step in shown["events"]]
    assert actions[:3] == ["file", "verify_identity", "approve"]
    assert actions[-1] == "fail"
    assert shown["events"][-1]["reason"].endswith("Error")
    text = mbd("requests", "show", waiting, "--home", home).out
    assert "last day of the answer" in text
    for action in actions:
        assert action in text


def test_a_request_is_extended_once(mbd, home, waiting):
    before = mbd("requests", "show", waiting, "--home", home, "--json").json
    done = mbd("requests", "extend", waiting, "--reason", "many at once", "--home", home, "--json")
    assert (done.code, done.json["extended"]) == (0, True)
    assert done.json["days_left"] > before["days_left"] + 50
    assert f"{done.json['due']}*" in mbd("requests", "list", "--home", home).out
    again = mbd("requests", "extend", waiting, "--reason", "still", "--home", home)
    assert again.code == 1
    assert "extended before" in again.err
    assert mbd("requests", "extend", waiting, "--home", home).code == 2


def test_work_that_began_is_not_taken_back(mbd, home, waiting):
    refused = mbd("requests", "cancel", waiting, "--home", home)
    assert refused.code == 1
    assert "'cancel' is not possible: the request is failed." in " ".join(refused.err.split())
    assert "retry" in refused.err


def test_an_unknown_request_says_where_to_look(mbd, home):
    refused = mbd("requests", "show", "rev-0", "--home", home)
    assert (refused.code, "mbd requests list" in refused.err) == (1, True)


def test_a_failed_request_is_tried_again_by_one_command(mbd, home, waiting):
    done = mbd("requests", "retry", waiting, "--home", home, "--json")
    assert done.code == 0, done.err
    assert done.json["state"] == "completed"
    assert [result["line"] for result in done.json["results"]] == ["demo"]
    again = mbd("requests", "retry", waiting, "--home", home)
    assert again.code == 1
    assert "'retry' is not possible: the request is completed." in " ".join(again.err.split())


def test_where_a_worker_lives_a_failed_request_is_left_to_it_and_its_progress_is_shown(mbd, home, waiting):
    from mbd.records import progress, workers
    from mbd.records.database import begin_locked
    from mbd.records.progress import Progress
    from mbd.settings import Settings
    from mbd.workflow.office import open_office

    with open_office(Settings(home=home)) as office, begin_locked(office.engine) as connection:
        now = office.clock()
        workers.beat(connection, "worker-1", at=now)
        progress.put(connection, [waiting], Progress("demo: deleting", 0.25, now, now, now))
    done = mbd("requests", "retry", waiting, "--home", home)
    assert (done.code, "A worker takes it up" in done.out) == (0, True)
    shown = mbd("requests", "show", waiting, "--home", home, "--json").json
    assert (shown["state"], shown["progress"]["step"], shown["progress"]["fraction"]) == (
        "approved",
        "demo: deleting",
        0.25,
    )
    assert "at work: demo: deleting, 25% of the whole" in " ".join(
        mbd("requests", "show", waiting, "--home", home).out.split()
    )
