"""The monitor against logs that grow, fork, go back, lie or are silent, in folders and behind a real HTTP server."""

import gzip
import json
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from certs import checkpoint as checkpoints
from certs.checkpoint import Checkpoint
from certs.encoding import decode_base64
from certs.errors import CertificateError
from certs.keys import Ed25519Signer, PublicKey
from certs.merkle import leaf_hash, verify_consistency
from certs.note import NoteKey
from certs.tiles import encode_entries
from mbd.errors import LogAlarmError, MonitorError, UnreachableLogError
from mbd.workflow.log_source import FolderSource, HttpSource, open_source
from mbd.workflow.monitor import Alarm, look, look_patiently

ORIGIN = "example.org/log"
AT = datetime(2026, 3, 1, tzinfo=UTC)
SIGNER = Ed25519Signer.generate()
KEY = NoteKey(ORIGIN, PublicKey.from_spki(SIGNER.public_key))
OTHER = Ed25519Signer.generate()
BOMB = gzip.compress(bytes(1 << 24))


@cache
def mth(entries: tuple[bytes, ...]) -> bytes:
    """RFC 6962 section 2.1."""
    if len(entries) < 2:
        return leaf_hash(entries[0]) if entries else sha256(b"").digest()
    k = 1
    while 2 * k < len(entries):
        k *= 2
    return sha256(b"\x01" + mth(entries[:k]) + mth(entries[k:])).digest()


def note_of(entries: tuple[bytes, ...], *, origin: str = ORIGIN, signer: Ed25519Signer = SIGNER) -> str:
    return checkpoints.sign(Checkpoint(origin, len(entries), mth(entries)), [signer], at=AT)


def serve_log(folder: Path, entries: tuple[bytes, ...], *, note: str | None = None) -> None:
    """What another implementation of tlog-tiles would put there: two levels of tiles, and nothing that is older."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "checkpoint").write_text(note or note_of(entries))
    for level, count in ((0, len(entries)), (1, len(entries) // 256)):
        for n in range(-(-count // 256)):
            width = min(256, count - 256 * n)
            name = f"{n:03}" if width == 256 else f"{n:03}.p/{width}"
            span = 256**level
            hashes = [mth(entries[i * span : (i + 1) * span]) for i in range(256 * n, 256 * n + width)]
            put(folder / f"tile/{level}/{name}", b"".join(hashes))
            if level == 0:
                put(folder / f"tile/entries/{name}", encode_entries(entries[256 * n : 256 * n + width]))


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def entries_to(size: int, *, changed: int | None = None) -> tuple[bytes, ...]:
    return tuple(b"other" if index == changed else b"entry %d" % index for index in range(size))


class Handler(SimpleHTTPRequestHandler):
    """Static files, without a word on standard error; a few paths misbehave."""

    def log_message(self, *_arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked[self.path] += 1
        misbehave = self.server.misbehave.get(self.path)
        if misbehave is None:
            super().do_GET()
        else:
            misbehave(self)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def server(tmp_path: Path, folder: Path, monkeypatch) -> Iterator[ThreadingHTTPServer]:
    """Serves `folder` below /log on the loopback."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *arguments: Handler(*arguments, directory=str(tmp_path)))
    server.asked, server.misbehave = Counter(), {}
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(params=["folder", "http"])
def place(request, folder: Path) -> str:
    """The log's address, of each kind in turn."""
    if request.param == "folder":
        return str(folder)
    return f"http://127.0.0.1:{request.getfixturevalue('server').server_port}/log/"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "seen" / "log.state"


def evidence_beside(state: Path) -> list[Path]:
    return [path for path in state.parent.iterdir() if path != state] if state.parent.exists() else []


