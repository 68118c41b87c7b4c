"""A receiver, an authority, a clock and empty records."""

import shutil
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine

from mbd.records.database import open_database, upgrade
from tests.integration.workflow.callbacks.receivers import Authority, Handler, Receiver, Server, certify
from tests.integration.workflow.callbacks.waiting import Clock


@pytest.fixture
def serve() -> Iterator[Callable[..., Receiver]]:
    running: list[tuple[Server, threading.Thread]] = []

    def start(*, tls: ssl.SSLContext | None = None) -> Receiver:
        server = Server(("127.0.0.1", 0), Handler)
        server.receiver = Receiver(server.server_port)
        if tls is not None:
            tls.sni_callback = lambda _socket, name, _context: server.receiver.names.append(name)
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        running.append((server, thread))
        return server.receiver

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def receiver(serve: Callable[..., Receiver]) -> Receiver:
    return serve()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(*certify("An authority", None), tmp_path)


@pytest.fixture
def clock() -> Clock:
    """It begins now, because receivers refuse what is old."""
    return Clock(datetime.now(UTC).replace(microsecond=0))


@pytest.fixture(scope="module")
def empty_records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database to be copied: most tests here are about what is sent, and migrating takes longer than they do."""
    path = tmp_path_factory.mktemp("records") / "records.sqlite3"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_engine(empty_records: Path, tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(f"sqlite:///{shutil.copy(empty_records, tmp_path)}")
    yield engine
    engine.dispose()
