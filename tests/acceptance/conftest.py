"""The program as people and programs run it, and one demo for all tests, copied for whoever changes it."""

import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Standard output as the one JSON object that it must be; NaN and the like are no JSON."""

        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is not JSON")

        value = json.loads(self.out, parse_constant=refuse)
        assert isinstance(value, dict)
        return value


Run = Callable[..., Done]


def environment(**more: str) -> dict[str, str]:
    """This process's environment without settings of ours, on a narrow terminal, with more."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MBD_", "OMP_"))}
    return kept | {"COLUMNS": "80", "OMP_NUM_THREADS": "1"} | more


@pytest.fixture(scope="session")
def program() -> Path:
    """The installed program."""
    return Path(sys.prefix) / "bin" / "mbd"


@pytest.fixture(scope="session")
def start() -> Callable[..., subprocess.Popen[str]]:
    """``start("openssl", "version")`` starts any program, with `environment`."""

    def popen(*command: object, cwd: Path | None = None, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            list(map(str, command)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            env=environment(**variables),
        )

    return popen


@pytest.fixture(scope="session")
def run(start) -> Run:
    """The same, to its end."""

    def communicate(*command: object, cwd: Path | None = None, **variables: str) -> Done:
        process = start(*command, cwd=cwd, **variables)
        out, err = process.communicate()
        return Done(process.returncode, out, err)

    return communicate


@pytest.fixture(scope="session")
def installed(run, program) -> Run:
    """``installed("keys", "show", "--home", home)`` runs the installed program."""
    return partial(run, program)


@dataclass(frozen=True)
class Warm:
    """A process that has loaded torch already and forks commands."""

    process: subprocess.Popen[str]
    folder: Path
    numbers: Iterator[int] = field(default_factory=count)

    def order(self, **order: Any) -> int:
        """See ``warm_mbd.py``."""
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def begin(self, *arguments: object, stays: bool, **variables: str) -> tuple[int, Path, Path]:
        """Its answer to a command, and where the command's output is."""
        number = next(self.numbers)
        out, err = self.folder / f"{number}.out", self.folder / f"{number}.err"
        words, variables = [str(argument) for argument in arguments], environment(**variables)
        answer = self.order(arguments=words, environment=variables, stdout=str(out), stderr=str(err), stays=stays)
        return answer, out, err


@dataclass(frozen=True)
class Service:
    """A command that stays."""

    warm: Warm
    process: int
    out: Path
    err: Path

    def end(self, number: int) -> Done:
        """Send it a signal, and wait for its end."""
        os.kill(self.process, number)
        return Done(self.warm.order(process=self.process), self.out.read_text(), self.err.read_text())


@pytest.fixture(scope="session")
def warm(tmp_path_factory) -> Iterator[Warm]:
    """One such process for all."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.acceptance.warm_mbd"],
        cwd=Path(__file__).resolve().parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        yield Warm(process, tmp_path_factory.mktemp("warm"))
        process.stdin.close()


@pytest.fixture(scope="session")
def mbd(warm) -> Run:
    """The same as `installed`, from a process that has loaded torch already."""

    def run(*arguments: object, **variables: str) -> Done:
        code, out, err = warm.begin(*arguments, stays=False, **variables)
        return Done(code, out.read_text(), err.read_text())

    return run


@pytest.fixture(scope="session")
def service(warm) -> Callable[..., Service]:
    """``service("predictor", "--home", home)`` begins a command that stays, and returns when it has said a line."""

    def begin(*arguments: object, **variables: str) -> Service:
        process, out, err = warm.begin(*arguments, stays=True, **variables)
        ended = os.pidfd_open(process)
        try:
            while not (out.exists() and out.read_text().endswith("\n")):
                assert not select.select([ended], [], [], 0.02)[0], err.read_text()
        finally:
            os.close(ended)
        return Service(warm, process, out, err)

    return begin


@dataclass(frozen=True)
class Demo:
    """What ``mbd demo --json`` left behind and said."""

    home: Path
    json: dict[str, Any]
    err: str

    @property
    def bundle(self) -> Path:
        """Its certificate."""
        return Path(self.json["bundle"])

    @property
    def trusted_root(self) -> Path:
        """What its verifiers trust."""
        return Path(self.json["trusted_root"])


@pytest.fixture(scope="session")
def demo(installed, tmp_path_factory, worker_id) -> Demo:
    """One demo for all; nobody may change it. The first of several workers makes it, the others wait."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    said = shared / "demo.json"
    with (shared / "demo.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            done = installed("demo", "--home", shared / "demo", "--json")
            said.write_text(json.dumps({"code": done.code, "out": done.out, "err": done.err}))
    done = Done(**json.loads(said.read_text()))
    assert done.code == 0, done.err
    return Demo(shared / "demo", done.json, done.err)


@pytest.fixture
def home(demo, tmp_path) -> Path:
    """A copy of the demo's state folder, of the test's own."""
    return shutil.copytree(demo.home, tmp_path / "home")


@pytest.fixture(scope="session")
def people(demo) -> list[str]:
    """Revocable training subjects of the demo whose voice is still there, in order."""
    from mbd.cohort.cohort import Partition, Split
    from mbd.cohort.synthetic import synthetic_cohort

    rows = [row for row in synthetic_cohort().rows if (row.partition, row.split) == (Partition.REVOCABLE, Split.TRAIN)]
    return [subject for subject in dict.fromkeys(row.subject for row in rows) if subject != demo.json["subject"]]


@pytest.fixture
def cohort_folder(tmp_path) -> Path:
    """A small cohort folder whose first revocable people are those of the demo."""
    from mbd.cohort import folder
    from mbd.cohort.synthetic import Subjects, synthetic_cohort

    cohort = synthetic_cohort(subjects=Subjects(24, 8, 4, 2), clips=4)
    folder.write(cohort, tmp_path / "cohort", key=b"k" * 32)
    return tmp_path / "cohort"
