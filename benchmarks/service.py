"""The service under load: filing, reading, a batch that is worked off; on SQLite, and on PostgreSQL with two workers.

    OMP_NUM_THREADS=1 python -m benchmarks.service [--requests N --leaves N --batch N --seconds N]

Writes ``benchmarks/results/service.json``, from which ``benchmarks.readme`` makes the table of docs/operations.md. API
and workers are processes of their own, the clients threads of this one, on the same cores: what is measured is all of
them together. Every filing has an Idempotency-Key, and is looked for in the database afterwards.
"""

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
from sqlalchemy import func, insert, select, text

from benchmarks import postgresql
from benchmarks.ledger import bodies, say
from mbd.cli.api_keys import ROLES
from mbd.cohort.cohort import Partition, Split
from mbd.cohort.synthetic import Subjects, synthetic_cohort
from mbd.records import api_keys, fsck, ledger, requests, tables
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.lifecycle import State
from mbd.settings import Settings
from mbd.training.recipe import Recipe
from mbd.workflow.log import sign_checkpoint
from mbd.workflow.system import System, open_system
from mbd.workflow.training import train_line

TARGET = Path(__file__).with_name("results") / "service.json"
RECIPE = Recipe(epochs=2, options={"width": 8, "property_width": 8})
CLIENTS = 8
READS = 400
PROGRAM = Path(sys.prefix) / "bin" / "mbd"


