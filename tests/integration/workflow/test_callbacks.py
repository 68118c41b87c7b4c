"""Call-backs to real servers on the loopback, plain and with TLS of an authority of the test's own."""

import base64
import json
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import httpcore
import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Engine, select
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from mbd.errors import CallbackError
from mbd.records import requests, tables, webhooks
from mbd.records.database import begin_locked, begin_snapshot, open_database, upgrade
from mbd.records.lifecycle import Action, Role
from mbd.records.requests import Actor, Revocation
from mbd.records.suppression import Channel
from mbd.records.webhooks import Delivery, Webhook
from mbd.workflow.callbacks.formats import Message
from mbd.workflow.callbacks.pinned import LARGEST_ANSWER, SECONDS, post
from mbd.workflow.callbacks.policy import Target, UrlPolicy
from mbd.workflow.callbacks.sending import CLAIM, SCHEDULE, Sender
from mbd.workflow.callbacks.standard import NAME, Registered, StandardWebhooks
from mbd.workflow.identities import Identities

HERE = ip_address("127.0.0.1")
HOST = "hooks.example.com"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FORMAT = StandardWebhooks(Identities(b"i" * 32))
OFFICER = Actor(Role.OFFICER, "key-1")
DOCS = Path(__file__).resolve().parents[3] / "docs" / "callbacks.md"


@dataclass
class Receiver:
    """A server that answers each request with the next of `answers`, then with `last`.

    Attributes:
        answers: status and headers, in order.
        got: headers and body of every request.
        names: what TLS clients asked for (SNI).
        body: what it answers besides.
        sent_all: whether the last body was taken whole.
    """

    port: int = 0
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    last: tuple[int, dict[str, str]] = (204, {})
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)
    connections: int = 0
    body: bytes = b""
    sent_all: bool | None = None

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.got]

    @property
    def target(self) -> Target:
        return Target("http", "127.0.0.1", self.port, "/hook", listed=True)


class Server(ThreadingHTTPServer):
    receiver: Receiver

    def get_request(self):
        self.receiver.connections += 1
        return super().get_request()

    def handle_error(self, request, client_address):
        """A client that hung up is no error of the test's."""


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        receiver = self.server.receiver
        body = self.rfile.read(int(self.headers["content-length"]))
        receiver.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
        status, headers = receiver.answers.pop(0) if receiver.answers else receiver.last
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        receiver.sent_all = False
        self.wfile.write(receiver.body)
        receiver.sent_all = True

    def log_message(self, *_):
        pass


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


