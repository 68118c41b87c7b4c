"""Mail servers, both sides of TLS, a clock, and offices on each kind of database."""

import socket
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import Engine

from mbd.records.database import open_database
from mbd.workflow.keyring import create_keyring
from mbd.workflow.office import Office, utc_now
from tests.integration.workflow.notifying.inboxes import Inbox, Tls
from tests.integration.workflow.notifying.offices import Clock, office_of


@pytest.fixture
def serve() -> Iterator[Callable[..., Inbox]]:
    running: list[Controller] = []

    def start(**options: Any) -> Inbox:
        inbox = Inbox()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            inbox.port = free.getsockname()[1]
        controller = Controller(inbox, hostname="127.0.0.1", port=inbox.port, **options)
        controller.start()
        running.append(controller)
        return inbox

    yield start
    for controller in running:
        controller.stop()


@pytest.fixture
def inbox(serve: Callable[..., Inbox]) -> Inbox:
    return serve()


@pytest.fixture
def tls(tmp_path: Path) -> Tls:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    pem = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "server.pem").write_bytes(private + pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "server.pem")
    return Tls(server, ssl.create_default_context(cadata=pem.decode()))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def keys_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("keys") / "home"
    create_keyring(home, origin="log.example.org/main", passphrase=None, ml_dsa=False, now=utc_now())
    return home


@pytest.fixture
def sqlite_engine(sqlite_url: str) -> Iterator[Engine]:
    engine = open_database(sqlite_url)
    yield engine
    engine.dispose()


@pytest.fixture
def office(sqlite_engine: Engine, keys_home: Path, clock: Clock, inbox: Inbox) -> Office:
    """With one request, r1, of somebody who can be reached."""
    return office_of(sqlite_engine, keys_home, clock, inbox)


@pytest.fixture
def either_office(engine: Engine, keys_home: Path, clock: Clock, inbox: Inbox) -> Office:
    """The same on each kind of database."""
    return office_of(engine, keys_home, clock, inbox)
