"""``mbd ledger publish`` and ``monitor``: a stranger follows the log by its public files and notices what is wrong."""

import functools
import http.server
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mbd.records import ledger
from mbd.records.database import begin_locked, open_database


@pytest.fixture(scope="module")
def new_home(mbd, tmp_path_factory) -> Path:
    """A deployment with one log entry: the noise commitment."""
    home = tmp_path_factory.mktemp("new") / "home"
    assert mbd("keys", "init", "--home", home).code == 0
    return home


@pytest.fixture
def home(new_home, tmp_path) -> Path:
    return shutil.copytree(new_home, tmp_path / "home")


@pytest.fixture
def vkey(home) -> str:
    (vkey,) = (home / "published").glob("log-key-*.vkey")
    return vkey.read_text().strip()


@pytest.fixture
def grow(mbd):
    """``grow(home, b"one", b"two")``: entries, and a checkpoint over them."""

    def grown(home: Path, *bodies: bytes) -> None:
        engine = open_database(f"sqlite:///{home / 'mbd.sqlite3'}")
        with begin_locked(engine) as connection:
            ledger.append_many(connection, bodies)
        engine.dispose()
        assert mbd("ledger", "checkpoint", "--home", home).code == 0

    return grown


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_public_copy_can_be_made_anew_and_elsewhere(home, grow, mbd, tmp_path):
    grow(home, *(b"entry %d" % n for n in range(300)))
    done = mbd("ledger", "publish", "--home", home, "--json")
    folder = home / "published" / "log"
    assert (done.code, done.json["size"], done.json["folder"], done.json["written"]) == (0, 301, str(folder), 0)
    before = contents(folder)
    shutil.rmtree(folder)
    for options, written in (((), len(before) - 1), (("--out", tmp_path / "copy"), len(before) - 1), ((), 0)):
        assert mbd("ledger", "publish", "--home", home, "--json", *options).json["written"] == written
    assert contents(folder) == contents(tmp_path / "copy") == before
    (folder / "tile/0/000").unlink()
    said = mbd("ledger", "publish", "--home", home)
    assert "Entries: 301. Files that were missing: 1." in said.out
    assert contents(folder) == before


def test_a_changed_public_file_is_refused_and_named(home, mbd):
    tile = home / "published" / "log" / "tile" / "0" / "000.p" / "1"
    tile.write_bytes(bytes(32))
    done = mbd("ledger", "publish", "--home", home, "--json")
    assert (done.code, done.json["error"]["type"]) == (1, "LedgerError")
    assert "tile/0/000.p/1" in done.json["error"]["message"]


def test_a_monitor_follows_raises_an_alarm_and_stays_alarmed(home, vkey, grow, mbd, tmp_path):
    forked, log = shutil.copytree(home, tmp_path / "forked"), home / "published" / "log"
    command = ("--vkey", vkey, "--state", tmp_path / "seen", "--once")
    first = mbd("ledger", "monitor", log, *command, "--json")
    assert first.code == 0, first.out
    assert (first.json["size"], first.json["kinds"], first.json["alarm"]) == (1, {"hashedrekord": 1}, None)
    grow(home, b"one", b"two")
    said = mbd("ledger", "monitor", log, *command)
    assert said.code == 0
    assert "New entries: 2 (other 2). Everything is consistent." in said.out
    grow(forked, b"one", b"three", b"four")
    for _ in range(2):
        alarm = mbd("ledger", "monitor", forked / "published" / "log", *command, "--json")
        assert (alarm.code, alarm.json["alarm"], alarm.json["error"]["type"]) == (1, "fork", "LogAlarmError")
    notes = [(place / "published/log/checkpoint").read_text() for place in (home, forked)]
    kept = json.loads(Path(alarm.json["evidence"]).read_text())
    assert [kept["remembered"], kept["received"]] == notes
    assert mbd("ledger", "monitor", log, *command).code == 1


def test_a_log_that_goes_back_is_told_from_one_that_cannot_be_read(home, vkey, grow, mbd, tmp_path):
    old, log = shutil.copytree(home / "published" / "log", tmp_path / "old"), home / "published" / "log"
    grow(home, b"one")
    command = ("--vkey", vkey, "--state", tmp_path / "seen", "--once", "--json")
    assert mbd("ledger", "monitor", log, *command).code == 0
    silent = mbd("ledger", "monitor", tmp_path / "nowhere", *command)
    assert (silent.code, silent.json["alarm"], silent.json["error"]["type"]) == (1, None, "UnreachableLogError")
    alarm = mbd("ledger", "monitor", old, *command)
    assert (alarm.code, alarm.json["alarm"]) == (1, "rollback")
    assert "another place" in alarm.json["error"]["remedy"]


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Static files, without a word on standard error."""

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def served(home) -> Iterator[str]:
    """The URL of the public copy."""
    handler = functools.partial(Quiet, directory=str(home / "published" / "log"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def following(served, vkey, start, program, tmp_path) -> Iterator[subprocess.Popen[str]]:
    """The installed program, which follows it."""
    options = ("--vkey", vkey, "--state", tmp_path / "seen", "--interval", 1)
    process = start(program, "ledger", "monitor", served, *options, NO_PROXY="127.0.0.1", no_proxy="127.0.0.1")
    yield process
    process.kill()
    process.communicate()


def test_it_goes_on_over_http_until_there_is_an_alarm(home, grow, following):
    checkpoint = home / "published" / "log" / "checkpoint"
    assert "size 1" in wait_for(following, "size ")
    before = checkpoint.read_bytes()
    assert "hashedrekord 1" in wait_for(following, "New entries: 1")
    grow(home, b"one")
    assert "other 1" in wait_for(following, "New entries: 1")
    checkpoint.write_bytes(before)
    _, said = following.communicate()
    assert following.returncode == 1
    assert "has gone back" in said


def wait_for(process, text: str) -> str:
    for line in process.stdout:
        if text in line:
            return line
    raise AssertionError(process.stderr.read())


@pytest.mark.parametrize(
    "options", [("--once", "--interval", "5"), ("--json",), ("--interval", "0"), ("--once", "--vkey", "nonsense")]
)
def test_a_command_line_that_cannot_be_meant_is_refused(home, vkey, mbd, tmp_path, options):
    log = home / "published" / "log"
    done = mbd("ledger", "monitor", log, "--vkey", vkey, "--state", tmp_path / "seen", *options)
    assert done.code == (1 if "nonsense" in options else 2)
    assert not (tmp_path / "seen").exists()
