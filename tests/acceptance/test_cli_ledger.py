"""``mbd ledger`` and ``mbd lineage``: the log proves itself or says where it is damaged."""

import sqlite3
from contextlib import closing

import pytest

from certs import checkpoint as checkpoints
from certs import proof as proofs
from certs.note import NoteKey


@pytest.fixture
def log_key(demo):
    """The log's public key, as it is published."""
    (vkey,) = (demo.home / "published").glob("log-key-*.vkey")
    return NoteKey.from_vkey(vkey.read_text().strip())


def test_a_sound_log_passes(home, mbd):
    done = mbd("ledger", "fsck", "--home", home, "--json")
    assert (done.code, done.json["ok"], done.json["size"], done.json["problems"]) == (0, True, 2, [])
    assert "Everything is consistent." in mbd("ledger", "fsck", "--home", home).out


def test_a_changed_leaf_is_found_and_named(home, mbd):
    with closing(sqlite3.connect(home / "mbd.sqlite3", isolation_level=None)) as database:
        for (trigger,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f'DROP TRIGGER "{trigger}"')
        database.execute("UPDATE leaf SET body = x'00' WHERE idx = 1")
    done = mbd("ledger", "fsck", "--home", home, "--json")
    assert (done.code, done.json["ok"]) == (1, False)
    assert "leaf 1" in {problem["place"] for problem in done.json["problems"]}
    spoken = mbd("ledger", "fsck", "--home", home)
    assert spoken.code == 1
    assert "leaf 1" in spoken.out
    assert "Remedy: do not sign anything" in spoken.out


def test_a_restored_old_database_is_refused_and_reported(home, people, mbd):
    old = (home / "mbd.sqlite3").read_bytes()
    assert mbd("revoke", "--subject", people[0], "--modality", "text", "--home", home).code == 0
    (home / "mbd.sqlite3").write_bytes(old)
    refused = mbd("lineage", "--home", home, "--json")
    assert (refused.code, refused.json["error"]["type"]) == (1, "LedgerError")
    done = mbd("ledger", "fsck", "--home", home, "--json")
    assert (done.code, done.json["ok"]) == (1, False)
    assert [problem["place"] for problem in done.json["problems"]] == ["remembered checkpoint"]


def test_the_checkpoint_is_signed_by_the_published_key(home, log_key, mbd):
    done = mbd("ledger", "checkpoint", "--home", home)
    checkpoint, _ = checkpoints.verify(done.out, [log_key])
    said = mbd("ledger", "checkpoint", "--home", home, "--json").json
    assert (checkpoint.size, checkpoint.root.hex()) == (said["size"], said["root"])
    assert said["note"] == done.out


def test_an_entry_is_proved_to_be_in_the_log(home, log_key, mbd, tmp_path):
    assert mbd("ledger", "prove", 1, "--out", tmp_path / "proof", "--home", home).code == 0
    text = mbd("ledger", "prove", 1, "--home", home).out
    assert (tmp_path / "proof").read_text("utf-8") == text
    with closing(sqlite3.connect(home / "mbd.sqlite3")) as database:
        (body,) = database.execute("SELECT body FROM leaf WHERE idx = 1").fetchone()
    assert proofs.verify(proofs.parse(text), body, [log_key]).size == 2


def test_an_entry_that_is_not_there_cannot_be_proved(home, mbd):
    done = mbd("ledger", "prove", 7, "--home", home, "--json")
    assert (done.code, done.json["error"]["type"]) == (1, "LedgerError")
    assert mbd("ledger", "prove", "--home", home, "--", -1).code == 2
    assert mbd("ledger", "prove", "one", "--home", home).code == 2


def test_lineage_lists_versions_with_their_certificates(home, demo, mbd):
    said = mbd("lineage", "--home", home, "--json").json
    assert said["live_with_revoked_channels"] == 0
    states = [(v["version"], v["state"], v["guarantee"], v["certificates"]) for v in said["versions"]]
    assert states == [(1, "retired", None, []), (2, "live", "certified", [demo.bundle.parent.name])]
    assert "No live model descends from a revoked channel." in mbd("lineage", "--home", home).out


def test_lineage_of_a_person_says_which_models_saw_them(home, demo, mbd):
    subject = demo.json["subject"]
    seen = mbd("lineage", "--subject", subject, "--home", home, "--json").json["exposures"]
    ended = {(row["modality"], row["version"]): row["ended_by_version"] for row in seen}
    assert ended == {
        ("text", 1): None,
        ("text", 2): None,
        ("audio", 1): 2,
        ("vision", 1): None,
        ("vision", 2): None,
    }
    voice = mbd("lineage", "--subject", subject, "--modality", "audio", "--home", home)
    assert demo.bundle.parent.name in voice.out
    assert "text" not in voice.out


def test_lineage_of_a_stranger_promises_no_more_than_the_name_can(home, mbd):
    done = mbd("lineage", "--subject", "nobody", "--home", home)
    assert done.code == 0
    assert "exactly the name" in done.out
    assert mbd("lineage", "--modality", "audio", "--home", home).code == 2
