"""A deployment with two lines on each kind of database, made once and copied for each test; workers that may die."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import make_url

from mbd.cohort.cohort import Partition, Split
from mbd.cohort.modality import Modality
from mbd.cohort.synthetic import Subjects, synthetic_cohort
from mbd.records import certificates, fsck, lifecycle, models, requests, workers
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.lifecycle import Action, State
from mbd.settings import Settings
from mbd.training.recipe import Recipe
from mbd.workflow.filing import file_revocations
from mbd.workflow.jobs.dbos_engine import DbosJobs
from mbd.workflow.system import open_system
from mbd.workflow.training import train_line

PATIENCE_SECONDS = 200  # DBOS' own transaction of a process that was stopped in it ends after 60
RECIPE = Recipe(epochs=1, options={"width": 8, "property_width": 8})
LINES = ("main", "second")


@dataclass
class Started:
    """A worker process."""

    pid: int
    said: Path
    wait: Callable[[], int]

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def sleeps(self) -> bool:
        """Whether SIGSTOP has stopped it."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    @property
    def id(self) -> str:
        """What it calls itself."""
        line = next(each for each in self.said.read_text().splitlines() if each.startswith("Worker: "))
        return line.removeprefix("Worker: ")


@dataclass
class Site:
    """A deployment of a test's own, and its workers.

    Attributes:
        settings: where it is.
        start: starts a worker.
    """

    settings: Settings
    start: Callable[..., Started]
    requests: list[str] = field(default_factory=list)

    @property
    def postgres(self) -> bool:
        return self.settings.database.startswith("postgres")

    @contextmanager
    def open(self):
        with open_system(self.settings, create=False) as system:
            yield system

    def approve(self, *people: str, modality: Modality = Modality.AUDIO) -> list[str]:
        """A request of each, filed and approved."""
        with self.open() as system:
            filed = file_revocations(system, [frozenset({(person, modality)}) for person in people], "gdpr")
        self.requests += [each.id for each in filed]
        return [each.id for each in filed]

    def state(self, request: str) -> State:
        with self.open() as system, begin_snapshot(system.engine) as connection:
            return requests.get(connection, request).state

    def until(self, what: Callable[[], bool]) -> None:
        """Wait for something; it is an error if it does not happen."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not what():
            assert time.monotonic() < end, "it did not happen"
            time.sleep(0.05)

    def finish(self, *at, expected: State = State.COMPLETED) -> None:
        """A worker works until nothing waits, and stops when it is told to."""
        worker = self.start(*at)
        self.until(lambda: "Worker: " in worker.said.read_text())
        with self.open() as system:

            def done():
                with begin_snapshot(system.engine) as connection:
                    return all(requests.get(connection, each).state is expected for each in self.requests)

            try:
                self.until(done)
            except AssertionError:
                raise AssertionError(worker.said.read_text()) from None
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0, worker.said.read_text()

    def bury(self) -> None:
        """Say that every worker is dead, so that the next one need not wait for a silence."""
        with self.open() as system, begin_locked(system.engine) as connection:
            for worker in workers.known(connection):
                workers.stop(connection, worker.id, at=system.clock())

    def check_whole(self, *, done: bool) -> None:
        """At any moment: a log without gap, no certificate twice, no version without its folder; at the end no more."""
        with self.open() as system, begin_snapshot(system.engine) as connection:
            assert fsck.fsck(connection, verify_note=system.keyring.read_checkpoint).ok
            issued = certificates.current(connection)
            pairs = [(each.revocation_id, each.model_line) for each in issued]
            assert len(pairs) == len(set(pairs))
            live = {(each.line, str(each.version)) for each in models.live_versions(connection)}
            folders = {(path.parent.name, path.name) for path in (system.home / "lines").glob("*/*")}
            assert folders == live if done else folders >= live
            for request in self.requests:
                check_events(requests.events(connection, request))
            if done:
                assert set(pairs) == {(request, line) for request in self.requests for line in LINES}
                assert {requests.get(connection, each).state for each in self.requests} == {State.COMPLETED}
                for certificate in issued:
                    assert certificate.bundle is not None
                    assert (system.certificate_folder(certificate.id) / "mdc.sigstore.json").exists()


def check_events(events) -> None:
    """Each follows on the one before by the rules, and nothing was begun or completed twice."""
    state = State.FILED
    for event in events[1:]:
        assert event.state == lifecycle.RULES[event.action].leads[state]
        state = event.state
    actions = [event.action for event in events]
    assert actions.count(Action.COMPLETE) <= 1
    assert actions.count(Action.START) <= 1 + actions.count(Action.RETRY)


@pytest.fixture(scope="session")
def people() -> list[str]:
    """Revocable training subjects, in order."""
    rows = [row for row in _cohort().rows if (row.partition, row.split) == (Partition.REVOCABLE, Split.TRAIN)]
    return list(dict.fromkeys(row.subject for row in rows))


@pytest.fixture(scope="session")
def warm() -> Iterator[subprocess.Popen[str]]:
    """The process that forks workers."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.integration.jobs.warm_worker"],
        cwd=Path(__file__).resolve().parents[3],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.stdin.close()


