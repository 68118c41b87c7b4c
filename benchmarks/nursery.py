"""A process that has loaded the libraries and nothing of ours, and forks a child for every program that needs them.

Loading torch and scipy takes longer than most attacks. A child imports our code from the folder that it is given, where
a bug may be planted, as a new interpreter would.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

LIBRARIES = (
    "alembic.command",
    "cryptography.x509",
    "dp_accounting",
    "pyarrow.parquet",
    "pydantic",
    "rich.progress",
    "safetensors.torch",
    "scipy.linalg",
    "scipy.optimize",
    "scipy.sparse.linalg",
    "scipy.stats",
    "sqlalchemy",
    "torch",
    "typer",
)


@dataclass(frozen=True)
class Done:
    """What became of a child.

    Attributes:
        seconds: of processor time.
    """

    stdout: str
    stderr: str
    seconds: float


class Nursery:
    """The process, from ``with`` to its end."""

    def __enter__(self) -> Self:
        """Load the libraries."""
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/"
        )
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """End it."""
        self._process.communicate()

    def run(self, folder: Path, arguments: list[str]) -> Done:
        """Run ``mbd`` with the code in a folder."""
        out, err = folder / "stdout", folder / "stderr"
        assert self._process.stdin is not None and self._process.stdout is not None, "they are pipes"
        self._process.stdin.write(json.dumps({"folder": str(folder), "arguments": arguments}) + "\n")
        self._process.stdin.flush()
        seconds = float(self._process.stdout.readline())
        return Done(out.read_text("utf-8"), err.read_text("utf-8"), seconds)


def _live(folder: str, arguments: list[str]) -> None:
    """Be the program, and end."""
    os.chdir(folder)
    os.environ["TMPDIR"] = folder
    for stream, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT, 0o600), stream)
    sys.path.insert(0, folder)
    sys.dont_write_bytecode = True
    sys.argv = ["mbd", *arguments]
    import mbd.cli.app  # noqa: PLC0415 - from the folder

    assert mbd.__file__ is not None and mbd.__file__.startswith(folder), "the code with the bug is what runs"
    code: object = 1
    try:
        mbd.cli.app.main()
    except SystemExit as end:
        code = end.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0)


def _main() -> None:
    sys.path[:] = [entry for entry in sys.path if Path(entry) != Path(__file__).parent]
    for name in LIBRARIES:
        __import__(name)
    assert "mbd" not in sys.modules, "ours comes from the child's folder"
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            _live(order["folder"], order["arguments"])
        _, _, used = os.wait4(child, 0)
        print(used.ru_utime + used.ru_stime, flush=True)


if __name__ == "__main__":
    _main()
