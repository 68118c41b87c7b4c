"""Predictions over the API: a predictor process answers as ``mbd predict`` does, and refuses what was withdrawn."""

import json
import re
import shutil
import signal
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from api.problems import Kind
from mbd.cohort import folder
from mbd.cohort.modality import Modality


@pytest.fixture(scope="module")
def home(demo, tmp_path_factory):
    """A copy of the demo's state folder, of this module's own."""
    return shutil.copytree(demo.home, tmp_path_factory.mktemp("predictions") / "home")


@pytest.fixture(scope="module")
def predictors(service, home):
    """``predictors()`` is a predictor that runs, started if need be; ``predictors(number)`` ends it by a signal."""
    running = []

    def running_or_ended(number=None):
        if number is not None:
            return running.pop().end(number)
        if not running:
            running.append(service("predictor", "--home", home))
        return running[0]

    yield running_or_ended
    if running:
        running_or_ended(signal.SIGKILL)


@pytest.fixture
def predictor(predictors):
    return predictors()


@pytest.fixture
def engineer(api):
    return api.caller("engineer")


@pytest.fixture(scope="module")
def cohort(home):
    """Rows of the demo as they were before anybody withdrew anything in this module."""
    return folder.read(home / "lines" / "demo" / "2" / "cohort")


def body(cohort, rows):
    clips = [
        {
            "subject": cohort.rows[i].subject,
            "channels": {m.value: cohort.feature(i, m).tolist() for m in cohort.present(i)},
        }
        for i in rows
    ]
    return {"line": "demo", "clips": clips}


def one(*, line="demo", subject="somebody", **channels):
    return {"line": line, "clips": [{"subject": subject, "channels": channels}]}


def predict(caller, asked):
    answer = caller.post("/v1/predictions", asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.usefixtures("predictor")
def test_it_says_what_the_command_line_says(engineer, cohort, mbd, home):
    rows = range(60)
    said = predict(engineer, body(cohort, rows))
    shown = mbd("predict", home / "lines" / "demo" / "2" / "cohort", "--line", "demo", "--home", home, "--json").json
    assert (said["line"], said["version"]) == ("demo", shown["version"])
    assert stat.S_IMODE((home / "predictor.sock").stat().st_mode) == 0o600
    for clip, expected in zip(said["clips"], shown["predictions"], strict=False):
        assert clip["prediction"] == pytest.approx(expected["output"], rel=1e-12)
        for how, name in (("present", "used"), ("suppressed", "refused"), ("reconstructed", "reconstructed")):
            assert clip[name] == [channel for channel, found in expected["channels"].items() if found == how]


@pytest.mark.usefixtures("predictor")
def test_after_a_revocation_the_next_version_answers_and_the_voice_is_refused(engineer, cohort, mbd, home, people):
    row = next(i for i, row in enumerate(cohort.rows) if row.subject == people[0] and len(cohort.present(i)) == 3)
    asked = body(cohort, [row])
    before = predict(engineer, asked)
    assert before["clips"][0]["used"] == ["text", "audio", "vision"]
    revoked = mbd("revoke", "--subject", people[0], "--modality", "audio", "--home", home, "--json")
    assert revoked.code == 0, revoked.out
    after = predict(engineer, asked)
    assert (after["version"], after["guarantee_class"]) == (before["version"] + 1, "certified")
    assert (after["clips"][0]["used"], after["clips"][0]["refused"]) == (["text", "vision"], ["audio"])
    assert after["clips"][0]["prediction"] != before["clips"][0]["prediction"]
    voice = one(subject=people[0], audio=asked["clips"][0]["channels"]["audio"])
    silent = predict(engineer, voice)["clips"][0]
    assert (silent["prediction"], silent["why_not"]) == (None, "every channel that was sent is withdrawn")


@pytest.mark.usefixtures("predictor")
def test_a_predictor_that_was_killed_is_said_to_be_away(predictors, engineer, cohort, home, problem):
    predict(engineer, body(cohort, [0]))
    ended = predictors(signal.SIGKILL)
    assert (ended.code, ended.out) == (-signal.SIGKILL, f"Predictor: {home / 'predictor.sock'}\n")
    assert cohort.rows[0].subject not in ended.err
    away = engineer.post("/v1/predictions", body(cohort, [0]))
    assert problem(away) is Kind.NOT_READY
    assert away.json()["remedy"] == "start `mbd predictor`"


@pytest.mark.usefixtures("predictor")
def test_a_second_predictor_does_not_start_and_the_first_ends_when_it_is_told_to(predictors, mbd, home, engineer):
    second = mbd("predictor", "--home", home)
    assert second.code == 1
    assert "Another predictor" in second.err
    assert engineer.post("/v1/predictions", one(line="other", text=[1.0])).status_code == 422
    ended = predictors(signal.SIGTERM)
    assert (ended.code, ended.err) == (0, "")
    assert not (home / "predictor.sock").exists()


@pytest.mark.usefixtures("predictor")
def test_eight_clients_at_once_are_all_answered(engineer, cohort):
    asked = body(cohort, range(10))
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda _: predict(engineer, asked), range(24)))
    assert all(answer == answers[0] for answer in answers)


