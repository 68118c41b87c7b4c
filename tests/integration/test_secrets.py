"""Passphrases, PINs and private keys stay where they belong: real processes, searched from outside."""

import base64
import json
import logging
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from certs.key_files import load_signer
from mbd.cohort import folder
from mbd.cohort.modality import Modality
from mbd.cohort.synthetic import Subjects, synthetic_cohort
from mbd.settings import Settings
from mbd.workflow.revocation import revoke
from mbd.workflow.signers import external_signer
from mbd.workflow.system import open_system

MBD = Path(sys.prefix) / "bin" / "mbd"
PASSPHRASE = "seven wet horses and a battery"


def environment(**more):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MBD_", "OMP_"))}
    return kept | {"OMP_NUM_THREADS": "1"} | more


def forms(secret: bytes) -> set[bytes]:
    """How a secret's bytes can stand in a file or a message."""
    return {
        secret,
        secret.hex().encode(),
        secret.hex().upper().encode(),
        base64.b64encode(secret).rstrip(b"="),
        base64.urlsafe_b64encode(secret).rstrip(b"="),
        str(int.from_bytes(secret, "big")).encode(),
        repr(secret).encode(),
    }


def secrets_of(home: Path) -> dict[str, set[bytes]]:
    """Everything secret of a deployment, by name, in every form."""
    found = {"passphrase": forms(PASSPHRASE.encode())}
    for path in sorted((home / "keys").iterdir()):
        if path.suffix == ".secret":
            found[path.name] = forms(path.read_bytes())
            continue
        private = load_signer(path, passphrase=PASSPHRASE.encode()).private_key
        if path.name.startswith("log-"):
            found[path.name] = forms(private.private_bytes_raw())
        else:
            found[path.name] = forms(private.private_numbers().private_value.to_bytes(32, "big"))
        found[path.name] |= {line for line in path.read_bytes().splitlines()[1:-1] if len(line) > 20}
    return found


def shown_in(content: bytes, secrets: dict[str, set[bytes]]) -> list[str]:
    return [name for name, ways in secrets.items() if any(way in content for way in ways)]


@dataclass
class Watched:
    """What commands said, and the command lines of them and of everything that they started."""

    said: bytes = b""
    lines: set[bytes] = field(default_factory=set)

    def run(self, *command, **variables):
        process = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(**variables)
        )
        ended = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(process.pid, ended))
        watcher.start()
        out, err = process.communicate()
        ended.set()
        watcher.join()
        self.said += out + err
        return process.returncode, out, err

    def _watch(self, root, ended):
        while not ended.wait(0.05):
            waiting = [root]
            while waiting:
                place = Path(f"/proc/{waiting.pop()}")
                try:
                    self.lines.add((place / "cmdline").read_bytes())
                    for task in (place / "task").iterdir():
                        waiting += (task / "children").read_text("ascii").split()
                except OSError:  # it ended meanwhile
                    continue


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """A deployment with encrypted keys, made and trained (by two processes) under watch; then a voice is withdrawn."""
    if not Path("/proc/self/task").is_dir():
        pytest.skip("there is no /proc in which command lines can be seen")
    base = tmp_path_factory.mktemp("story")
    home, watched = base / "home", Watched()
    cohort = synthetic_cohort(subjects=Subjects(5, 2, 6, 2), clips=5)
    person = next(row.subject for row in cohort.rows if row.partition.value == "revocable")
    folder.write(cohort, base / "cohort", key=b"k" * 32)
    (base / "recipe.toml").write_text("epochs = 1\n[options]\nwidth = 8\nproperty_width = 8\n")
    (base / "passphrase").write_text(PASSPHRASE + "\n")
    (base / "passphrase").chmod(0o600)
    in_file, in_environment = {"MBD_KEY_PASSPHRASE_FILE": str(base / "passphrase")}, {"MBD_KEY_PASSPHRASE": PASSPHRASE}
    for command, variables in (
        (("keys", "init"), in_file),
        (("train", base / "cohort", "--recipe", base / "recipe.toml", "--processes", 2), in_environment),
    ):
        code, out, err = watched.run(MBD, *command, "--home", home, **variables)
        assert code == 0, out + err
    with open_system(Settings(home=home, key_passphrase=PASSPHRASE), create=False) as system:
        revoke(system, [(person, Modality.AUDIO)])
    return home, watched


