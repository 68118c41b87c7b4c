"""``mbd keys`` and ``mbd db``: a deployment is made once, its keys can be encrypted, and bad settings are named."""

import pytest

from certs.trusted_root import parse


def test_a_new_deployment_publishes_what_verifiers_need(mbd, tmp_path):
    done = mbd("keys", "init", "--home", tmp_path / "new", "--json")
    assert done.code == 0, done.out
    root = parse((tmp_path / "new" / "published" / "trusted_root.json").read_bytes())
    assert root.logs[0].key.vkey == done.json["log_key"]
    assert root.signers[0].key.key_id == done.json["certificate_key"]
    assert mbd("keys", "init", "--home", tmp_path / "new", "--json").json == done.json
    assert mbd("keys", "show", "--home", tmp_path / "new", "--json").json == done.json
    assert "not encrypted" in mbd("keys", "show", "--home", tmp_path / "new").out


def test_encrypted_keys_open_with_their_passphrase_alone(mbd, tmp_path):
    home, right = ("--home", tmp_path / "new"), {"MBD_KEY_PASSPHRASE": "correct horse"}
    done = mbd("keys", "init", *home, "--json", **right)
    assert done.json["encrypted"] is True
    written = sorted((tmp_path / "new" / "keys").glob("*.pem"))
    assert [path.name.rpartition("-")[0] for path in written] == ["certificate", "log", "time-stamps"]
    for path in written:
        assert b"ENCRYPTED PRIVATE KEY" in path.read_bytes()
    assert mbd("ledger", "fsck", *home, **right).code == 0
    for wrong in ({"MBD_KEY_PASSPHRASE": "wrong horse"}, {}):
        refused = mbd("ledger", "fsck", *home, "--json", **wrong)
        assert (refused.code, refused.json["error"]["code"]) == (1, "key-file-passphrase")
        assert "MBD_KEY_PASSPHRASE" in refused.json["error"]["remedy"]
        assert "horse" not in refused.out + refused.err


def test_a_missing_deployment_is_refused_with_the_command_that_makes_one(mbd, tmp_path):
    for command in (("keys", "show"), ("lineage",), ("ledger", "fsck"), ("revoke", "--resume")):
        done = mbd(*command, "--home", tmp_path / "none", "--json")
        assert (done.code, done.json["error"]["type"]) == (1, "SettingsError")
        assert "mbd " in done.json["error"]["remedy"]
    assert not (tmp_path / "none").exists()


def test_upgrading_the_database_makes_it_and_can_be_repeated(mbd, tmp_path):
    for _ in range(2):
        done = mbd("db", "upgrade", "--home", tmp_path / "new", "--json")
        assert (done.code, done.json) == (0, {"upgraded": True})
    assert (tmp_path / "new" / "mbd.sqlite3").exists()
    assert mbd("keys", "init", "--home", tmp_path / "new").code == 0


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("MBD_EPSILON", "much", "MBD_EPSILON"),
        ("MBD_EPSILON", "-1", "MBD_EPSILON"),
        ("MBD_DATABASE_URL", "not a url", "MBD_DATABASE_URL"),
        ("MBD_DATABASE_URL", "mysql://localhost/x", "'mysql' is not a database"),
    ],
)
def test_a_setting_that_cannot_be_is_named(mbd, tmp_path, name, value, named):
    done = mbd("db", "upgrade", "--home", tmp_path / "new", **{name: value})
    assert (done.code, done.out) == (1, "")
    assert named in done.err


def test_a_state_folder_that_is_a_file_or_cannot_be_made_is_an_error(mbd, tmp_path):
    (tmp_path / "file").touch()
    assert mbd("keys", "init", "--home", tmp_path / "file").code == 2
    named = mbd("keys", "init", "--json", MBD_HOME=str(tmp_path / "file"))
    assert (named.code, named.json["error"]["type"]) == (1, "SettingsError")
    assert str(tmp_path / "file") in named.json["error"]["message"]
    below = mbd("keys", "init", "--home", tmp_path / "file" / "below", "--json")
    assert (below.code, below.json["error"]["type"]) == (1, "SettingsError")
    assert "file/below" in below.json["error"]["message"]


def test_a_damaged_database_is_an_error_and_no_traceback(mbd, home):
    for old in home.glob("mbd.sqlite3*"):
        old.write_bytes(b"not a database" * 1000)
    done = mbd("lineage", "--home", home, "--json")
    assert (done.code, done.json["error"]["type"]) == (1, "RecordsError")
    assert "Traceback" not in done.err
