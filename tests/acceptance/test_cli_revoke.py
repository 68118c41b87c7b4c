"""``mbd revoke``: who withdraws what, what every live model does about it, and what is refused."""

import json
import shlex
from base64 import b64decode
from pathlib import Path

import pytest


@pytest.fixture
def withdraw(home, demo, mbd):
    """``withdraw("--everyone", "--modality", "audio")``: the one line's result, its statement and its predictions."""

    def revoke(*options):
        done = mbd("revoke", *options, "--home", home, "--json")
        assert done.code == 0, done.out
        (result,) = done.json["results"]
        verify = ("certificate", "verify", result["bundle"], "--trusted-root", done.json["trusted_root"], "--json")
        assert mbd(*verify).json["valid"]
        bundle = json.loads(Path(result["bundle"]).read_bytes())
        statement = json.loads(b64decode(bundle["dsseEnvelope"]["payload"]))
        return result, statement["predicate"], predictions(mbd, home, demo.home / "lines/demo/2/cohort")

    return revoke


def predictions(mbd, home, cohort):
    """How each channel of each clip was come by."""
    done = mbd("predict", cohort, "--line", "demo", "--home", home, "--json")
    return {answer["clip"]: answer["channels"] for answer in done.json["predictions"]}


def suppressed(channels, subject):
    """The channels of a person that no prediction may use."""
    return {m for clip, how in channels.items() if clip.startswith(subject) for m in how if how[m] == "suppressed"}


def test_several_people_withdraw_several_channels(withdraw, people):
    first, second, third = people[:3]
    options = [word for name in (first, second) for word in ("--subject", name)]
    result, predicate, channels = withdraw(*options, "--modality", "audio", "--modality", "vision")
    assert (result["version"], result["mechanism"], result["guarantee"]) == (3, "lattice-newton", "certified")
    assert predicate["request"]["scope"] == {"kind": "several", "modalities": ["audio", "vision"]}
    assert len(predicate["subjectCommitments"]) == 2
    assert suppressed(channels, first) == suppressed(channels, second) == {"audio", "vision"}
    assert suppressed(channels, third) == set()


def test_a_subject_alone_withdraws_everything(withdraw, people):
    result, predicate, channels = withdraw("--subject", people[0])
    assert predicate["request"]["scope"] == {"kind": "subject", "modalities": ["text", "audio", "vision"]}
    assert result["rows_touched"] == sum(clip.startswith(people[0]) for clip in channels)
    assert suppressed(channels, people[0]) == {"text", "audio", "vision"}


def test_a_modality_is_withdrawn_for_everyone(withdraw, home, mbd):
    result, predicate, channels = withdraw("--everyone", "--modality", "audio")
    assert (result["mechanism"], result["guarantee"]) == ("lattice-drop", "exact")
    assert predicate["request"]["scope"] == {"kind": "modality", "modalities": ["audio"]}
    assert {how["audio"] for how in channels.values()} == {"suppressed"}
    metrics = mbd("evaluate", "--line", "demo", "--home", home, "--json").json["metrics"]
    assert set(metrics) == {"t", "v", "tv"}


def test_the_certificate_verifies_by_the_command_that_is_printed(home, people, mbd):
    done = mbd("revoke", "--subject", people[0], "--modality", "text", "--home", home)
    assert done.code == 0, done.err
    assert "revoking: done in" in done.out
    (line,) = [line for line in done.out.splitlines() if "Verify it with: " in line]
    program, *arguments = shlex.split(line.partition(": ")[2])
    assert program == "mbd"
    assert mbd(*arguments).code == 0


