"""``mbd witness serve`` as any log meets it: over HTTP, from many sides at once, and after it was killed."""

import json
import random
import signal
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import httpx
import pytest
from typer.testing import CliRunner

from certs import checkpoint as checkpoints
from certs.keys import Algorithm
from certs.note import parse_lines, split
from certs.witness import MAX_BYTES
from mbd.cli.app import app
from mbd.workflow.witness import open_witness

DIES = """
import os, signal, sys
from mbd.cli.app import app
from mbd.workflow import witness

write, when = witness.write_durably, sys.argv.pop(1)

def write_and_die(path, data):
    if when == "after":
        write(path, data)
    os.kill(os.getpid(), signal.SIGKILL)

witness.write_durably = write_and_die
app()
"""


def remembered(url, log):
    answer = httpx.get(f"{url}/{sha256(log.key.name.encode()).hexdigest()}/checkpoint")
    return answer.text if answer.status_code == 200 else answer.status_code


def size_remembered(url, log):
    return checkpoints.parse(remembered(url, log)).size


@pytest.mark.parametrize("algorithm", [Algorithm.ED25519, Algorithm.ML_DSA_44])
def test_a_growing_log_gets_cosignatures_that_everybody_can_fetch(serve_witness, tmp_path, log, algorithm):
    witness = serve_witness(tmp_path / "w1", log.key, algorithm=algorithm)
    assert remembered(witness.url, log) == 404
    for old, new in ((0, 3), (3, 3), (3, 10)):
        answer = log.submit(witness.url, old, new)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        assert checkpoints.verify(log.note(new) + answer.text, [log.key, *witness.keys])[1] == (log.key, *witness.keys)
        note = remembered(witness.url, log)
        assert note == log.note(new) + answer.text
        assert checkpoints.verify(note, [log.key, *witness.keys])[1] == (log.key, *witness.keys)


def test_each_refusal_has_its_code_and_type(serve_witness, tmp_path, log, any_log):
    witness = serve_witness(tmp_path / "w1", log.key)
    assert log.submit(witness.url, 0, 5).status_code == 200
    conflict = log.submit(witness.url, 3, 7)
    assert (conflict.status_code, conflict.headers["content-type"], conflict.text) == (409, "text/x.tlog.size", "5\n")
    fork, stranger = any_log(entry="another"), any_log("other.example")
    fork.signer = log.signer
    assert fork.submit(witness.url, 5, 7).status_code == 422
    assert any_log().submit(witness.url, 5, 7).status_code == 403
    assert stranger.submit(witness.url, 0, 7).status_code == 404
    assert log.submit(witness.url, 7, 5).status_code == 400
    assert remembered(witness.url, stranger) == 404
    post = f"{witness.url}/add-checkpoint"
    assert httpx.post(post, content=b"nonsense").status_code == 400
    assert httpx.post(post, content=b"x" * MAX_BYTES).status_code == 400
    assert httpx.post(post, content=b"x" * (MAX_BYTES + 1)).status_code == 413
    assert httpx.get(post).status_code == 405
    for path in ("docs", "openapi.json", "redoc", "name", "ed25519.pem/checkpoint", "..%2fname/checkpoint"):
        assert httpx.get(f"{witness.url}/{path}").status_code == 404
    assert size_remembered(witness.url, log) == 5


def test_every_request_is_a_line_of_json_and_a_fork_is_kept_whole(serve_witness, tmp_path, log, any_log):
    witness = serve_witness(tmp_path / "w1", log.key)
    fork = any_log(entry="another")
    fork.signer = log.signer
    log.submit(witness.url, 0, 5)
    fork.submit(witness.url, 5, 7)
    httpx.post(f"{witness.url}/add-checkpoint", content=b"nonsense")
    assert witness.stop() == 0
    lines = [json.loads(line) for line in witness.said.read_text().splitlines()]
    assert [line["status"] for line in lines] == [200, 422, 400]
    assert (lines[0]["origin"], lines[0]["old"], lines[0]["size"]) == (log.key.name, 0, 5)
    assert fork.note(7) in lines[1]["request"]


