"""The API as strangers meet it: certificates, their verification and the log, without a key and without a login."""

import json
import signal
from base64 import b64decode, b64encode
from pathlib import Path

import httpx
import pytest

from api.problems import Kind
from certs.encoding import canonical_json


@pytest.fixture
def certificate(home):
    """Its folder."""
    (folder,) = (home / "certificates").iterdir()
    return folder


def test_a_certificate_is_given_as_it_was_issued(api, certificate):
    answer = api.get(f"/v1/certificates/{certificate.name}")
    assert answer.content == (certificate / "mdc.sigstore.json").read_bytes()
    assert answer.headers["content-type"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    proof = api.get(f"/v1/certificates/{certificate.name}/tlog-proof")
    assert proof.content == (certificate / "mdc.tlog-proof").read_bytes()
    statement = api.get(f"/v1/certificates/{certificate.name}/statement").json()
    assert statement["predicate"]["request"]["scope"]["modalities"] == ["audio"]


def test_a_certificate_is_verified_as_the_command_line_does(api, mbd, home, certificate):
    bundle = certificate / "mdc.sigstore.json"
    answer = api.post("/v1/certificates/verify", content=bundle.read_bytes())
    assert answer.status_code == 200
    root = home / "published" / "trusted_root.json"
    offline = mbd("certificate", "verify", bundle, "--trusted-root", root, "--json").json
    found = answer.json()
    assert found["valid"]
    for key in ("verdict", "leaf_index", "tree_size", "key_id", "signed_at", "steps"):
        assert found[key] == offline[key], key


def test_a_forged_certificate_is_not_valid_and_says_where(api, certificate):
    bundle = json.loads((certificate / "mdc.sigstore.json").read_bytes())
    payload = b64decode(bundle["dsseEnvelope"]["payload"])
    bundle["dsseEnvelope"]["payload"] = b64encode(payload.replace(b'"certified"', b'"exact"')).decode()
    answer = api.post("/v1/certificates/verify", content=canonical_json(bundle))
    found = answer.json()
    assert (answer.status_code, found["valid"], found["step"]) == (200, False, 3)
    assert found["code"] == "signature-invalid"
    assert found["remedy"]


@pytest.mark.parametrize("body", [b"", b"{}", b"[" * 100_000, b"\xff", b'{"a":1,"a":2}'])
def test_what_is_no_certificate_is_not_valid(api, body):
    answer = api.post("/v1/certificates/verify", content=body)
    assert (answer.status_code, answer.json()["valid"], answer.json()["step"]) == (200, False, 1)


@pytest.mark.parametrize(
    "how", [("revoke", "--reason", "issued-in-error"), ("reissue",)], ids=["revoked", "superseded"]
)
def test_what_the_log_says_later_counts(api, mbd, home, certificate, how):
    bundle = (certificate / "mdc.sigstore.json").read_bytes()
    verb, *options = how
    assert mbd("certificate", verb, certificate.name, *options, "--home", home).code == 0
    found = api.post("/v1/certificates/verify", content=bundle).json()
    assert (found["valid"], found["step"], found["code"]) == (False, 6, "certificate-revoked")
    for new in set((home / "certificates").iterdir()) - {certificate}:
        bundle = (new / "mdc.sigstore.json").read_bytes()
        assert api.post("/v1/certificates/verify", content=bundle).json()["valid"]


def test_a_key_that_was_stolen_does_not_count(api, mbd, home, certificate):
    bundle = (certificate / "mdc.sigstore.json").read_bytes()
    key = api.post("/v1/certificates/verify", content=bundle).json()["key_id"]
    done = mbd("keys", "compromised", key, "--since", "2020-01-01T00:00:00Z", "--home", home)
    assert done.code == 0, done.err
    found = api.post("/v1/certificates/verify", content=bundle).json()
    assert (found["valid"], found["code"]) == (False, "key-not-valid")  # the trusted root has ended its time


def test_the_log_is_given_byte_for_byte(api, home):
    log = home / "published" / "log"
    names = [str(path.relative_to(log)) for path in log.rglob("*") if path.is_file()]
    assert len(names) > 2
    for name in names:
        answer = api.get(f"/{name}")
        assert answer.content == (log / name).read_bytes(), name
        assert answer.headers["cache-control"] == "no-cache"  # a small log has partial files alone
    root = api.get("/.well-known/trusted_root.json")
    assert root.content == (home / "published" / "trusted_root.json").read_bytes()


@pytest.mark.parametrize(
    "path",
    [
        "/tile/0/999",
        "/tile/0/00",
        "/tile/../../keys/subjects.secret",
        "/tile/%2e%2e/%2e%2e/keys/subjects.secret",
        "/tile/0/000.p/0",
        "/published/log/checkpoint",
        "/v1/certificates/mdc-0",
        "/v1/nothing",
        "/docs",
    ],
)
def test_what_is_not_there_is_not_found(api, path, problem):
    answer = api.get(path)
    assert (answer.status_code, problem(answer)) == (404, Kind.NOT_FOUND)


def test_a_wrong_id_and_a_wrong_method_say_so(api, problem):
    answer = api.get("/v1/certificates/%00' OR 1=1")
    assert (answer.status_code, problem(answer)) == (422, Kind.INVALID_REQUEST)
    assert "OR 1=1" not in answer.text
    answer = api.client.delete("/checkpoint")
    assert (answer.status_code, problem(answer), answer.headers["allow"]) == (405, Kind.METHOD_NOT_ALLOWED, "GET")


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_large_is_refused_whatever_it_announces(api, announced, problem):
    parts = [bytes(1 << 16)] * 17
    answer = api.post("/v1/certificates/verify", content=b"".join(parts) if announced else iter(parts))
    assert (answer.status_code, problem(answer)) == (413, Kind.TOO_LARGE)


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_of_problem_is_explained(api, kind):
    explained = api.get(kind.path).json()
    assert (explained["type"], explained["status"]) == (kind.path, kind.value.status)
    assert explained["meaning"]


def test_alive_is_not_ready(api, home, problem):
    assert api.get("/readyz").json() == {"status": "ready", "log_size": 2}
    api.office.engine.dispose()
    for file in home.glob("mbd.sqlite3*"):
        file.unlink()
    assert api.get("/healthz").json() == {"status": "alive"}
    for path in ("/readyz", "/v1/certificates/mdc-0"):
        answer = api.get(path)
        assert (answer.status_code, problem(answer)) == (503, Kind.NOT_READY)
        assert answer.headers["retry-after"]
        assert "sqlite" not in answer.text


def test_a_mistake_of_ours_says_nothing_of_itself(api, home, problem):
    (home / "published" / "trusted_root.json").unlink()
    assert problem(api.get("/.well-known/trusted_root.json")) is Kind.NOT_FOUND
    answer = api.post("/v1/certificates/verify", content=b"{}")
    assert (answer.status_code, problem(answer)) == (500, Kind.INTERNAL)
    assert str(home) not in answer.text


@pytest.fixture
def served(start, program, home):
    """``mbd serve`` in a process of its own: its address."""
    process = start(program, "serve", "--home", home, "--listen", "127.0.0.1:0")
    address = process.stdout.readline().removeprefix("Listening: ").strip()
    assert address.startswith("http://127.0.0.1:"), process.communicate()
    yield address
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 0


def test_a_served_log_is_one_that_monitors_follow(served, mbd, home, tmp_path):
    (vkey,) = (home / "published").glob("log-key-*.vkey")
    state = tmp_path / "seen"
    done = mbd("ledger", "monitor", served, "--vkey", vkey.read_text().strip(), "--state", state, "--once", "--json")
    assert done.code == 0, done.out
    assert httpx.get(f"{served}/readyz").json()["status"] == "ready"


def test_there_is_nothing_to_serve_without_a_deployment(mbd, home, tmp_path):
    refused = mbd("serve", "--home", tmp_path / "none")
    assert refused.code == 1
    assert "begin with" in refused.err
    Path(tmp_path / "empty").mkdir()
    refused = mbd("serve", "--home", tmp_path / "empty")
    assert (refused.code, "are not complete" in refused.err) == (1, True)
    (home / "mbd.sqlite3").unlink()
    refused = mbd("serve", "--home", home)
    assert (refused.code, "mbd db upgrade" in refused.err) == (1, True)
