"""Our log and its witnesses: who cosigns, what waits for whom, and what a fork or a rollback looks like to them."""

import shutil
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256

import httpx
import pytest
from sqlalchemy import text

from certs import checkpoint as checkpoints
from certs import policy as policies
from certs.errors import CertificateError, Code
from certs.keys import Algorithm, Ed25519Signer, PublicKey
from certs.note import NoteKey, SignatureType, parse_lines
from certs.policy import NONE, Policy, PolicyLog, PolicyWitness, build_policy
from certs.proof import parse as parse_proof
from mbd.errors import ForkAlarmError, LedgerError, SettingsError, WitnessError
from mbd.records import cosignatures, ledger
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.fsck import fsck
from mbd.settings import Settings
from mbd.workflow.cosigning import collect, verify_note
from mbd.workflow.log import commit_to_noise, cosigned_checkpoint, sign_checkpoint
from mbd.workflow.system import open_system
from mbd.workflow.witness_client import Ahead, Refused, Silent, ask

ED, ML = Algorithm.ED25519, Algorithm.ML_DSA_44


@contextmanager
def foreign_witness(answer: bytes) -> Iterator[str]:
    """A server that answers everything with these bytes; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            with ExitStack() as stack:
                while True:
                    try:
                        connection, _ = listening.accept()
                    except OSError:
                        return
                    stack.enter_context(connection)
                    connection.recv(1 << 16)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def reply(status: int, body: bytes, *, length: int | None = None) -> bytes:
    return (
        b"HTTP/1.1 %d X\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        % (status, len(body) if length is None else length)
        + body
    )


def signed_by(system, note):
    policy = policies.parse(system.settings.witness_policy.read_bytes())
    return {key.name for key in policy.check(note)[2]}


def test_without_a_policy_the_checkpoint_is_the_logs_alone(world):
    system = world.deploy()
    assert cosigned_checkpoint(system) == sign_checkpoint(system)


def test_all_witnesses_cosign_each_checkpoint_and_are_asked_once(world):
    witnesses = [world.serve(name, algorithm=algorithm) for name, algorithm in (("w1", ED), ("w2", ML))]
    system = world.deploy(witness_policy=world.policy(*witnesses))
    for body in (b"one", b"two"):
        world.grow(system, body)
        cosigned = cosigned_checkpoint(system)
        plain = sign_checkpoint(system)
        assert (cosigned.head, cosigned.note.startswith(plain.note)) == (plain.head, True)
        assert signed_by(system, cosigned.note) == {"witness.example/w1", "witness.example/w2"}
    for witness in witnesses:
        witness.stop()
    assert cosigned_checkpoint(system) == cosigned
    assert [witness.said.read_text().count("add-checkpoint") for witness in witnesses] == [2, 2]


def test_a_witness_is_told_from_where_the_proof_leads_and_asked_again(world):
    """A witness that cosigned for a log that has forgotten it: 409 once, then the proof from there."""
    witness = world.serve("w1")
    plain = world.deploy()
    note = sign_checkpoint(plain).note
    assert httpx.post(f"{witness.url}/add-checkpoint", content=f"old 0\n\n{note}").status_code == 200
    system = world.deploy(witness_policy=world.policy(witness))
    world.grow(system, b"one", b"two")
    assert signed_by(system, cosigned_checkpoint(system).note) == {"witness.example/w1"}
    assert '"status": 409' in witness.said.read_text()


def test_a_rolled_back_log_raises_the_alarm_even_if_its_remembered_checkpoint_was_restored_with_it(world):
    policy = world.policy(world.serve("w1"))
    shutil.copytree(world.folder / "home", world.folder / "backup")
    system = world.deploy(witness_policy=policy)
    world.grow(system, b"one", b"two")
    cosigned_checkpoint(system)
    restored = world.deploy("backup", witness_policy=policy)
    with pytest.raises(ForkAlarmError, match=r"witness.example/w1.*rolled back.*3 leaves, we have 1") as alarm:
        cosigned_checkpoint(restored)
    assert isinstance(alarm.value, LedgerError)
    assert "issue nothing" in alarm.value.remedy


@pytest.mark.parametrize("more", [2, 5])
def test_a_forked_log_raises_the_alarm(world, more):
    witness = world.serve("w1")
    policy = world.policy(witness, quorum="none")  # no quorum excuses a fork
    shutil.copytree(world.folder / "home", world.folder / "other")
    one, other = world.deploy(witness_policy=policy), world.deploy("other", witness_policy=policy)
    world.grow(one, b"one", b"two")
    known = cosigned_checkpoint(one)
    world.grow(other, *(b"another %d" % n for n in range(more)))
    with pytest.raises(ForkAlarmError, match="looks forked"):
        cosigned_checkpoint(other)
    origin_hash = sha256(world.key.name.encode()).hexdigest()
    assert httpx.get(f"{witness.url}/{origin_hash}/checkpoint").text == known.note
    assert '"status": 422' in witness.said.read_text()


def test_one_of_two_witnesses_is_enough_for_any_and_not_for_all(world):
    here, gone = (world.serve(name) for name in ("w1", "w2"))
    gone.stop()
    system = world.deploy(witness_policy=world.policy(here, gone, quorum="any"))
    assert signed_by(system, cosigned_checkpoint(system).note) == {"witness.example/w1"}
    world.grow(system, b"one")
    system = world.deploy(witness_policy=world.policy(here, gone, quorum="all"))
    with pytest.raises(WitnessError, match=r"1 of 2 .*witness.example/w2: it cannot be reached") as waiting:
        cosigned_checkpoint(system)
    assert not isinstance(waiting.value, LedgerError)
    again = world.serve("w2", port=int(gone.url.rpartition(":")[2]))
    assert signed_by(system, cosigned_checkpoint(system).note) == {"witness.example/w1", "witness.example/w2"}
    assert here.said.read_text().count("add-checkpoint") == 2
    assert again.said.read_text().count("add-checkpoint") == 1


def test_without_a_quorum_a_witness_that_is_gone_holds_nothing_up(world):
    witness = world.serve("w1")
    witness.stop()
    system = world.deploy(witness_policy=world.policy(witness, quorum="none"))
    assert cosigned_checkpoint(system) == sign_checkpoint(system)


def test_a_witness_that_does_not_know_the_log_says_so(world, log):
    system = world.deploy(witness_policy=world.policy(world.serve("w1", log.key)))
    with pytest.raises(WitnessError, match="it answered 404: This witness does not know the log"):
        cosigned_checkpoint(system)


def test_a_policy_for_other_logs_is_refused_before_anybody_is_asked(world, log):
    path = world.folder / "policy"
    path.write_bytes(build_policy(Policy((PolicyLog(log.key),), (), (), NONE)))
    with pytest.raises(SettingsError, match="does not list this log"):
        cosigned_checkpoint(world.deploy(witness_policy=path))
    path.write_bytes(build_policy(Policy((PolicyLog(log.key), PolicyLog(world.key)), (), (), NONE)))
    assert cosigned_checkpoint(world.deploy(witness_policy=path)).head.size == 1
    path.write_text("quorum")
    with pytest.raises(CertificateError) as failure:
        cosigned_checkpoint(world.deploy(witness_policy=path))
    assert failure.value.code is Code.POLICY_MALFORMED


def test_a_checkpoint_that_others_have_overtaken_is_signed_anew(world):
    system = world.deploy(witness_policy=world.policy(world.serve("w1")))
    late = sign_checkpoint(system)
    world.grow(system, b"one")
    assert cosigned_checkpoint(system).head.size == 2
    assert collect(system, late) is None
    assert cosigned_checkpoint(system).head.size == 2


def test_many_processes_of_one_log_cosign_without_losing_a_leaf(world):
    policy = world.policy(*(world.serve(name) for name in ("w1", "w2")))

    def work(number):
        with open_system(Settings(home=world.folder / "home", witness_policy=policy), create=False) as system:
            for turn in range(3):
                world.grow(system, b"%d %d" % (number, turn))
                cosigned = cosigned_checkpoint(system)
                assert signed_by(system, cosigned.note) == {"witness.example/w1", "witness.example/w2"}

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    system = world.deploy(witness_policy=policy)
    assert cosigned_checkpoint(system).head.size == 1 + 4 * 3
    with begin_snapshot(system.engine) as connection:
        assert fsck(connection, verify_note=verify_note(system)).ok


def test_fsck_finds_a_cosignature_that_was_changed(world):
    system = world.deploy(witness_policy=world.policy(world.serve("w1")))
    cosigned_checkpoint(system)
    with begin_locked(system.engine) as connection:
        ((name, line),) = cosignatures.cosignatures(connection, 1).items()
        (said,) = parse_lines(line)
        changed = replace(said, signature=said.signature[:-1] + bytes([said.signature[-1] ^ 1]))
        connection.execute(text("DROP TRIGGER cosignature_no_update"))
        connection.execute(text("UPDATE cosignature SET line = :line"), {"line": changed.text})
        report = fsck(connection, verify_note=verify_note(system))
    assert [problem.place for problem in report.problems] == [f"cosignature 1 by {name}"]
    with pytest.raises(CertificateError) as failure:
        cosigned_checkpoint(system)
    assert failure.value.code is Code.CHECKPOINT_SIGNATURE_INVALID


def test_the_noise_commitment_is_logged_at_once_and_published_when_witnesses_answer(world):
    witness = world.serve("w1")
    published = world.folder / "home" / "published" / "noise-commitment.sigstore.json"
    published.unlink()
    witness.stop()
    port = int(witness.url.rpartition(":")[2])
    system = world.deploy(witness_policy=world.policy(witness))
    assert (commit_to_noise(system), published.exists()) == (False, False)
    world.serve("w1", port=port)
    assert (commit_to_noise(system), published.exists()) == (True, True)
    assert "witness.example/w1" in published.read_text("utf-8")


def test_a_first_cosignature_stays(world):
    system = world.deploy()
    sign_checkpoint(system)
    with begin_locked(system.engine) as connection:
        cosignatures.keep_cosignatures(connection, 1, {"w": "first", "v": "other"})
        cosignatures.keep_cosignatures(connection, 1, {"w": "second", "u": "third"})
        assert cosignatures.cosignatures(connection, 1) == {"u": "third", "v": "other", "w": "first"}
        assert cosignatures.cosigned_sizes(connection) == {"u": 1, "v": 1, "w": 1}
    with begin_snapshot(system.engine) as connection, pytest.raises(LedgerError, match="lock"):
        cosignatures.keep_cosignatures(connection, 1, {"t": "late"})


WITNESS = Ed25519Signer.generate()
KEY = NoteKey("w.example", PublicKey.from_spki(WITNESS.public_key), SignatureType.COSIGNATURE_ED25519)


def question(log, url, **more):
    return ask(PolicyWitness("w", KEY, url), log.note(5), lambda old: [], known=0, **more)


def cosignature(log, name=KEY.name, signer=WITNESS, at=None, size=5):
    return checkpoints.cosign(checkpoints.parse(log.note(size)), name, signer, at=at or datetime.now(UTC)).text.encode()


def test_lines_of_others_in_the_answer_are_ignored(log):
    foreign = cosignature(log, "v.example", Ed25519Signer.generate())
    with foreign_witness(reply(200, foreign + cosignature(log) + foreign)) as url:
        line = question(log, url)
    assert line.is_of(KEY)
    assert checkpoints.verify(log.note(5) + line.text, [log.key, KEY])[1] == (log.key, KEY)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda log: reply(200, b""), "not usable"),
        (lambda log: reply(200, b"yes\n"), "not usable"),
        (lambda log: reply(200, b"\xff\xfe"), "not usable"),
        (lambda log: reply(200, cosignature(log)[:-1]), "not usable"),
        (lambda log: reply(200, cosignature(log, size=6)), "not usable"),
        (lambda log: reply(200, cosignature(log, "v.example")), "no cosignature"),
        (lambda log: reply(200, cosignature(log, at=datetime.fromtimestamp(0, UTC))), "no cosignature with a time"),
        (lambda log: reply(200, cosignature(log) * 2000), "not usable"),
        (lambda log: reply(409, b"nine\n"), "409 without a size"),
        (lambda log: reply(409, b"3\n"), "another size each time"),
        (lambda log: reply(404, b"no\nsuch   log" + b"x" * 1000), "it answered 404: no such log"),
        (lambda log: reply(301, b""), "it answered 301"),
        (lambda log: reply(500, b""), "it answered 500"),
        (lambda log: b"nonsense\r\n\r\n", "cannot be reached"),
        (lambda log: b"", "cannot be reached"),
        (lambda log: reply(200, b"\xe2\x80\x94", length=1000), "cannot be reached"),
    ],
)
def test_an_answer_that_is_no_cosignature_is_silence_with_a_reason(log, answer, reason):
    with foreign_witness(answer(log)) as url:
        said = question(log, url, seconds=0.5)
    assert isinstance(said, Silent)
    assert reason in said.reason
    assert len(said.reason) < 300


def test_a_larger_size_is_ahead_and_a_refusal_is_told(log):
    with foreign_witness(reply(409, b"6\n")) as url:
        assert question(log, url) == Ahead(6)
    with foreign_witness(reply(422, b"forked\n")) as url:
        assert question(log, url) == Refused("forked")


def test_an_answer_that_never_ends_is_cut_off(log):
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip():
            connection, _ = listening.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 200 X\r\nContent-Length: 100000\r\n\r\n")
                try:
                    while True:
                        connection.sendall(b"x")
                        stop.wait(0.02)
                except OSError:
                    return

        stop = threading.Event()
        thread = threading.Thread(target=drip)
        thread.start()
        said = question(log, f"http://127.0.0.1:{listening.getsockname()[1]}", seconds=0.3)
        thread.join()
    assert isinstance(said, Silent)
    assert "took too long" in said.reason


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "ftp://127.0.0.1", "nowhere", "http://[::1", "http://127.0.0.1:99999"]
)
def test_an_address_that_leads_nowhere_is_silence(log, url):
    assert "cannot be reached" in question(log, url).reason


def test_the_proof_command_carries_the_cosignatures(world, monkeypatch):
    from typer.testing import CliRunner

    from mbd.cli.app import app

    policy = world.policy(world.serve("w1"))
    monkeypatch.setenv("MBD_WITNESS_POLICY", str(policy))
    for command in (["ledger", "prove", "0"], ["ledger", "checkpoint"], ["ledger", "fsck"]):
        done = CliRunner().invoke(app, [*command, "--home", str(world.folder / "home")])
        assert done.exit_code == 0, done.output
        if command[1] != "fsck":
            note = parse_proof(done.stdout).checkpoint if command[1] == "prove" else done.stdout
            assert policies.parse(policy.read_bytes()).check(note)[2]
    with begin_snapshot(world.deploy().engine) as connection:
        assert ledger.head(connection).size == 1