def test_it_stops_on_sigterm_after_the_answer_that_it_owes(serve_witness, tmp_path, log):
    witness = serve_witness(tmp_path / "w1", log.key)
    host, _, port = witness.url.removeprefix("http://").partition(":")
    body = log.request(0, 5).encode()
    with socket.create_connection((host, int(port))) as half:
        half.sendall(b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: %d\r\n\r\n" % len(body))
        half.sendall(body[:10])
        assert log.submit(witness.url, 1, 5).status_code == 409  # it serves others meanwhile
        witness.process.send_signal(signal.SIGTERM)
        half.sendall(body[10:])
        assert half.makefile("rb").readline().startswith(b"HTTP/1.1 200")
    assert witness.process.wait(timeout=60) == 0


def test_it_remembers_after_it_was_started_again(serve_witness, tmp_path, log):
    first = serve_witness(tmp_path / "w1", log.key)
    assert log.submit(first.url, 0, 5).status_code == 200
    assert first.stop(signal.SIGKILL) == -signal.SIGKILL
    second = serve_witness(tmp_path / "w1", log.key)
    assert log.submit(second.url, 0, 7).text == "5\n"
    assert log.submit(second.url, 5, 7).status_code == 200


@pytest.mark.parametrize(("when", "size"), [("before", 0), ("after", 5)])
def test_a_witness_killed_beside_its_write_heals_by_the_conflict(serve_witness, tmp_path, log, when, size):
    dying = serve_witness(tmp_path / "w1", log.key, program=("-c", DIES, when))
    with pytest.raises(httpx.HTTPError):
        log.submit(dying.url, 0, 5)
    assert dying.process.wait(timeout=60) == -signal.SIGKILL
    again = serve_witness(tmp_path / "w1", log.key)
    answer = log.submit(again.url, 3, 5)
    assert (answer.status_code, answer.text) == (409, f"{size}\n")
    assert log.submit(again.url, size, 5).status_code == 200
    assert size_remembered(again.url, log) == 5


def test_many_requests_at_once_on_two_processes_make_one_history(serve_witness, tmp_path, log):
    """From each remembered size at most one request leads on: a second one would have rolled the first back."""
    urls = [serve_witness(tmp_path / "w1", log.key).url for _ in range(2)]

    def climb(seed):
        chance, old, steps = random.Random(seed), 0, []  # noqa: S311 - no secret
        with httpx.Client() as client:
            while old < len(log.leaves):
                new = min(old + chance.randrange(1, 4), len(log.leaves))
                answer = log.submit(chance.choice(urls), old, new, client)
                if answer.status_code == 200:
                    steps.append((old, new))
                    old = new
                else:
                    assert answer.status_code == 409
                    told = int(answer.text)
                    assert told >= old
                    old = told
        return steps

    with ThreadPoolExecutor(8) as pool:
        steps = [step for each in pool.map(climb, range(8)) for step in each]
    assert max(Counter(old for old, _ in steps).values()) == 1
    assert sorted(new for _, new in steps)[:-1] == sorted(old for old, _ in steps)[1:]
    assert size_remembered(urls[0], log) == size_remembered(urls[1], log) == len(log.leaves)


def test_a_witness_knows_the_logs_of_its_file_too(serve_witness, tmp_path, log, any_log):
    other = any_log("other.example")
    serve_witness(tmp_path / "w1", log.key).stop()
    (tmp_path / "w1" / "logs").write_text(f"# of others\n\n{other.key.vkey}\n")
    witness = serve_witness(tmp_path / "w1", log.key)
    assert [each.submit(witness.url, 0, 5).status_code for each in (log, other)] == [200, 200]
    assert size_remembered(witness.url, other) == 5


def test_what_is_damaged_is_not_taken_for_nothing(serve_witness, tmp_path, log):
    witness = serve_witness(tmp_path / "w1", log.key)
    assert log.submit(witness.url, 0, 5).status_code == 200
    path = tmp_path / "w1" / "checkpoints" / sha256(log.key.name.encode()).hexdigest()
    good = path.read_text()
    for damaged in ("", good[:20], good.replace(log.key.name, "other.example")):
        path.write_text(damaged)
        assert [log.submit(witness.url, old, 7).status_code for old in (0, 5)] == [500, 500]
        assert path.read_text() == damaged
    path.write_text(good)
    assert log.submit(witness.url, 5, 7).status_code == 200


def test_a_client_that_goes_away_does_no_harm(serve_witness, tmp_path, log):
    witness = serve_witness(tmp_path / "w1", log.key)
    host, _, port = witness.url.removeprefix("http://").partition(":")
    for _ in range(3):
        with socket.create_connection((host, int(port))) as half:
            half.sendall(b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: 1000\r\n\r\nold 0\n")
    assert log.submit(witness.url, 0, 5).status_code == 200
    assert witness.stop() == 0
    assert "Traceback" not in witness.said.read_text()


def test_the_name_of_a_log_with_many_keys_is_one_log(serve_witness, tmp_path, log, any_log):
    second = any_log()
    second.leaves = log.leaves
    witness = serve_witness(tmp_path / "w1", log.key, second.key)
    assert log.submit(witness.url, 0, 5).status_code == 200
    assert second.submit(witness.url, 5, 7).status_code == 200
    assert [line.key_id for line in split(remembered(witness.url, log))[1]] == [
        second.key.key_id,
        witness.keys[0].key_id,
    ]


def mbd(*arguments):
    """The command in this process: nothing here comes to serving."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_witness_is_made_once_and_shown_as_policies_want_it(tmp_path):
    home = tmp_path / "w"
    both = ("--algorithm", "ed25519", "--algorithm", "ml-dsa-44")
    made = json.loads(mbd("witness", "init", "--home", home, "--name", "witness.example/w", *both, "--json").stdout)
    assert json.loads(mbd("witness", "show", "--home", home, "--json").stdout) == made
    assert made["vkeys"] == [key.vkey for key in open_witness(home, passphrase=None).keys]
    assert {(home / name).stat().st_mode & 0o777 for name in ("ed25519.pem", "ml-dsa-44.pem")} == {0o600}
    again = mbd("witness", "init", "--home", home, "--name", "witness.example/w")
    assert (again.exit_code, "already" in again.stderr) == (1, True)


@pytest.mark.parametrize("variable", ["MBD_KEY_PASSPHRASE", "MBD_KEY_PASSPHRASE_FILE"])
def test_a_witnesss_keys_are_encrypted_with_the_passphrase_of_the_settings(tmp_path, monkeypatch, variable):
    file, home = tmp_path / "passphrase", tmp_path / "w"
    file.write_text("correct horse")
    file.chmod(0o600)
    monkeypatch.setenv(variable, str(file) if variable.endswith("FILE") else "correct horse")
    assert mbd("witness", "init", "--home", home, "--name", "w.example").exit_code == 0
    assert b"ENCRYPTED PRIVATE KEY" in (home / "ed25519.pem").read_bytes()
    assert mbd("witness", "show", "--home", home).exit_code == 0
    monkeypatch.delenv(variable)
    refused = mbd("witness", "show", "--home", home)
    assert (refused.exit_code, "MBD_KEY_PASSPHRASE_FILE" in refused.stderr.replace("\n", "")) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--home", "w", "--log", "x"), "verifier key is not usable"),
        (("--home", "w"), "knows no log"),
        (("--home", "nowhere"), "There is no witness"),
        (("--home", "w", "--listen", "8081"), "not HOST:PORT"),
        (("--home", "w", "--listen", "127.0.0.1:x"), "not HOST:PORT"),
        (("--home", "w", "--listen", "127.0.0.1:65536"), "not HOST:PORT"),
        (("--home", "w", "--listen", "no host:0"), "cannot be listened on"),
        (("--home", "w", "--listen", "a..b:0"), "cannot be listened on"),
    ],
)
def test_a_witness_that_cannot_serve_says_why(tmp_path, log, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert mbd("witness", "init", "--home", "w", "--name", "w.example").exit_code == 0
    more = ("--log", log.key.vkey) if "--listen" in arguments else ()
    done = mbd("witness", "serve", *arguments, *more)
    assert (done.exit_code, said in done.stderr) == (1, True), done.stderr


@pytest.mark.parametrize("name", ["", "two words", "a+b", "w" * 256])
def test_a_name_that_no_signature_line_can_hold_is_refused(tmp_path, name):
    done = mbd("witness", "init", "--home", tmp_path / "w", "--name", name)
    assert (done.exit_code, (tmp_path / "w").exists()) == (1, False)
    assert "cannot name a key" in done.stderr or "more than 255 bytes" in done.stderr


def test_time_moves_the_cosignature_and_not_the_checkpoint(serve_witness, tmp_path, log):
    witness = serve_witness(tmp_path / "w1", log.key)
    before = int(time.time())
    (line,) = parse_lines(log.submit(witness.url, 0, 5).text)
    assert before <= int.from_bytes(line.signature[:8]) <= time.time()