@pytest.fixture(scope="session")
def trained_sqlite(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("jobs-sqlite") / "home"
    _train(Settings(home=home))
    return home


@pytest.fixture(scope="session")
def new_postgres_urls(postgres_server) -> Iterator[Callable[..., list[str]]]:
    """``new_postgres_urls(1, template)``: databases that last as long as the session."""
    names = []

    def make(n: int, template: str = "template0") -> list[str]:
        made = [f"mbd_jobs_{uuid.uuid4().hex}" for _ in range(n)]
        for name in made:
            _execute(postgres_server, f"CREATE DATABASE {name} TEMPLATE {template}")
        names.extend(made)
        return [make_url(postgres_server).set(database=name).render_as_string(hide_password=False) for name in made]

    yield make
    for name in names:
        _execute(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def trained_postgres(tmp_path_factory, new_postgres_urls) -> tuple[Path, str]:
    home, (url,) = tmp_path_factory.mktemp("jobs-postgres") / "home", new_postgres_urls(1)
    _train(Settings(home=home, database_url=SecretStr(url)))
    return home, str(make_url(url).database)


@pytest.fixture
def sqlite_settings(trained_sqlite, tmp_path) -> Settings:
    return Settings(home=shutil.copytree(trained_sqlite, tmp_path / "home"), worker_silence=2)


@pytest.fixture
def postgres_settings(trained_postgres, new_postgres_urls, tmp_path) -> Settings:
    home, template = trained_postgres
    (url,) = new_postgres_urls(1, template)
    shutil.copytree(home, tmp_path / "home")
    return Settings(home=tmp_path / "home", database_url=SecretStr(url), worker_silence=2)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def site(request, warm, tmp_path) -> Iterator[Site]:
    """A deployment on each kind of database in turn."""
    yield from _site(request.getfixturevalue(f"{request.param}_settings"), warm, tmp_path)


@pytest.fixture
def sqlite_site(sqlite_settings, warm, tmp_path) -> Iterator[Site]:
    yield from _site(sqlite_settings, warm, tmp_path)


@pytest.fixture
def postgres_site(postgres_settings, warm, tmp_path) -> Iterator[Site]:
    yield from _site(postgres_settings, warm, tmp_path)


def _site(settings: Settings, warm: subprocess.Popen[str], folder: Path) -> Iterator[Site]:
    numbers, running = count(), {}

    def ask(order) -> int | None:
        warm.stdin.write(json.dumps(order) + "\n")
        warm.stdin.flush()
        return json.loads(warm.stdout.readline())

    def wait(pid: int) -> int:
        end = time.monotonic() + PATIENCE_SECONDS
        while (code := ask({"poll": pid})) is None:
            assert time.monotonic() < end, running[pid].said.read_text()
            time.sleep(0.05)
        del running[pid]
        return code

    def start(*at) -> Started:
        said = folder / f"worker-{next(numbers)}.log"
        said.touch()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MBD_")}
        environment |= {"MBD_WORKER_SILENCE": "2", "OMP_NUM_THREADS": "1"}
        if settings.database_url is not None:
            environment["MBD_DATABASE_URL"] = settings.database
        order = {"start": ["worker", "--home", str(settings.state)], "at": at, "environment": environment}
        pid = ask({**order, "output": str(said)})
        running[pid] = Started(pid, said, lambda: wait(pid))
        return running[pid]

    yield Site(settings, start)
    for pid in list(running):
        os.kill(pid, signal.SIGKILL)
        wait(pid)


def _cohort():
    return synthetic_cohort(subjects=Subjects(5, 2, 8, 2), clips=4)


def _train(settings: Settings) -> None:
    """Two lines; and the job engine's tables, so that no test waits for them."""
    with open_system(settings, create=True) as system:
        for line in LINES:
            train_line(system, _cohort(), RECIPE, line=line, seed=0)
    with DbosJobs(settings) as jobs, jobs.running("first", lambda request, run_step: None):
        pass


def _execute(server: str, statement: str) -> None:
    url = make_url(server).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)
