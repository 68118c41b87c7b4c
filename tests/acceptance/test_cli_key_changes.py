"""``mbd keys rotate|compromised|trust-authority`` and what becomes of certificates: revoked, reissued, exported."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from joserfc import jws
from joserfc.jwk import ECKey

from certs.timestamp_authority import TimestampAuthority


def issued(mbd, home):
    """The id of the demo's certificate and its file."""
    (path,) = (home / "certificates").glob("*/mdc.sigstore.json")
    return path.parent.name, path


def verify(mbd, home, path, *more):
    root = home / "published" / "trusted_root.json"
    return mbd("certificate", "verify", path, "--trusted-root", root, *more, "--json")


def test_a_key_is_rotated_and_the_next_steps_are_said(mbd, home):
    before = mbd("keys", "show", "--home", home, "--json").json
    done = mbd("keys", "rotate", "certificate", "--overlap-days", "7", "--home", home)
    assert done.code == 0, done.err
    assert "trusted_root.json" in done.out
    after = mbd("keys", "show", "--home", home, "--json").json
    assert after["certificate_key"] == before["certificate_key"]  # the old one signs until its end
    assert len([key for key in after["keys"] if key["role"] == "certificate"]) == 2
    again = mbd("keys", "rotate", "certificate", "--home", home, "--json")
    assert (again.code, again.json["error"]["type"]) == (1, "SettingsError")
    assert mbd("keys", "rotate", "log", "--overlap-days", "0", "--home", home, "--json").code == 0
    assert mbd("ledger", "fsck", "--home", home).code == 0
    assert verify(mbd, home, issued(mbd, home)[1]).json["valid"] is True


def test_after_a_theft_the_command_issues_anew_what_cannot_be_relied_upon(mbd, home):
    certificate, path = issued(mbd, home)
    stolen = mbd("keys", "show", "--home", home, "--json").json["certificate_key"]
    since = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    done = mbd("keys", "compromised", stolen, "--since", since, "--home", home, "--json")
    assert done.code == 0, done.out
    (renewed,) = done.json["renewed"]
    refused = verify(mbd, home, path)
    assert (refused.code, refused.json["error"]["code"]) == (1, "key-not-valid")
    log = home / "published" / "log"
    new = verify(mbd, home, home / "certificates" / renewed / "mdc.sigstore.json", "--log", log)
    assert new.json["valid"] is True
    assert new.json["steps"][5]["result"] == "passed"
    assert mbd("keys", "compromised", stolen, "--since", since, "--home", home, "--json").json["renewed"] == []
    assert certificate != renewed


def test_a_certificate_is_revoked_for_whoever_has_a_copy_of_the_log(mbd, home):
    certificate, path = issued(mbd, home)
    done = mbd("certificate", "revoke", certificate, "--reason", "issued-in-error", "--home", home)
    assert done.code == 0, done.err
    assert verify(mbd, home, path).json["valid"] is True
    refused = verify(mbd, home, path, "--log", home / "published" / "log")
    assert (refused.code, refused.json["error"]["code"], refused.json["error"]["step"]) == (1, "certificate-revoked", 6)
    wrong = mbd("certificate", "revoke", "mdc-none", "--reason", "issued-in-error", "--home", home, "--json")
    assert (wrong.code, wrong.json["error"]["type"]) == (1, "RecordsError")
    assert mbd("certificate", "revoke", certificate, "--reason", "whim", "--home", home).code == 2


def test_a_certificate_is_reissued_and_the_old_one_superseded(mbd, home):
    certificate, path = issued(mbd, home)
    done = mbd("certificate", "reissue", certificate, "--home", home, "--json")
    assert done.code == 0, done.out
    log = home / "published" / "log"
    refused = verify(mbd, home, path, "--log", log)
    assert refused.json["error"]["code"] == "certificate-revoked"
    assert "superseded" in refused.json["error"]["message"]
    assert (
        verify(mbd, home, home / "certificates" / done.json["certificate"] / "mdc.sigstore.json", "--log", log).code
        == 0
    )
    listed = mbd("lineage", "--home", home, "--json").json
    assert done.json["certificate"] in json.dumps(listed)
    assert certificate not in json.dumps(listed)


def test_a_jws_is_read_by_a_library_that_we_did_not_write(mbd, home):
    _, path = issued(mbd, home)
    done = mbd("certificate", "export", path, "--format", "jws", "--home", home)
    assert done.code == 0, done.err
    (pem,) = (home / "published").glob("certificate-key-*.pem")
    key = ECKey.import_key(pem.read_text())
    read = jws.deserialize_compact(done.out.strip(), key, algorithms=["ES256"])
    shown = mbd("certificate", "show", path, "--json").json
    assert json.loads(read.payload) == shown
    assert read.headers()["kid"] == mbd("keys", "show", "--home", home, "--json").json["certificate_key"]
    head, payload, signature = done.out.strip().split(".")
    with pytest.raises(Exception, match="bad_signature"):
        jws.deserialize_compact(f"{head}.{payload[:-2]}AA.{signature}", key, algorithms=["ES256"])


def test_another_authority_is_registered_by_its_chain(mbd, home, tmp_path):
    authority = TimestampAuthority.generate("elsewhere.example", now=datetime.now(UTC).replace(microsecond=0))
    (tmp_path / "chain.pem").write_bytes(authority.chain.pem)
    done = mbd("keys", "trust-authority", "https://tsa.example/", tmp_path / "chain.pem", "--home", home)
    assert done.code == 0, done.err
    assert "MBD_TIMESTAMP_URL=https://tsa.example/" in done.out
    (tmp_path / "chain.pem").write_bytes(b"nothing")
    wrong = mbd("keys", "trust-authority", "https://tsa.example/", tmp_path / "chain.pem", "--home", home, "--json")
    assert (wrong.code, wrong.json["error"]["code"]) == (1, "key-invalid")


def test_a_policy_is_held_against_the_checkpoint(mbd, home, tmp_path):
    _, path = issued(mbd, home)
    (vkey,) = (home / "published").glob("log-key-*.vkey")
    policy = tmp_path / "policy"
    policy.write_text(f"log {vkey.read_text().strip()}\nquorum none\n")
    assert verify(mbd, home, path, "--policy", policy).code == 0
    policy.write_text("quorum somebody\n")
    assert verify(mbd, home, path, "--policy", policy).json["error"]["code"] == "policy-malformed"