@pytest.mark.usefixtures("predictor")
def test_what_cannot_be_predicted_is_said_without_being_repeated(engineer, cohort, subtests, problem):
    dims = {m.value: cohort.channels[m].dim for m in Modality}
    text = [0.5] * dims["text"]
    right = one(text=text)
    assert predict(engineer, right)["clips"][0]["used"] == ["text"]
    table = {
        "no such line": (one(line="secret", text=text), Kind.UNACCEPTABLE, "no model line"),
        "a number too few": (one(text=text[1:]), Kind.UNACCEPTABLE, f"Clip 0: text has {dims['text'] - 1} numbers"),
        "a sequence": (one(text=[text]), Kind.UNACCEPTABLE, "Clip 0: text is a sequence"),
        "no float32": (one(text=[1e300, *text[1:]]), Kind.UNACCEPTABLE, "Clip 0: text has a number"),
        "no channel": (one(), Kind.INVALID_REQUEST, "at least one channel"),
        "an unknown channel": (one(text=text, smell=text), Kind.INVALID_REQUEST, "smell"),
        "an empty channel": (one(text=[]), Kind.INVALID_REQUEST, "at least 1 item"),
        "an empty frame": (one(text=[[]]), Kind.INVALID_REQUEST, "at least 1 item"),
        "a frame among numbers": (one(text=[0.5, [0.5]]), Kind.INVALID_REQUEST, "valid number"),
        "words": (one(text="secret words"), Kind.INVALID_REQUEST, "valid list"),
        "truth": (one(text=[True] * dims["text"]), Kind.INVALID_REQUEST, "valid number"),
        "a number of no size": (one(text=[10**400]), Kind.INVALID_REQUEST, "number"),
        "no clips": ({"line": "demo", "clips": []}, Kind.INVALID_REQUEST, "at least 1 item"),
        "too many": (right | {"clips": right["clips"] * 101}, Kind.INVALID_REQUEST, "at most 100 items"),
        "everyone": (one(subject="*", text=text), Kind.INVALID_REQUEST, "nobody's name"),
        "another form": (one(subject="Jose\u0301", text=text), Kind.INVALID_REQUEST, "nobody's name"),
        "half a character": (one(subject="\ud800", text=text), Kind.INVALID_REQUEST, "string"),
        "more": (right | {"version": 1}, Kind.INVALID_REQUEST, "not permitted"),
    }
    for name, (asked, kind, said) in table.items():
        with subtests.test(name):
            answer = engineer.client.post(
                "/v1/predictions",
                content=json.dumps(asked),
                headers=engineer.headers | {"content-type": "application/json"},
            )
            assert problem(answer) is kind
            assert said in answer.text
            assert "secret" not in answer.text
            assert len(answer.content) < 4000
    for number in ("NaN", "Infinity", "1e999"):
        with subtests.test(number):
            raw = json.dumps(one(text=text)).replace("0.5", number, 1)
            answer = engineer.client.post(
                "/v1/predictions", content=raw, headers=engineer.headers | {"content-type": "application/json"}
            )
            assert problem(answer) is Kind.INVALID_REQUEST


@pytest.mark.usefixtures("predictor")
def test_large_bodies_are_refused_and_the_largest_are_answered(engineer, cohort, problem):
    large = body(cohort, list(range(60)) + list(range(40)))
    assert len(predict(engineer, large)["clips"]) == 100
    huge = one(text=[[0.123456789] * 32] * 4000)
    assert problem(engineer.post("/v1/predictions", huge)) is Kind.TOO_LARGE
    nearly = one(text=[[0] * 32] * 10_000)  # 970 kB here, more on the way to the predictor
    assert "text is a sequence" in engineer.post("/v1/predictions", nearly).text


@pytest.mark.usefixtures("predictor")
def test_it_takes_the_scope(api, problem):
    assert problem(api.nobody.post("/v1/predictions", one(text=[1.0]))) is Kind.UNAUTHENTICATED
    assert problem(api.caller("officer").post("/v1/predictions", one(text=[1.0]))) is Kind.FORBIDDEN


@pytest.mark.usefixtures("predictor")
def test_the_example_of_the_page_works(api, engineer, cohort):
    page = Path(__file__).resolve().parents[3] / "docs" / "predictions.md"
    (example,) = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    known = {
        "url": str(api.client.base_url),
        "key": engineer.headers["authorization"].removeprefix("Bearer "),
        "person": cohort.rows[0].subject,
        "words": [0.0] * cohort.channels[Modality.TEXT].dim,
        "voice": [0.0] * cohort.channels[Modality.AUDIO].dim,
    }
    exec(compile(example, "docs/predictions.md", "exec"), known)  # noqa: S102 - what the page says is what is tested
    (clip,) = known["answer"].json()["clips"]
    assert (clip["used"], clip["reconstructed"]) == (["text", "audio"], ["vision"])