def test_a_file_of_requests_is_one_deletion_and_a_certificate_each(home, people, mbd, tmp_path):
    file = tmp_path / "requests.csv"
    file.write_text(f"subject,modality\n{people[0]},audio\n{people[1]},\n{people[0]},text\n")
    done = mbd("revoke", "--file", file, "--home", home, "--json")
    assert done.code == 0, done.out
    results = done.json["results"]
    assert [result["version"] for result in results] == [3, 3]
    assert len({result["certificate"] for result in results}) == 2
    for result in results:
        verify = ("certificate", "verify", result["bundle"], "--trusted-root", done.json["trusted_root"], "--json")
        assert mbd(*verify).json["valid"]
        assert mbd("certificate", "replay", result["bundle"], "--home", home).code == 0
    versions = mbd("lineage", "--home", home, "--json").json["versions"]
    assert set(versions[-1]["certificates"]) == {result["certificate"] for result in results}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("subject,modality\n", "asks for nothing"),
        ("subject,modality\n,audio\n", "line 2"),
        ("subject,modality\n*,audio\n", "--everyone"),
        ("subject,modality\nsynthetic-040,voice\n", "not a modality"),
        ("subject\nsynthetic-040\n", "modality"),
        ("subject,modality\nnobody,audio\n", "nobody"),
    ],
)
def test_a_bad_file_of_requests_is_refused_and_changes_nothing(home, mbd, tmp_path, text, message):
    file = tmp_path / "requests.csv"
    file.write_text(text)
    before = mbd("lineage", "--home", home, "--json").json
    done = mbd("revoke", "--file", file, "--home", home, "--json")
    assert done.code == 1
    error = done.json["error"]
    assert message in error["message"] + error["remedy"]
    assert mbd("lineage", "--home", home, "--json").json == before


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (("--subject", "nobody"), "UnknownSubjectError", "nobody"),
        (("--subject", "[/nobody]", "--modality", "text"), "UnknownSubjectError", "[/nobody]"),
        (("--subject", "synthetic-001"), "UnknownSubjectError", "public"),
        (("--subject", "synthetic-033", "--modality", "audio"), "NothingToDeleteError", "audio"),
    ],
    ids=["unknown", "markup", "public", "withdrawn already"],
)
def test_what_cannot_be_deleted_is_refused_and_changes_nothing(home, mbd, options, kind, message):
    before = mbd("lineage", "--home", home, "--json").json
    done = mbd("revoke", *options, "--home", home, "--json")
    assert (done.code, done.json["error"]["type"]) == (1, kind)
    assert message in done.json["error"]["message"]
    spoken = mbd("revoke", *options, "--home", home)
    assert spoken.code == 1
    assert f"Error: {done.json['error']['message']}" in spoken.err
    assert mbd("lineage", "--home", home, "--json").json == before


def test_a_stranger_is_certified_absent_where_the_policy_asks_for_it(home, mbd):
    by_flag = mbd("revoke", "--subject", "nobody", "--certify-absence", "--home", home, "--json")
    by_setting = mbd("revoke", "--subject", "no one", "--home", home, "--json", MBD_CERTIFY_ABSENCE="true")
    assert (by_flag.code, by_setting.code) == (0, 0), by_flag.out + by_setting.out
    (result,), (other,) = by_flag.json["results"], by_setting.json["results"]
    assert (result["kind"], result["line"], result["version"], result["mechanism"]) == ("absence", "demo", 2, None)
    verify = ("certificate", "verify", result["bundle"], "--trusted-root", by_flag.json["trusted_root"])
    checked = mbd(*verify, "--json")
    assert (checked.json["valid"], checked.json["guarantee"]) == (True, None)
    for words in (verify, ("certificate", "show", result["bundle"])):
        said = " ".join(mbd(*words).out.split())
        assert "Absence of text, audio, vision (everything of one person) from model line 'demo', version 2," in said
        assert "Nothing was deleted." in said
        assert "another spelling is another name" in said
    assert mbd("certificate", "replay", result["bundle"], "--home", home).code == 0
    lineage = mbd("lineage", "--home", home, "--json").json["versions"]
    assert lineage[-1]["absences"] == [result["certificate"], other["certificate"]]
    assert len(lineage[-1]["certificates"]) == 1
    assert mbd("lineage", "--subject", "nobody", "--home", home, "--json").json["absences"] == [
        {"line": "demo", "version": 2, "certificate": result["certificate"]}
    ]
    for words in (("lineage",), ("lineage", "--subject", "nobody")):
        assert result["certificate"] in mbd(*words, "--home", home).out
    refused = mbd("revoke", "--subject", "nobody", "--home", home, "--json")
    assert refused.json["error"]["type"] == "UnknownSubjectError"