def answer(status: int, body: bytes = b"", **headers: str) -> Callable[[Handler], None]:
    def send(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return send


def test_it_follows_a_growing_log_and_reads_every_entry_once(place, folder, state):
    previous, told = 0, []
    with open_source(place) as source:
        for size in (1, 2, 255, 256, 300, 300, 700):
            serve_log(folder, entries_to(size))
            told.clear()
            seen = look(source, [KEY], state, progress=lambda *step: told.append(step))
            assert (seen.checkpoint.size, seen.previous_size, seen.new_entries) == (size, previous, size - previous)
            assert seen.checkpoint.root == mth(entries_to(size))
            assert state.read_text() == note_of(entries_to(size))
            assert sum(seen.kinds.values()) == size - previous
            assert told[-1:] == ([(size - previous,) * 2] if size > previous else [])
            previous = size
    assert evidence_beside(state) == []


def test_it_counts_the_kinds_that_it_knows(folder, state):
    ours = [b'{"kind":"hashedrekord"}', b'{"kind":"notice"}', b'{"kind":"notice","a":1}']
    foreign = [b"", b"\xff", b"[1]", b'{"kind":7}', b'{"kind":"somebody\'s"}', b'{"kind":"notice","kind":"notice"}']
    serve_log(folder, tuple(ours + foreign))
    assert look(FolderSource(folder), [KEY], state).kinds == {"hashedrekord": 1, "notice": 2, "other": 6}


def test_the_empty_log_is_followed_from_its_beginning(folder, state):
    serve_log(folder, ())
    assert look(FolderSource(folder), [KEY], state).checkpoint.size == 0
    serve_log(folder, entries_to(3))
    assert look(FolderSource(folder), [KEY], state).new_entries == 3


@pytest.mark.parametrize("size", [300, 301, 700])
def test_another_history_of_what_was_seen_is_a_fork_for_ever(place, folder, state, size):
    honest, forked = entries_to(300), entries_to(size, changed=17)
    serve_log(folder, honest)
    with open_source(place) as source:
        look(source, [KEY], state)
        serve_log(folder, forked)
        with pytest.raises(LogAlarmError, match="has forked") as alarm:
            look_patiently(source, [KEY], state, sleep=refuse_to_sleep)
        for root in (mth(honest), mth(forked)):
            assert root.hex() in alarm.value.message
        assert state.read_text() == note_of(honest)
        (evidence,) = evidence_beside(state)
        assert (alarm.value.alarm, alarm.value.evidence) == (Alarm.FORK, evidence)
        serve_log(folder, honest)
        with pytest.raises(LogAlarmError, match="alarm earlier") as again:
            look(source, [KEY], state)
        assert again.value.evidence == evidence
    kept = json.loads(evidence.read_text())
    assert (kept["remembered"], kept["received"]) == (note_of(honest), note_of(forked))
    if size > 300:  # the evidence alone shows that the second checkpoint has another beginning
        prefix = decode_base64(kept["prefixRoot"])
        assert prefix != mth(honest)
        proof = [decode_base64(value) for value in kept["consistencyProof"]]
        verify_consistency(300, size, prefix, mth(forked), proof)


def test_two_roots_for_one_size_are_a_fork_whatever_else_is_served(folder, state):
    serve_log(folder, entries_to(3))
    look(FolderSource(folder), [KEY], state)
    shutil.rmtree(folder / "tile")
    (folder / "checkpoint").write_text(note_of(entries_to(3, changed=1)))
    with pytest.raises(LogAlarmError, match="has forked"):
        look(FolderSource(folder), [KEY], state)


def test_a_smaller_size_is_an_alarm_for_ever(place, folder, state):
    serve_log(folder, entries_to(300))
    with open_source(place) as source:
        look(source, [KEY], state)
        serve_log(folder, entries_to(299))
        with pytest.raises(LogAlarmError, match=r"has gone back.* size 300 .* size 299 ") as alarm:
            look(source, [KEY], state)
        assert alarm.value.alarm == Alarm.ROLLBACK
        serve_log(folder, entries_to(301))
        with pytest.raises(LogAlarmError, match="rollback"):
            look(source, [KEY], state)
        (evidence,) = evidence_beside(state)
        evidence.unlink()  # its owner has decided
        assert look(source, [KEY], state).new_entries == 1


def refuse_to_sleep(_seconds: float) -> None:
    raise AssertionError("an alarm is not tried again")


@pytest.mark.parametrize(
    "note",
    [
        "",
        "nonsense",
        note_of(entries_to(301)).replace("301", "302"),
        note_of(entries_to(301), signer=OTHER),
        note_of(entries_to(299), signer=OTHER),
        note_of(entries_to(301), origin="example.org/other", signer=OTHER),
        checkpoints.sign(Checkpoint(ORIGIN, 301, bytes(32)), [SIGNER], at=AT),
    ],
)
def test_what_does_not_verify_is_an_error_and_no_alarm(folder, state, note):
    serve_log(folder, entries_to(300))
    look(FolderSource(folder), [KEY], state)
    serve_log(folder, entries_to(301))
    (folder / "checkpoint").write_text(note)
    with pytest.raises(UnreachableLogError):
        look(FolderSource(folder), [KEY], state)
    assert state.read_text() == note_of(entries_to(300))
    assert evidence_beside(state) == []
    serve_log(folder, entries_to(301))
    assert look(FolderSource(folder), [KEY], state).new_entries == 1


@pytest.mark.parametrize("name", ["tile/0/000", "tile/0/002.p/188", "tile/1/000.p/2", "tile/entries/002.p/188"])
@pytest.mark.parametrize(
    "damage", [lambda data: None, lambda data: data[:-1], lambda data: data[:-1] + b"!", lambda _: b""]
)
def test_a_file_that_is_missing_or_wrong_is_an_error_and_nothing_is_remembered(place, folder, state, name, damage):
    serve_log(folder, entries_to(700))
    data = damage((folder / name).read_bytes())
    (folder / name).unlink()
    if data is not None:
        (folder / name).write_bytes(data)
    with open_source(place) as source, pytest.raises(UnreachableLogError):
        look(source, [KEY], state)
    assert not state.exists()


def test_a_log_that_comes_back_is_followed_after_a_pause(folder, state):
    pauses = []

    def come_back(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            serve_log(folder, entries_to(5))

    assert look_patiently(FolderSource(folder), [KEY], state, sleep=come_back).checkpoint.size == 5
    assert pauses == [2, 4]
    shutil.rmtree(folder)
    with pytest.raises(UnreachableLogError, match="no checkpoint"):
        look_patiently(FolderSource(folder), [KEY], state, sleep=pauses.append)
    assert len(pauses) == 4


def test_a_state_of_another_log_or_other_keys_is_refused(folder, state):
    serve_log(folder, entries_to(5))
    look(FolderSource(folder), [KEY], state)
    other_log = NoteKey("example.org/other", PublicKey.from_spki(OTHER.public_key))
    (folder / "checkpoint").write_text(note_of(entries_to(6), origin=other_log.name, signer=OTHER))
    with pytest.raises(MonitorError, match=r"remembers example.org/log, but this is example.org/other"):
        look(FolderSource(folder), [KEY, other_log], state)
    with pytest.raises(MonitorError, match="no checkpoint that these keys signed"):
        look(FolderSource(folder), [other_log], state)
    state.write_bytes(b"\xff")
    with pytest.raises(MonitorError, match="no checkpoint that these keys signed"):
        look(FolderSource(folder), [KEY], state)


def test_a_new_key_of_the_log_takes_over_while_both_are_known(folder, state):
    serve_log(folder, entries_to(5))
    look(FolderSource(folder), [KEY], state)
    new = NoteKey(ORIGIN, PublicKey.from_spki(OTHER.public_key))
    serve_log(folder, entries_to(6), note=note_of(entries_to(6), signer=OTHER))
    assert look(FolderSource(folder), [KEY, new], state).new_entries == 1


@pytest.mark.parametrize(
    ("path", "misbehaviour"),
    [
        ("/log/checkpoint", (answer(500), "answers 500")),
        ("/log/checkpoint", (answer(204), "answers 204")),
        ("/log/checkpoint", (answer(302, location="http://127.0.0.1:9/log/checkpoint"), "redirects to")),
        ("/log/checkpoint", (answer(301, location="/log/tile/0/000.p/5"), "redirects to")),
        ("/log/checkpoint", (answer(200, b"x" * (1 << 18)), "more than the 131072 bytes")),
        (
            "/log/checkpoint",
            (answer(200, gzip.compress(bytes(1 << 24)), content_encoding="gzip"), "more than the 131072"),
        ),
        ("/log/checkpoint", (answer(200, b"not gzip", content_encoding="gzip"), "/log/checkpoint: ")),
        ("/log/checkpoint", (answer(200, b"short", content_length="100"), "/log/checkpoint: ")),
        ("/log/tile/0/000.p/5", (answer(200, bytes(8193)), "more than the 160 bytes")),
        ("/log/tile/entries/000.p/5", (answer(200, bytes(5 * 65_537 + 1)), "more than the 327685 bytes")),
    ],
)
def test_a_server_that_misbehaves_is_an_error(server, folder, state, path, misbehaviour):
    serve_log(folder, entries_to(5))
    server.misbehave[path], said = misbehaviour
    with HttpSource(f"http://127.0.0.1:{server.server_port}/log") as source:
        with pytest.raises(UnreachableLogError) as failure:
            look(source, [KEY], state)
        assert said in failure.value.message
        server.misbehave.clear()
        assert look(source, [KEY], state).checkpoint.size == 5


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_server_may_have_removed_partial_files_and_may_compress(server, folder, state, status):
    serve_log(folder, entries_to(256))
    tile, bundle = (folder / f"tile/{kind}/000" for kind in ("0", "entries"))
    (folder / "checkpoint").write_text(note_of(entries_to(200)))  # not there yet when the checkpoint was asked for
    for kind in ("0", "entries"):
        server.misbehave[f"/log/tile/{kind}/000.p/200"] = answer(status)
    server.misbehave["/log/tile/entries/000"] = answer(200, gzip.compress(bundle.read_bytes()), content_encoding="gzip")
    with HttpSource(f"http://127.0.0.1:{server.server_port}/log") as source:
        assert look(source, [KEY], state).checkpoint.size == 200
    assert tile.exists()


def test_nothing_is_asked_for_twice_at_one_look(server, folder, state):
    serve_log(folder, entries_to(700))
    with HttpSource(f"http://127.0.0.1:{server.server_port}/log") as source:
        look(source, [KEY], state)
        assert set(server.asked.values()) == {1}
        assert len(server.asked) == 1 + 3 + 3 + 1
        server.asked.clear()
        serve_log(folder, entries_to(701))
        look(source, [KEY], state)
    assert set(server.asked) == {
        "/log/checkpoint",
        "/log/tile/0/002.p/189",
        "/log/tile/1/000.p/2",
        "/log/tile/entries/002.p/189",
    }


def test_nobody_at_that_address_is_an_error(server, state):
    port = server.server_port
    server.server_close()
    for place in (f"http://127.0.0.1:{port}/log", "http://", "https://[::1/x"):
        with open_source(place) as source, pytest.raises(UnreachableLogError):
            look(source, [KEY], state)


def test_a_folder_that_cannot_be_read_is_an_error(folder, state):
    (folder / "checkpoint").mkdir(parents=True)
    with pytest.raises(UnreachableLogError, match="cannot be read"):
        look(FolderSource(folder), [KEY], state)


def test_only_names_of_a_log_are_asked_for(folder):
    with pytest.raises(CertificateError):
        FolderSource(folder).fetch("../secret")
