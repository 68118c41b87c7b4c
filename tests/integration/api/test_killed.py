"""The API killed in the middle of POSTs, and the database taken away from it: what was answered is there, and once."""

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from threading import Thread

import httpx
import pytest
from sqlalchemy import func, make_url, select, text

from mbd.cli.api_keys import ROLES
from mbd.records import api_keys, requests, tables
from mbd.records.database import begin_locked, begin_nothing, begin_snapshot, open_database
from mbd.records.lifecycle import Action, State
from mbd.workflow.keyring import create_keyring
from mbd.workflow.office import utc_now

CLIENTS, EACH, KILLS = 4, 12, 3


@pytest.fixture
def home(tmp_path: Path, database_url: str) -> Path:
    """A deployment without a model line: filing needs none."""
    home = tmp_path / "home"
    home.mkdir()
    create_keyring(home, origin="test.example/log", passphrase=None, ml_dsa=False, now=utc_now())
    return home


@pytest.fixture
def token(database_url: str) -> str:
    """Of an agent."""
    engine = open_database(database_url)
    with begin_locked(engine) as connection:
        now = utc_now()
        _, token = api_keys.create(
            connection, label="test", scopes=ROLES["agent"], at=now, expires_at=now + timedelta(hours=1)
        )
    engine.dispose()
    return token


class Served:
    """``mbd serve`` as a process."""

    def __init__(self, home: Path, database_url: str, log: Path) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MBD_")}
        self._log = log.open("a")
        self.process = subprocess.Popen(
            [Path(sys.prefix) / "bin" / "mbd", "serve", "--home", home, "--listen", "127.0.0.1:0"],
            env=kept | {"MBD_DATABASE_URL": database_url, "MBD_RATE_PER_MINUTE": "0", "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[-1]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.close()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(20)
        self.process.stdout.close()
        self._log.close()


def file(url: str, token: str, number: int) -> httpx.Response:
    return httpx.post(
        f"{url}/v1/revocations",
        json={"subject": f"person-{number}", "modalities": ["audio"]},
        headers={"authorization": f"Bearer {token}", "idempotency-key": f"key-{number}"},
        timeout=20,
        trust_env=False,
    )


class Clients:
    """Some that send at once what has no answer yet, each request with a key of its own."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.answered: dict[int, str] = {}

    def send(self, url: str) -> list[Thread]:
        waiting = [number for number in range(CLIENTS * EACH) if number not in self.answered]
        threads = [Thread(target=self._send, args=(url, waiting[i::CLIENTS])) for i in range(CLIENTS)]
        for thread in threads:
            thread.start()
        return threads

    def _send(self, url: str, numbers: list[int]) -> None:
        for number in numbers:
            try:
                answer = file(url, self.token, number)
            except httpx.TransportError:
                return
            assert answer.status_code == 201, answer.text
            self.answered[number] = answer.json()["id"]


def test_what_is_sent_again_after_a_kill_is_there_once(home, database_url, token, tmp_path):
    clients = Clients(token)
    for _ in range(KILLS):
        served = Served(home, database_url, tmp_path / "log")
        enough = len(clients.answered) + 8
        threads = clients.send(served.url)
        while len(clients.answered) < enough:
            time.sleep(0.005)
        served.kill()  # in the middle of others
        for thread in threads:
            thread.join()
    assert 0 < len(clients.answered) < CLIENTS * EACH
    served = Served(home, database_url, tmp_path / "log")
    for thread in clients.send(served.url):
        thread.join()
    for number in range(CLIENTS * EACH):  # whatever was answered is answered again
        assert file(served.url, token, number).json()["id"] == clients.answered[number]
    served.close()
    engine = open_database(database_url)
    with begin_snapshot(engine) as connection:
        stored = requests.in_states(connection, State)
        assert sorted(each.id for each in stored) == sorted(clients.answered.values())
        for each in stored:
            assert [step.action for step in requests.events(connection, each.id)] == [Action.FILE]
        assert connection.scalar(select(func.count()).select_from(tables.idempotency)) == CLIENTS * EACH
    engine.dispose()


@pytest.mark.postgres
def test_a_database_that_went_away_is_said_to_be_and_found_again(tmp_path, request):
    database_url = request.getfixturevalue("postgres_url")
    home = tmp_path / "home"
    home.mkdir()
    create_keyring(home, origin="test.example/log", passphrase=None, ml_dsa=False, now=utc_now())
    engine = open_database(database_url)
    with begin_locked(engine) as connection:
        _, token = api_keys.create(connection, label="test", scopes=ROLES["agent"], at=utc_now())
    served = Served(home, database_url, tmp_path / "log")
    name = make_url(database_url).database
    try:
        assert file(served.url, token, 1).status_code == 201
        with begin_nothing(engine) as connection:
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = :name AND pid <> pg_backend_pid()"
                ),
                {"name": name},
            )
        answers = [file(served.url, token, 2) for _ in range(5)]
        assert {answer.status_code for answer in answers} <= {201, 503}
        assert answers[-1].status_code == 201
        assert {answer.json()["id"] for answer in answers if answer.status_code == 201} == {answers[-1].json()["id"]}
    finally:
        served.close()
        engine.dispose()