@dataclass(frozen=True)
class Deployment:
    """A deployment on disk, and the keys of those who call."""

    home: Path
    database: str | None
    agent: str
    officer: str

    @property
    def settings(self) -> Settings:
        """Of the deployment."""
        return Settings(home=self.home, database_url=self.database)

    @property
    def environment(self) -> dict[str, str]:
        """Of its processes."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MBD_")}
        more = {"MBD_RATE_PER_MINUTE": "0", "MBD_LOG_LEVEL": "error", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        return kept | more | ({} if self.database is None else {"MBD_DATABASE_URL": self.database})


def deploy(home: Path, people: int, database: str | None = None) -> tuple[Deployment, list[str]]:
    """A deployment with one line, and the names of those people in it who may withdraw."""
    cohort = synthetic_cohort(subjects=Subjects(12, 4, people, 2), clips=2, missing=0.0)
    rows = [row for row in cohort.rows if (row.partition, row.split) == (Partition.REVOCABLE, Split.TRAIN)]
    settings = Settings(home=home, database_url=database)
    with open_system(settings, create=True) as system:
        train_line(system, cohort, RECIPE, line="main", seed=0)
        keys = [_key(system, role) for role in ("agent", "officer")]
    return Deployment(home, database, *keys), list(dict.fromkeys(row.subject for row in rows))


def _key(system: System, role: str) -> str:
    with begin_locked(system.engine) as connection:
        now = system.clock()
        _, token = api_keys.create(
            connection, label=role, scopes=ROLES[role], at=now, expires_at=now + timedelta(days=1)
        )
    return token


@contextmanager
def running(deployment: Deployment, *command: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process of the deployment, and the last word of its first line, until the block ends."""
    process = subprocess.Popen(
        [PROGRAM, *command, "--home", deployment.home], env=deployment.environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None, "it is a pipe"
    try:
        yield process, process.stdout.readline().split()[-1]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        process.stdout.close()


def client_of(url: str, token: str) -> httpx.Client:
    """Somebody who calls."""
    return httpx.Client(base_url=url, headers={"authorization": f"Bearer {token}"}, timeout=60, trust_env=False)


def together(work: Callable[[int], None]) -> None:
    """Do it in as many threads as there are clients; each is given its number."""
    threads = [Thread(target=work, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def file_for(url: str, deployment: Deployment, seconds: float) -> dict[str, Any]:
    """File as fast as the clients can, for some seconds; then look for each request in the database."""
    filed: list[list[str]] = [[] for _ in range(CLIENTS)]
    until = time.perf_counter() + seconds

    def work(number: int) -> None:
        with client_of(url, deployment.agent) as client:
            while time.perf_counter() < until:
                key = f"{number}-{len(filed[number])}"
                answer = client.post(
                    "/v1/revocations",
                    json={"subject": f"person-{key}", "modalities": ["audio"]},
                    headers={"idempotency-key": key},
                )
                filed[number].append(answer.raise_for_status().json()["id"])

    started = time.perf_counter()
    together(work)
    took = time.perf_counter() - started
    ids = [each for mine in filed for each in mine]
    with open_system(deployment.settings, create=False) as system, begin_snapshot(system.engine) as connection:
        stored = {each.id for each in requests.in_states(connection, {State.FILED})}
    return {"per_second": len(ids) / took, "filed": len(ids), "lost": len(set(ids) - stored), "seconds": took}


def memory_of(process: subprocess.Popen[str]) -> float:
    """Resident megabytes."""
    (line,) = (each for each in Path(f"/proc/{process.pid}/status").read_text("utf-8").splitlines() if "VmRSS" in each)
    return int(line.split()[1]) / 1024


def import_seconds() -> float:
    """The median of five times that importing the application takes, in a new interpreter."""
    program = "import time; t = time.perf_counter(); import api.app; print(time.perf_counter() - t)"
    times = [
        float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)
        for _ in range(5)
    ]
    return statistics.median(times)


def fill(deployment: Deployment, many: int, leaves: int) -> str:
    """As many requests and leaves as a large deployment has. Returns the id of a request.

    Rows go in by statements of their own, because filing them over the API is what was measured before.
    """
    with open_system(deployment.settings, create=False) as system:
        now = system.clock()
        with begin_locked(system.engine) as connection:
            agent = connection.scalar(select(tables.api_key.c.id).where(tables.api_key.c.label == "agent"))
            for first in range(0, many, 10_000):
                rows = [_request(n, agent, now) for n in range(first, min(first + 10_000, many))]
                connection.execute(insert(tables.revocation), [row for row, _ in rows])
                connection.execute(insert(tables.revocation_event), [event for _, event in rows])
        while True:
            with begin_locked(system.engine) as connection:
                if ledger.head(connection).size >= leaves:
                    break
                ledger.append_many(connection, bodies(ledger.head(connection).size))
        sign_checkpoint(system)
    return _id(many // 2)


def _id(number: int) -> str:
    return f"rev-{number:016x}"


def _request(number: int, agent: str | None, now: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    at = now - timedelta(seconds=number)
    key = f"{number:064x}"
    row = {
        "id": _id(number),
        "digest": key,
        "regime": "gdpr",
        "scope": [{"subject_key": key, "modality": "audio"}],
        "requested_at": at,
        "due": (at + timedelta(days=30)).date(),
        "state": State.FILED.value if number % 10 == 0 else State.COMPLETED.value,
        "changed_at": at,
        "extended": False,
        "filed_by": agent,
        "subject_key": key,
    }
    event = {"revocation_id": _id(number), "number": 0, "action": "file", "state": "filed", "role": "subject"}
    return row, event | {"actor": agent, "at": at, "reason": None}


def read(url: str, deployment: Deployment, request: str) -> dict[str, dict[str, float]]:
    """Milliseconds of every read: median and 99th percentile, one client at a time."""
    paths = {
        "one request": f"/v1/revocations/{request}",
        "its steps": f"/v1/revocations/{request}/events",
        "a page of 50": "/v1/revocations",
        "the 50 most urgent": "/v1/revocations?sort=due",
        "models": "/v1/models",
        "which models saw a voice": "/v1/lineage?subject=synthetic-020&modality=audio",
        "checkpoint": "/checkpoint",
        "a tile": "/tile/0/000",
        "readiness": "/readyz",
    }
    found = {}
    with client_of(url, deployment.officer) as client:
        for name, path in paths.items():
            times = []
            for n in range(-20, READS):
                started = time.perf_counter()
                client.get(path).raise_for_status()
                if n >= 0:
                    times.append(time.perf_counter() - started)
            times.sort()
            found[name] = {"median_ms": statistics.median(times) * 1e3, "p99_ms": times[int(READS * 0.99)] * 1e3}
    return found


def work_off(url: str, deployment: Deployment, people: list[str], workers: int) -> dict[str, Any]:
    """Everybody withdraws their voice; officers approve, workers delete. What came of it is counted."""
    with client_of(url, deployment.agent) as agent, client_of(url, deployment.officer) as officer:
        started = time.perf_counter()
        ids = [
            agent.post("/v1/revocations", json={"subject": who, "modalities": ["audio"]})
            .raise_for_status()
            .json()["id"]
            for who in people
        ]
        for each in ids:
            officer.post(f"/v1/revocations/{each}/verify-identity", json={}).raise_for_status()
        asked = time.perf_counter() - started
        with _workers(deployment, workers):  # all of them are ready before there is anything to do
            started = time.perf_counter()
            decided = officer.post("/v1/revocations/decisions", json={"ids": ids, "decision": "approve"})
            assert {each["state"] for each in decided.raise_for_status().json()["decided"]} == {"approved"}
            while officer.get(f"/v1/revocations/{ids[-1]}").json()["state"] not in ("completed", "failed"):
                time.sleep(0.2)
            took = time.perf_counter() - started
    with open_system(deployment.settings, create=False) as system, begin_snapshot(system.engine) as connection:
        states = [requests.get(connection, each).state.value for each in ids]
        return {
            "requests": len(ids),
            "asking_seconds": asked,
            "seconds": took,
            "workers": workers,
            "completed": states.count("completed"),
            "certificates": connection.scalar(select(func.count()).select_from(tables.certificate)),
            "versions": connection.scalar(select(func.count()).select_from(tables.model_version)),
            "ledger_whole": fsck.fsck(connection, verify_note=system.keyring.read_checkpoint).ok,
        }


@contextmanager
def _workers(deployment: Deployment, count: int) -> Iterator[None]:
    if count == 0:
        yield
        return
    with running(deployment, "worker"), _workers(deployment, count - 1):
        yield


def on_sqlite(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """All of it."""
    say("SQLite: a deployment")
    deployment, people = deploy(folder / "sqlite", arguments.batch)
    found: dict[str, Any] = {"import_seconds": import_seconds()}
    with running(deployment, "serve", "--listen", "127.0.0.1:0") as (process, url):
        say("SQLite: filing")
        found["filing"] = file_for(url, deployment, arguments.seconds)
        say(f"SQLite: {arguments.batch:,} people withdraw their voice")
        found["batch"] = work_off(url, deployment, people, 1)
        say(f"SQLite: {arguments.requests:,} requests and {arguments.leaves:,} leaves")
        request = fill(deployment, arguments.requests, arguments.leaves)
        say("SQLite: reading")
        found["reads"] = read(url, deployment, request)
        found["api_megabytes"] = memory_of(process)
    return found


def on_postgresql(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """The same work with two workers; what counts is that it comes out right."""
    with postgresql.serve(fsync=True) as url:
        say("PostgreSQL: a deployment")
        deployment, people = deploy(folder / "postgresql", min(arguments.batch, 100), url)
        with running(deployment, "serve", "--listen", "127.0.0.1:0") as (_, address):
            say("PostgreSQL: filing")
            filing = file_for(address, deployment, arguments.seconds)
            say("PostgreSQL: two workers")
            batch = work_off(address, deployment, people, 2)
        with open_system(deployment.settings, create=False) as system, begin_snapshot(system.engine) as connection:
            version = connection.scalar(text("SHOW server_version"))
    return {"filing": filing, "batch": batch, "server_version": version}


def main() -> None:
    """Measure, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--leaves", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=15)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mbd-service-") as folder:
        found = {
            "requests": arguments.requests,
            "leaves": arguments.leaves,
            "clients": CLIENTS,
            "sqlite": on_sqlite(Path(folder), arguments),
            "postgresql": on_postgresql(Path(folder), arguments),
            "environment": {"python": platform.python_version(), "cores": os.cpu_count()},
        }
    TARGET.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    say(f"Written: {TARGET.name}")


if __name__ == "__main__":
    main()
