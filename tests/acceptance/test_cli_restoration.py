"""``mbd ledger restore-check|recover|retire``: after an old backup was restored, people are told how to go on."""

import shutil


def restored(mbd, home, tmp_path, people):
    """A deployment whose database and rows are older than what it has signed."""
    backup = shutil.copytree(home, tmp_path / "backup")
    assert mbd("revoke", "--subject", people[1], "--modality", "audio", "--home", home, "--json").code == 0
    for name in ("certificates", "published"):
        shutil.rmtree(backup / name)
        shutil.copytree(home / name, backup / name)
    shutil.copy(home / "checkpoint", backup / "checkpoint")
    return backup


def test_a_whole_deployment_says_so(mbd, home):
    done = mbd("ledger", "restore-check", "--home", home)
    assert (done.code, "Nothing is missing" in done.out) == (0, True)


def test_a_restored_backup_is_explained_and_brought_back(mbd, home, tmp_path, people):
    backup = restored(mbd, home, tmp_path, people)
    refused = mbd("revoke", "--subject", people[2], "--modality", "audio", "--home", backup, "--json")
    assert (refused.code, refused.json["error"]["type"]) == (1, "LedgerError")
    assert "restore-check" in refused.json["error"]["remedy"]
    told = mbd("ledger", "restore-check", "--home", backup)
    assert told.code == 1
    for words in ("Behind.", "mbd ledger recover", "mbd revoke", "mdc-"):
        assert words in told.out
    found = mbd("ledger", "restore-check", "--home", backup, "--json").json
    assert (found["missing"], found["recoverable"], found["forked"], len(found["lost"])) == (1, True, False, 1)
    done = mbd("ledger", "recover", "--home", backup, "--json")
    assert (done.code, done.json["recovered"], len(done.json["lost"])) == (0, 1, 1)
    assert mbd("ledger", "fsck", "--home", backup).code == 0
    assert mbd("revoke", "--subject", people[1], "--modality", "audio", "--home", backup, "--json").code == 0


def test_a_log_is_retired_and_says_what_is_next(mbd, home, people):
    done = mbd("ledger", "retire", "--origin", "log.example.org/next", "--home", home)
    assert done.code == 0, done.err
    for words in ("takes over from mbd.local/log", "trusted_root.json", "published/log-"):
        assert words in done.out
    assert mbd("revoke", "--subject", people[1], "--modality", "audio", "--home", home, "--json").code == 0
    assert mbd("ledger", "fsck", "--home", home).code == 0
    (old,) = (path for path in (home / "certificates").glob("*/mdc.sigstore.json") if verified(mbd, home, path)["size"])
    again = mbd("ledger", "retire", "--origin", "log.example.org/next", "--home", home, "--json")
    assert (again.code, again.json["error"]["type"]) == (1, "SettingsError")
    assert mbd("ledger", "retire", "--origin", "https://x", "--home", home).code == 2
    assert old.exists()


def verified(mbd, home, path):
    """Whether a certificate verifies, and whether the old log has it."""
    root = home / "published" / "trusted_root.json"
    done = mbd("certificate", "verify", path, "--trusted-root", root, "--json")
    assert done.code == 0, done.out
    return {"size": "mbd.local/log" in done.json["verdict"]}