def _certificate(name, issuer, *, host: str | None = None):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    by, signer = (issuer[0].subject, issuer[1]) if issuer else (subject, key)
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(by, subject, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    made = made.add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    if host is not None:
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    return made.sign(signer, hashes.SHA256()), key


@dataclass(frozen=True)
class Authority:
    """Both sides of TLS under an authority of the test's own."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    folder: Path

    def serving(self, host: str) -> ssl.SSLContext:
        """A server's side, with a certificate for that host."""
        certificate, key = _certificate(host, (self.certificate, self.key), host=host)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path = self.folder / "server.pem"
        path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def trusting(self) -> ssl.SSLContext:
        """A client's side."""
        pem = self.certificate.public_bytes(serialization.Encoding.PEM).decode()
        return ssl.create_default_context(cadata=pem)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(*_certificate("An authority", None), tmp_path)


class Clock:
    """A time that tests move."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


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


def sender_of(engine: Engine, receiver: Receiver, clock: Clock, **other) -> Sender:
    policy = UrlPolicy(hosts=frozenset({("127.0.0.1", receiver.port)}))
    chosen = {"policy": policy, "tls": ssl.create_default_context(), "chance": lambda: 0.0} | other
    return Sender(engine, {NAME: FORMAT}, clock=clock, **chosen)


def announce(engine: Engine, url: str, policy: UrlPolicy, now: datetime) -> Registered:
    """File a request, register an endpoint for it, and verify the identity."""
    asked = Revocation("r1", "d1", "gdpr", (Channel("anna-key", "audio"),), now, date(2027, 4, 1))
    target = policy.admit(url)
    with begin_locked(engine) as connection:
        requests.file(connection, asked, by=OFFICER)
        registered = FORMAT.register(connection, target, owner="key-1", revocation_id="r1", at=now)
        requests.act(connection, "r1", Action.VERIFY_IDENTITY, by=OFFICER, at=now)
    return registered


def wait_for(engine: Engine, receiver: Receiver, clock: Clock, **other) -> tuple[Sender, Registered]:
    """A sender for whom one delivery to the receiver waits."""
    sender = sender_of(engine, receiver, clock, **other)
    return sender, announce(engine, f"http://127.0.0.1:{receiver.port}/hook?t=token", sender.policy, clock())


def delivery(engine: Engine) -> Delivery:
    with begin_snapshot(engine) as connection:
        return Delivery(**connection.execute(select(tables.delivery)).one()._asdict())


def endpoint(engine: Engine) -> Webhook:
    with begin_snapshot(engine) as connection:
        (found,) = webhooks.of_owner(connection, "key-1")
    return found


def test_a_receiver_verifies_both_signatures_over_tls_of_the_right_name(
    sqlite_engine, serve, authority, clock, monkeypatch
):
    for proxy in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")
    receiver = serve(tls=authority.serving(HOST))
    policy = UrlPolicy(hosts=frozenset({(HOST, receiver.port)}), resolve=lambda _name: (HERE,))
    registered = announce(sqlite_engine, f"https://{HOST}:{receiver.port}/hook?t=token", policy, clock())
    sender = sender_of(sqlite_engine, receiver, clock, policy=policy, tls=authority.trusting())
    assert sender.send_due(limit=10) == 1
    ((headers, body),) = receiver.got
    assert (headers["host"], receiver.names) == (f"{HOST}:{receiver.port}", [HOST])
    assert Verifier(registered.secret).verify(body, headers)["data"]["state"] == "pending_review"
    assert len(base64.b64decode(registered.secret.removeprefix("whsec_"))) == 32
    v1a = next(each for each in headers["webhook-signature"].split(" ") if each.startswith("v1a,"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(FORMAT.public_key.removeprefix("whpk_")))
    key.verify(base64.b64decode(v1a.removeprefix("v1a,")), signed)
    with pytest.raises(InvalidSignature):
        key.verify(base64.b64decode(v1a.removeprefix("v1a,")), signed + b" ")
    with pytest.raises(WebhookVerificationError):
        Verifier(registered.secret).verify(body + b" ", headers)
    done = delivery(sqlite_engine)
    assert (done.delivered_at, done.next_at, done.tries) == (clock(), None, 1)
    assert sender.send_due(limit=10) == 0


def test_the_example_of_the_documentation_verifies(sqlite_engine, receiver, clock):
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    example: dict[str, Callable[..., bool]] = {}
    exec(compile(code, str(DOCS), "exec"), example)  # noqa: S102 - our own page
    sender, registered = wait_for(sqlite_engine, receiver, clock)
    sender.send_due(limit=1)
    ((headers, body),) = receiver.got
    now = clock().timestamp()
    for key in (registered.secret, FORMAT.public_key):
        assert example["is_genuine"](headers, body, key, now)
        assert not example["is_genuine"](headers, body + b" ", key, now)
        assert not example["is_genuine"](headers, body, key, now + 301)
    other = StandardWebhooks(Identities(b"o" * 32)).public_key
    assert not example["is_genuine"](headers, body, other, now)


def test_the_example_of_the_documentation_is_a_body_that_is_sent(sqlite_engine, receiver, clock):
    sender, _ = wait_for(sqlite_engine, receiver, clock)
    sender.send_due(limit=1)
    (shown,) = re.findall(r"```json\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    sent, documented = json.loads(receiver.got[0][1]), json.loads(shown)
    assert sent.keys() == documented.keys()
    assert sent["data"].keys() == documented["data"].keys()


def test_what_does_not_arrive_is_tried_for_days_with_one_id_and_then_given_up(sqlite_engine, receiver, clock):
    receiver.last = (500, {})
    sender, _ = wait_for(sqlite_engine, receiver, clock)
    begun = clock()
    for wait in SCHEDULE:
        assert sender.send_due(limit=10) == 1
        assert delivery(sqlite_engine).next_at == clock() + wait
        clock.now += wait - timedelta(seconds=1)
        assert sender.send_due(limit=10) == 0
        clock.now += timedelta(seconds=1)
    assert sender.send_due(limit=10) == 1
    failed = delivery(sqlite_engine)
    assert (failed.tries, failed.next_at, failed.delivered_at) == (len(SCHEDULE) + 1, None, None)
    assert failed.last_problem == "status 500"
    assert set(receiver.ids) == {failed.id}
    assert len({body for _, body in receiver.got}) == 1
    assert len({headers["webhook-timestamp"] for headers, _ in receiver.got}) == len(receiver.got)
    assert clock() - begun > timedelta(days=3)
    clock.now += timedelta(days=365)
    assert sender.send_due(limit=10) == 0


def test_tries_are_spread_by_chance_and_a_second_try_arrives(sqlite_engine, receiver, clock):
    receiver.answers = [(500, {})]
    sender, _ = wait_for(sqlite_engine, receiver, clock, chance=lambda: 0.8)
    sender.send_due(limit=1)
    assert delivery(sqlite_engine).next_at == clock() + SCHEDULE[0] * 1.2
    clock.now += SCHEDULE[0] * 1.2
    assert sender.send_due(limit=1) == 1
    assert (delivery(sqlite_engine).last_problem, delivery(sqlite_engine).delivered_at) == (None, clock())


@pytest.mark.parametrize(
    ("status", "retry_after", "seconds"),
    [
        (429, "120", 120),
        (503, "120", 120),
        (503, "Sun, 01 Mar 2026 12:10:00 GMT", 600),
        (503, "Sun, 01 Mar 2026 12:10:00 -0000", 600),
        (503, "Sun, 01 Mar 2026 11:10:00 GMT", 5),
        (503, "Sun, 01 Mar 99999999999999999999 12:10:00 GMT", 5),
        (503, "999999999", 24 * 3600),
        (503, "9" * 5000, 5),
        (503, "-60", 5),
        (503, "1", 5),
        (503, "soon", 5),
        (503, "", 5),
        (500, "120", 5),
        (301, "120", 5),
    ],
)
def test_a_receiver_may_ask_to_wait_for_at_most_a_day(sqlite_engine, receiver, status, retry_after, seconds):
    receiver.last = (status, {"Retry-After": retry_after})
    clock = Clock(NOON)
    sender, _ = wait_for(sqlite_engine, receiver, clock)
    sender.send_due(limit=1)
    assert delivery(sqlite_engine).next_at == NOON + timedelta(seconds=seconds)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_every_status_of_success_is_one(sqlite_engine, receiver, clock, status):
    receiver.last = (status, {})
    sender, _ = wait_for(sqlite_engine, receiver, clock)
    sender.send_due(limit=1)
    assert delivery(sqlite_engine).delivered_at == clock()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_a_failure_that_nobody_follows(sqlite_engine, serve, clock, status):
    receiver, elsewhere = serve(), serve()
    receiver.last = (status, {"Location": f"http://127.0.0.1:{elsewhere.port}/"})
    sender, _ = wait_for(sqlite_engine, receiver, clock)
    sender.send_due(limit=1)
    assert delivery(sqlite_engine).last_problem == f"status {status}"
    assert elsewhere.connections == 0


def test_an_endpoint_that_is_gone_is_told_nothing_more(sqlite_engine, receiver, clock):
    receiver.last = (410, {})
    sender, _ = wait_for(sqlite_engine, receiver, clock)
    assert sender.send_due(limit=10) == 1
    assert (endpoint(sqlite_engine).disabled_at, endpoint(sqlite_engine).disabled_because) == (clock(), "status 410")
    with begin_locked(sqlite_engine) as connection:
        requests.act(connection, "r1", Action.APPROVE, by=OFFICER, at=clock())
    clock.now += timedelta(days=1)
    assert sender.send_due(limit=10) == 0
    assert delivery(sqlite_engine).last_problem == "status 410"


def test_a_name_that_turns_to_a_private_address_after_registration_is_not_called(sqlite_engine, receiver, clock):
    answers = [ip_address("93.184.216.34"), HERE, HERE]
    policy = UrlPolicy(ports=frozenset({receiver.port}), resolve=lambda _name: (answers.pop(0),))
    announce(sqlite_engine, f"https://{HOST}:{receiver.port}/", policy, clock())
    sender_of(sqlite_engine, receiver, clock, policy=policy).send_due(limit=1)
    assert answers == [HERE]
    assert receiver.connections == 0
    failed = delivery(sqlite_engine)
    assert (failed.last_problem, failed.next_at) == ("refused address", clock() + SCHEDULE[0])


def test_the_connection_goes_to_the_judged_address_and_no_name_is_resolved_again(
    sqlite_engine, receiver, clock, monkeypatch
):
    asked: list[str] = []
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *rest, **more: asked.append(host) or real(host, *rest, **more)
    )
    answers = [(HERE,), (HERE,)]
    policy = UrlPolicy(hosts=frozenset({(HOST, None)}), resolve=lambda _name: answers.pop())
    announce(sqlite_engine, f"http://{HOST}:{receiver.port}/", policy, clock())
    sender_of(sqlite_engine, receiver, clock, policy=policy).send_due(limit=1)
    assert receiver.got[0][0]["host"] == f"{HOST}:{receiver.port}"
    assert answers == []
    assert set(asked) <= {"127.0.0.1"}


def test_the_next_address_is_tried_when_one_refuses(receiver):
    message = Message(b"{}", {"webhook-id": "m"})
    dead = ip_address("127.0.0.2") if sys.platform == "linux" else ip_address("::1")
    assert post(receiver.target, (dead, HERE), message, tls=ssl.create_default_context(), seconds=SECONDS).status == 204


@pytest.mark.parametrize("case", [("other.example.com", True), (HOST, False)])
def test_a_certificate_of_another_name_or_authority_is_refused(sqlite_engine, serve, authority, clock, case):
    host, trusted = case
    receiver = serve(tls=authority.serving(host))
    policy = UrlPolicy(hosts=frozenset({(HOST, None)}), resolve=lambda _name: (HERE,))
    announce(sqlite_engine, f"https://{HOST}:{receiver.port}/", policy, clock())
    tls = authority.trusting() if trusted else ssl.create_default_context()
    sender_of(sqlite_engine, receiver, clock, policy=policy, tls=tls).send_due(limit=1)
    assert delivery(sqlite_engine).last_problem == "certificate"
    assert receiver.got == []


def raw_server(say: Callable[[socket.socket], None]) -> tuple[socket.socket, threading.Thread]:
    """A listening socket whose first connection is handed to a function."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listening.accept()
        with closing(connection):
            try:
                say(connection)
            except OSError:  # it was hung up on
                return

    thread = threading.Thread(target=serve)
    thread.start()
    return listening, thread


def drip(connection: socket.socket) -> None:
    """A header that never ends, slowly."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"a")
        time.sleep(0.02)


def flood(connection: socket.socket) -> None:
    """The same at once, in the form of interim answers, each of them complete."""
    while True:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


def silence(connection: socket.socket) -> None:
    while connection.recv(LARGEST_ANSWER):
        pass


def hang_up(connection: socket.socket) -> None:
    """Not before all is read: else the system resets the connection, which is another problem."""
    connection.shutdown(socket.SHUT_WR)
    silence(connection)


def chatter(connection: socket.socket) -> None:
    connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")
    hang_up(connection)


@pytest.mark.parametrize(
    ("say", "problem"),
    [(drip, "timeout"), (silence, "timeout"), (flood, "no HTTP"), (chatter, "no HTTP"), (hang_up, "no HTTP")],
)
def test_a_server_that_gives_no_answer_costs_little_and_is_tried_again(sqlite_engine, clock, say, problem):
    listening, thread = raw_server(say)
    with closing(listening):
        seconds = 0.3 if problem == "timeout" else SECONDS
        sender, _ = wait_for(sqlite_engine, Receiver(listening.getsockname()[1]), clock, seconds=seconds)
        assert sender.send_due(limit=1) == 1
        thread.join()
    failed = delivery(sqlite_engine)
    assert (failed.last_problem, failed.next_at) == (problem, clock() + SCHEDULE[0])


def test_a_port_where_nobody_listens_is_tried_again(sqlite_engine, clock):
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = Receiver(free.getsockname()[1])
    sender, _ = wait_for(sqlite_engine, nobody, clock)
    sender.send_due(limit=1)
    assert delivery(sqlite_engine).last_problem == "no connection"


def test_a_large_answer_is_success_and_is_not_read(sqlite_engine, serve, clock):
    receiver = serve()
    receiver.last, receiver.body = (200, {}), b"x" * (64 << 20)
    sender, _ = wait_for(sqlite_engine, receiver, clock)
    sender.send_due(limit=1)
    assert delivery(sqlite_engine).delivered_at == clock()
    assert receiver.sent_all is False


def test_a_try_whose_time_is_over_before_it_begins_connects_nowhere(receiver):
    message = Message(b"{}", {})
    with pytest.raises(httpcore.TimeoutException):
        post(receiver.target, (HERE,), message, tls=ssl.create_default_context(), seconds=0.0)
    assert receiver.connections == 0


def test_a_secret_that_does_not_open_stops_no_other_delivery(sqlite_engine, receiver, clock):
    sender, _ = wait_for(sqlite_engine, receiver, clock)
    with begin_locked(sqlite_engine) as connection:
        moved = replace(endpoint(sqlite_engine), id="another", owner="key-2")  # a secret opens in its own row alone
        webhooks.register(connection, moved)
        requests.act(connection, "r1", Action.APPROVE, by=OFFICER, at=clock())
    assert sender.send_due(limit=10) == 3
    with begin_snapshot(sqlite_engine) as connection:
        (failed,) = webhooks.deliveries(connection, "another", limit=10)
    assert (failed.last_problem, failed.next_at) == ("not signed", clock() + SCHEDULE[0])
    assert len(receiver.got) == 2
    assert failed.id not in receiver.ids


def test_a_url_that_the_policy_no_longer_allows_is_not_called(sqlite_engine, receiver, clock):
    sender, _ = wait_for(sqlite_engine, receiver, clock)
    assert replace(sender, policy=UrlPolicy()).send_due(limit=10) == 1
    assert delivery(sqlite_engine).last_problem == "refused address"
    assert receiver.connections == 0


def test_a_format_that_a_sender_does_not_speak_is_left_to_others(sqlite_engine, receiver, clock):
    sender, _ = wait_for(sqlite_engine, receiver, clock)
    assert replace(sender, formats={}).send_due(limit=10) == 0
    assert replace(sender, formats={"another": FORMAT}).send_due(limit=10) == 0
    assert sender.send_due(limit=10) == 1


def test_a_refused_registration_leaves_nothing(sqlite_engine, receiver, clock):
    with pytest.raises(CallbackError):
        announce(sqlite_engine, "https://127.0.0.1/", UrlPolicy(), clock())
    with begin_snapshot(sqlite_engine) as connection:
        assert webhooks.of_owner(connection, "key-1") == ()


def test_neither_the_secret_nor_a_word_of_the_receiver_is_recorded_or_logged(sqlite_engine, receiver, clock, caplog):
    caplog.set_level("DEBUG")
    receiver.last, receiver.body = (500, {"X-Word": "in-the-head"}), b"in-the-body"
    sender, registered = wait_for(sqlite_engine, receiver, clock)
    sender.send_due(limit=1)
    assert len(receiver.got) == 1
    with begin_snapshot(sqlite_engine) as connection:
        rows = [row for table in tables.metadata.sorted_tables for row in connection.execute(select(table))]
    secret = registered.secret.removeprefix("whsec_")
    for text in (repr(rows), repr(registered)):
        assert secret not in text
        assert repr(base64.b64decode(secret)) not in text
        assert "in-the-" not in text
    logged = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert logged, "httpcore says at DEBUG what it does, and shows headers there"
    assert not any(word in text for _, text in logged for word in (secret, "t=token", "in-the-body"))
    assert not any("in-the-head" in text for level, text in logged if level != "DEBUG")


def test_two_senders_at_once_send_each_delivery_once(engine, receiver, clock):
    sender, _ = wait_for(engine, receiver, clock)
    for action in (Action.APPROVE, Action.EXTEND):
        with begin_locked(engine) as connection:
            due = date(2027, 6, 1)
            requests.act(connection, "r1", action, by=OFFICER, at=clock(), reason="many", due=due)
    barrier, tried = threading.Barrier(3), []

    def send() -> None:
        barrier.wait()
        tried.append(sender.send_due(limit=10))

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(tried) == 3
    assert len(receiver.ids) == len(set(receiver.ids)) == 3


def test_a_sender_killed_before_it_records_is_repeated_with_the_same_id(engine, database_url, receiver, clock):
    sender, registered = wait_for(engine, receiver, clock)
    killer = str(Path(__file__).with_name("send_and_die.py"))
    killed = subprocess.run(
        [sys.executable, killer, database_url, (b"i" * 32).hex(), f"127.0.0.1:{receiver.port}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(receiver.ids) == 1
    assert delivery(engine).delivered_at is None
    clock.now = datetime.now(UTC)
    assert sender.send_due(limit=10) == 0
    clock.now += CLAIM
    assert sender.send_due(limit=10) == 1
    assert receiver.ids == [delivery(engine).id] * 2
    assert delivery(engine).delivered_at == clock.now.replace(microsecond=0)
    headers, body = receiver.got[0]
    assert Verifier(registered.secret).verify(body, headers)["data"]["id"] == "r1"