def test_command_lines_and_output_hold_no_secret(story):
    home, watched = story
    assert any(b"spawn_main" in line for line in watched.lines), "the processes that train were seen"
    assert any(b"--processes" in line for line in watched.lines)
    assert shown_in(b"\n".join(watched.lines) + watched.said, secrets_of(home)) == []


def test_no_file_but_the_keys_holds_a_secret(story):
    home, _ = story
    secrets = secrets_of(home)
    files = [path for path in sorted(home.rglob("*")) if path.is_file()]
    found = {str(path.relative_to(home)): shown_in(path.read_bytes(), secrets) for path in files}
    assert {name: what for name, what in found.items() if what and not name.startswith("keys/")} == {}
    in_keys = {name: what for name, what in found.items() if name.startswith("keys/")}
    assert in_keys == {f"keys/{name}": [name] for name in secrets if name != "passphrase"}, "the search finds"


def test_the_database_its_log_and_its_dump_hold_no_secret(story, tmp_path):
    home, _ = story
    shutil.copytree(home, tmp_path / "home")
    secrets = secrets_of(home)
    settings = Settings(home=tmp_path / "home", key_passphrase=PASSPHRASE)
    with open_system(settings, create=False) as system, system.engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE busy (n INTEGER)")
        connection.commit()
        beside = [path for path in (tmp_path / "home").glob("mbd.sqlite3*") if path.stat().st_size]
        assert {path.name for path in beside} >= {"mbd.sqlite3", "mbd.sqlite3-wal"}
        assert shown_in(b"".join(path.read_bytes() for path in beside), secrets) == []
    with sqlite3.connect(tmp_path / "home" / "mbd.sqlite3") as connection:
        dump = "\n".join(connection.iterdump())
    connection.close()
    assert "INSERT INTO" in dump
    assert shown_in(dump.encode(), secrets) == []


