"""``mbd lineage`` and its commands: steps, candidates, retirement, statements of destruction, exports."""

import json

import pytest

from certs.destruction_statement import verify
from certs.keys import PublicKey


def test_a_step_is_shown_with_its_certificate(demo, mbd):
    (step,) = mbd("lineage", "steps", "demo", 1, 2, "--home", demo.home, "--json").json["steps"]
    assert (step["from"], step["to"]) == (1, 2)
    assert step["certificates"] == [demo.bundle.parent.name]
    assert demo.bundle.parent.name in mbd("lineage", "steps", "demo", 1, 2, "--home", demo.home).out
    refused = mbd("lineage", "steps", "demo", 2, 1, "--home", demo.home, "--json")
    assert (refused.code, refused.json["error"]["type"]) == (1, "RecordsError")


def test_the_statement_of_destruction_is_shown_and_handed_out(demo, mbd, tmp_path):
    (said,) = mbd("lineage", "destroyed", "--home", demo.home, "--json").json["destroyed"]
    assert (said["line"], said["version"]) == ("demo", 1)
    assert {file["name"] for file in said["removed"]} >= {"model/heads.safetensors", "cohort/features.safetensors"}
    one = ("lineage", "destroyed", "--line", "demo", "--version", 1, "--home", demo.home)
    shown = mbd(*one, "--out", tmp_path / "statement.json")
    assert "Not covered:" in shown.out
    (pem,) = (demo.home / "published").glob("certificate-key-*.pem")
    found = verify((tmp_path / "statement.json").read_bytes(), PublicKey.from_pem(pem.read_bytes()))
    assert found.lineage.version == 1
    refused = mbd("lineage", "destroyed", "--line", "demo", "--version", 2, "--home", demo.home, "--json")
    assert (refused.code, refused.json["error"]["type"]) == (1, "RecordsError")
    assert mbd("lineage", "destroyed", "--version", 1).code == 2
    assert mbd("lineage", "destroyed", "--out", tmp_path / "x").code == 2


def test_a_statement_that_was_changed_in_the_database_is_not_shown(home, mbd):
    import sqlite3

    with sqlite3.connect(home / "mbd.sqlite3") as database:
        (envelope,) = database.execute("SELECT envelope FROM destruction").fetchone()
        document = json.loads(envelope)
        payload = document["payload"]
        document["payload"] = payload[:100] + ("B" if payload[100] == "A" else "A") + payload[101:]
        database.execute("UPDATE destruction SET envelope = ?", (json.dumps(document),))
    database.close()
    refused = mbd("lineage", "destroyed", "--home", home, "--json")
    assert (refused.code, refused.json["error"]["code"]) == (1, "signature-invalid")


def test_a_candidate_answers_nothing_until_it_is_promoted_and_nothing_once_it_is_retired(
    home, cohort_folder, mbd, tmp_path
):
    (tmp_path / "small.toml").write_text("epochs = 1\n[options]\nwidth = 8\nproperty_width = 8\n")
    how = ("--recipe", tmp_path / "small.toml", "--drop-suppressed", "--candidate")
    trained = mbd("train", cohort_folder, "--line", "new", *how, "--home", home, "--json")
    assert (trained.code, trained.json["state"]) == (0, "candidate")
    waiting = mbd("predict", cohort_folder, "--line", "new", "--home", home, "--json")
    assert "is in service" in waiting.json["error"]["message"]
    assert mbd("lineage", "promote", "new", 1, "--home", home, "--json").json["state"] == "live"
    assert mbd("predict", cohort_folder, "--line", "new", "--home", home).code == 0
    assert mbd("lineage", "retire", "new", 1, "--home", home).code == 0
    assert mbd("predict", cohort_folder, "--line", "new", "--home", home).code == 1
    refused = mbd("lineage", "promote", "new", 1, "--home", home, "--json")
    assert (refused.code, refused.json["error"]["type"]) == (1, "RecordsError")
    states = {(row["line"], row["version"]): row["state"] for row in _versions(mbd, home)}
    assert states == {("demo", 1): "retired", ("demo", 2): "live", ("new", 1): "retired"}
    assert len(mbd("lineage", "destroyed", "--home", home, "--json").json["destroyed"]) == 2


def _versions(mbd, home):
    return mbd("lineage", "--home", home, "--json").json["versions"]


@pytest.mark.parametrize("form", ["openlineage", "cyclonedx", "prov"])
def test_the_lineage_goes_into_a_file(demo, mbd, tmp_path, form):
    done = mbd("lineage", "export", "--format", form, "--to", tmp_path / "out", "--home", demo.home, "--json")
    assert (done.code, done.json["versions"]) == (0, 2)
    first = (tmp_path / "out").read_bytes()
    assert demo.json["subject"] not in first.decode()
    mbd("lineage", "export", "--format", form, "--to", tmp_path / "out", "--line", "demo", "--home", demo.home)
    assert len((tmp_path / "out").read_text().splitlines()) == len(first.splitlines())


@pytest.mark.parametrize("form", ["openlineage", "mlflow"])
def test_a_server_that_is_away_is_an_error_with_a_remedy(demo, mbd, form):
    done = mbd("lineage", "export", "--format", form, "--to", "http://127.0.0.1:1", "--home", demo.home, "--json")
    assert (done.code, done.json["error"]["type"]) == (1, "ExportError")
    assert "cannot be reached" in done.json["error"]["message"]


def test_what_does_not_go_together_is_a_usage_error(demo, mbd, tmp_path):
    for form, to in (("cyclonedx", "http://localhost"), ("prov", "http://localhost"), ("mlflow", tmp_path / "x")):
        assert mbd("lineage", "export", "--format", form, "--to", to, "--home", demo.home).code == 2
    assert mbd("lineage", "--home", demo.home, "destroyed").code == 2
    unknown = mbd("lineage", "export", "--format", "prov", "--to", tmp_path / "x", "--line", "no", "--home", demo.home)
    assert unknown.code == 1
    assert not (tmp_path / "x").exists()