def test_people_read_that_nothing_was_deleted_and_that_names_are_exact(home, mbd):
    done = mbd("revoke", "--subject", "nobody", "--modality", "audio", "--certify-absence", "--home", home)
    assert done.code == 0, done.err
    assert "holds none of it. Nothing was deleted." in " ".join(done.out.split())
    assert "names are compared exactly" in done.out
    (line,) = [line for line in done.out.splitlines() if "Verify it with: " in line]
    assert mbd(*shlex.split(line.partition(": ")[2])[1:]).code == 0


def test_a_public_person_is_refused_whatever_the_policy(home, mbd):
    before = mbd("lineage", "--home", home, "--json").json
    done = mbd("revoke", "--subject", "synthetic-001", "--certify-absence", "--home", home, "--json")
    assert (done.code, done.json["error"]["type"]) == (1, "UnknownSubjectError")
    assert "public" in done.json["error"]["message"]
    assert mbd("lineage", "--home", home, "--json").json == before


def test_a_file_with_strangers_is_answered_to_each_where_the_policy_asks_for_it(home, people, mbd, tmp_path):
    file = tmp_path / "requests.csv"
    file.write_text(f"subject,modality\n{people[0]},audio\nnobody,\nno one,text\n")
    refused = mbd("revoke", "--file", file, "--home", home, "--json")
    assert (refused.code, refused.json["error"]["type"]) == (1, "UnknownSubjectError")
    done = mbd("revoke", "--file", file, "--certify-absence", "--home", home, "--json")
    assert done.code == 0, done.out
    found = [(result["kind"], result["version"]) for result in done.json["results"]]
    assert found == [("deletion", 3), ("absence", 2), ("absence", 2)]
    for result in done.json["results"]:
        verify = ("certificate", "verify", result["bundle"], "--trusted-root", done.json["trusted_root"], "--json")
        assert mbd(*verify).json["valid"]


def test_a_deletion_that_fails_half_way_says_so_and_is_finished_later(home, people, mbd):
    heads = home / "lines" / "demo" / "2" / "model" / "heads.safetensors"
    sound = heads.read_bytes()
    heads.write_bytes(sound[:-1] + b"!")
    failed = mbd("revoke", "--subject", people[0], "--modality", "audio", "--home", home, "--json")
    assert failed.code == 1
    assert "mbd revoke --resume" in failed.json["error"]["remedy"]
    assert "Unfinished: revoked channels are still in live models (1)" in mbd("lineage", "--home", home).out
    heads.write_bytes(sound)
    (result,) = mbd("revoke", "--resume", "--home", home, "--json").json["results"]
    assert (result["line"], result["version"], result["guarantee"]) == ("demo", 3, "certified")
    assert mbd("lineage", "--home", home, "--json").json["live_with_revoked_channels"] == 0


def test_resuming_with_nothing_to_do_is_no_error(home, mbd):
    done = mbd("revoke", "--resume", "--home", home, "--json")
    assert (done.code, done.json["results"]) == (0, [])
    assert "Nothing was interrupted." in mbd("revoke", "--resume", "--home", home).out


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--modality", "audio"),
        ("--everyone",),
        ("--subject", "a", "--everyone", "--modality", "audio"),
        ("--subject", "*"),
        ("--subject", "a", "--modality", "voice"),
        ("--subject", "a", "--regime", "two words"),
        ("--resume", "--subject", "a"),
        ("--file", __file__, "--subject", "a"),
        ("--file", __file__, "--resume"),
        ("--subject",),
        ("--unknown",),
        ("a",),
    ],
    ids=" ".join,
)
def test_usage_errors_have_their_own_exit_code_and_touch_nothing(mbd, tmp_path, options):
    done = mbd("revoke", *options, "--home", tmp_path / "none")
    assert done.code == 2
    assert done.out == ""
    assert "Try 'mbd revoke --help' for help." in done.err
    programs = mbd("revoke", *options, "--home", tmp_path / "none", "--json")
    assert (programs.code, programs.json["error"]["type"]) == (2, "UsageError")
    assert not (tmp_path / "none").exists()