@pytest.fixture(scope="module")
def mbd(tmp_path_factory):
    """``mbd("keys", "show", broken=("module", "Class.method"), MBD_X="y")`` logs everything: exit code, all it said."""
    said = tmp_path_factory.mktemp("said")
    with subprocess.Popen(
        [sys.executable, Path(__file__).parent / "breaking_mbd.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as warm:

        def run(*words, broken=None, **variables):
            order = {"broken": broken, "words": [str(word) for word in words], "environment": environment(**variables)}
            order |= {name: str(said / name) for name in ("stdout", "stderr")}
            warm.stdin.write(json.dumps(order) + "\n")
            warm.stdin.flush()
            return int(warm.stdout.readline()), b"".join((said / name).read_bytes() for name in ("stdout", "stderr"))

        yield run
        warm.stdin.close()


@pytest.mark.parametrize("style", [(), ("--json",)], ids=["for people", "json"])
@pytest.mark.parametrize(
    ("broken", "command"),
    [
        (("certs.keys", "EcdsaP256Signer.sign"), ("keys", "init")),
        (("certs.keys", "Ed25519Signer.sign"), ("keys", "init")),
        (("mbd.records.ledger", "append"), ("keys", "init")),
        (("certs.key_files", "load_pem_private_key"), ("keys", "show")),
        (("mbd.workflow.keyring", "NoiseSource.__init__"), ("keys", "show")),
    ],
    ids=lambda value: value[1],
)
def test_a_traceback_and_every_log_record_hold_no_secret(mbd, broken, command, style, tmp_path):
    home, variables = ("--home", tmp_path / "home"), {"MBD_KEY_PASSPHRASE": PASSPHRASE}
    if command == ("keys", "show"):
        assert mbd("keys", "init", *home, **variables)[0] == 0
    code, said = mbd(*command, *home, *style, broken=broken, **variables)
    assert code == 1
    assert b"Traceback" in said
    assert b"RuntimeError: planted" in said
    assert not style or b'"type": "RuntimeError"' in said
    assert command == ("keys", "show") or b"INFO:alembic" in said
    assert shown_in(said, secrets_of(tmp_path / "home")) == []


@pytest.mark.parametrize("style", [(), ("--json",)], ids=["for people", "json"])
def test_a_wrong_passphrase_is_not_repeated(mbd, style, tmp_path):
    home = ("--home", tmp_path / "home")
    assert mbd("keys", "init", *home, MBD_KEY_PASSPHRASE=PASSPHRASE)[0] == 0
    (tmp_path / "wrong").write_text("eight dry horses")
    (tmp_path / "wrong").chmod(0o600)
    variable, file = {"MBD_KEY_PASSPHRASE": "eight dry horses"}, {"MBD_KEY_PASSPHRASE_FILE": str(tmp_path / "wrong")}
    for wrong in (variable, file, variable | file):
        code, said = mbd("ledger", "fsck", *home, *style, **wrong)
        assert code == 1
        assert b"MBD_KEY_PASSPHRASE_FILE" in said
        assert b"horses" not in said


@pytest.mark.parametrize("style", [(), ("--json",)], ids=["for people", "json"])
def test_a_pin_is_nowhere_whether_it_is_right_or_wrong_or_signing_fails(mbd, token, style, tmp_path):
    (tmp_path / "wrong").write_text("2718-2818")
    (tmp_path / "wrong").chmod(0o600)
    variables = {"MBD_CERTIFICATE_KEY": token.uri, "MBD_HOME": str(tmp_path / "token-home")}
    right, wrong = {"MBD_TOKEN_PIN_FILE": str(token.pin_file)}, {"MBD_TOKEN_PIN_FILE": str(tmp_path / "wrong")}
    everything = b""
    for broken, pin, expected, needed in (
        (("securesystemslib.signer", "HSMSigner.sign"), right, 1, b"planted"),
        (("mbd.workflow.signers", "PublicKey.verifies"), right, 1, b"RuntimeError: planted"),
        (None, wrong, 1, b"PinIncorrect"),
        (None, {"MBD_TOKEN_PIN": "2718-2818"}, 1, b"PinIncorrect"),
        (None, right, 0, b"published"),
    ):
        code, said = mbd("keys", "init", *style, broken=broken, **variables, **pin)
        assert code == expected, said
        assert needed in said
        everything += said
    everything += b"".join(path.read_bytes() for path in (tmp_path / "token-home").rglob("*") if path.is_file())
    assert token.pin.encode() not in everything
    assert b"2718-2818" not in everything


def test_nothing_that_holds_a_secret_shows_it_or_can_be_pickled(token, tmp_path, caplog):
    with caplog.at_level(logging.DEBUG):
        settings = Settings(
            home=tmp_path / "here",
            key_passphrase=PASSPHRASE,
            certificate_key=token.uri,
            token_pin=token.pin,
        )
        on_disk = Settings(home=tmp_path / "there", key_passphrase=PASSPHRASE, database_url=None)
        for given in (settings, on_disk):
            with open_system(given, create=True) as system:
                keyring = system.keyring
                holders = [given, system, keyring, keyring.certificate, keyring.logs[0], keyring.noise]
                shown = [text(each) for each in holders for text in (repr, str, "{}".format, "{!a:>9}".format)]
                shown += [repr(vars(given)), given.model_dump_json(), caplog.text]
                secrets = secrets_of(given.state) | {"PIN": forms(token.pin.encode())}
                assert shown_in("\n".join(shown).encode(), secrets) == []
                for holder in (system, keyring, keyring.certificate, keyring.logs[0]):
                    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
                        pickle.dumps(holder)
    with pytest.raises(TypeError, match="neither pickled nor copied"):
        pickle.dumps(external_signer(settings)._pin)


ABORT = """
import ctypes, os, resource, sys
from pathlib import Path
hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
if sys.argv[1] == "opened":
    from mbd.settings import Settings
    from mbd.workflow.system import open_system
    with open_system(Settings(home=Path("home")), create=True):
        pass
if sys.platform == "linux":
    print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), flush=True)  # PR_GET_DUMPABLE
print(resource.getrlimit(resource.RLIMIT_CORE) == (0, 0), flush=True)
os.abort()
"""


def _dump(how, where):
    where.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", ABORT, how], stdout=subprocess.PIPE, cwd=where, env=environment(), text=True
    )
    said = process.stdout.read().split()
    process.stdout.close()
    _, status, _ = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == -6
    return said, os.WCOREDUMP(status), [path.name for path in where.iterdir() if path.name.startswith("core")]


def test_a_process_that_opened_the_keys_leaves_no_core_dump(tmp_path):
    said, dumped, files = _dump("opened", tmp_path / "opened")
    assert said == ["0", "True"][-len(said) :]
    assert (dumped, files) == (False, [])


def test_a_process_that_opened_no_keys_does_where_the_system_lets_it(tmp_path):
    """So the test above can fail."""
    _, dumped, _ = _dump("not", tmp_path / "not")
    if not dumped:
        pytest.skip("this system makes no core dumps at all")
