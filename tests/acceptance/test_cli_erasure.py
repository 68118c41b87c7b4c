"""``mbd certificate opening`` and ``mbd forget``, as an operator gives them and a person uses what they get."""

import json
import shutil
import stat

import pytest


@pytest.fixture
def person(demo):
    return demo.json["subject"]


@pytest.fixture
def certificate(demo):
    return demo.bundle.parent.name


def test_a_person_shows_offline_that_a_certificate_is_about_them(home, demo, mbd, tmp_path, certificate):
    person = demo.json["subject"]
    file = tmp_path / "mine.json"
    done = mbd("certificate", "opening", certificate, "--subject", person, "--out", file, "--home", home)
    assert (done.code, done.err) == (0, "")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    printed = mbd("certificate", "opening", certificate, "--subject", person, "--home", home)
    assert printed.out == file.read_text()
    assert json.loads(printed.out)["opening"] not in done.out
    verify = ("certificate", "verify", demo.bundle, "--trusted-root", demo.trusted_root, "--json", "--opening", file)
    assert f"about '{person}'" in mbd(*verify).json["steps"][-1]["detail"]
    again = mbd("certificate", "opening", certificate, "--subject", person, "--out", file, "--home", home)
    assert again.code == 1, "a file that is there is not overwritten"
    other = json.loads(file.read_text()) | {"subject": "somebody else"}
    file.write_text(json.dumps(other))
    wrong = mbd(*verify)
    assert (wrong.json["error"]["step"], wrong.json["error"]["code"]) == (8, "opening-mismatch")
    file.write_text("no opening")
    assert mbd(*verify).json["error"]["code"] == "json-malformed"


def test_the_opening_of_somebody_else_is_not_given_out(home, mbd, people, certificate):
    done = mbd("certificate", "opening", certificate, "--subject", people[0], "--home", home, "--json")
    assert (done.code, done.json["error"]["type"]) == (1, "UnknownSubjectError")


def test_forgetting_destroys_the_opening_and_leaves_the_certificate_valid(home, demo, mbd, person, certificate):
    done = mbd("forget", "--subject", person, "--home", home, "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json == {
        "certificates": [certificate],
        "destroyed": 1,
        "versions": [{"line": "demo", "version": 3}],
        "named_in": ["demo"],  # the demo withdraws their voice alone
        "left": None,
        "journal": str(home / "destroyed-keys"),
    }
    gone = mbd("certificate", "opening", certificate, "--subject", person, "--home", home, "--json")
    assert "were destroyed" in gone.json["error"]["message"]
    bundle = home / demo.bundle.relative_to(demo.home)
    assert mbd("certificate", "verify", bundle, "--trusted-root", home / "published" / "trusted_root.json").code == 0
    again = mbd("forget", "--certificate", certificate, "--home", home)
    assert again.code == 0
    assert "Openings destroyed now: 0." in again.out
    assert mbd("ledger", "fsck", "--home", home).code == 0


def test_what_a_backup_brings_back_is_destroyed_again_and_reported(home, mbd, person, certificate, tmp_path):
    journal = tmp_path / "journal"
    shutil.copytree(home, tmp_path / "backup")
    setting = {"MBD_DESTROYED_KEYS": str(journal)}
    assert mbd("forget", "--certificate", certificate, "--home", home, **setting).code == 0
    shutil.rmtree(home)
    shutil.move(tmp_path / "backup", home)
    done = mbd("lineage", "--home", home, "--json", **setting)
    assert done.code == 0
    assert done.json
    assert "destroyed again" in done.err
    assert f"mbd forget --certificate {certificate}" in done.err
    assert person not in done.err
    assert mbd("forget", "--certificate", certificate, "--home", home, **setting).code == 0
    assert mbd("lineage", "--home", home, "--json", **setting).err == ""


@pytest.mark.parametrize("options", [(), ("--subject", "a", "--certificate", "b")])
def test_who_is_to_be_forgotten_must_be_said_once(installed, options):
    done = installed("forget", *options)
    assert done.code == 2
    assert "--subject NAME or --certificate" in done.err
