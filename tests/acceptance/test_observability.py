"""The API tells how it does, and of nobody: logs, metrics and traces of a scenario with planted people. Its limits."""

import json
import signal
import socket
import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import quote

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel

from api import problems
from api.app import create_app
from api.limits import LimitBody
from api.principals import Scope
from api.problems import Kind
from mbd.records import api_keys, requests
from mbd.records.database import begin_locked, open_database, upgrade
from mbd.records.lifecycle import Role
from mbd.records.requests import Actor, Revocation
from mbd.records.suppression import Channel, suppress
from mbd.settings import Settings
from mbd.telemetry.logs import FIELDS
from mbd.telemetry.metrics import Metrics
from mbd.workflow.identities import Identities
from mbd.workflow.office import open_office

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NAME, EMAIL, PHONE = "Anna Meier-Okonkwo", "anna.meier@example.org", "+49 170 5550199"
BOGUS_TOKEN, OPENING, SUBJECT_KEY = "mbdk_" + "t0ken" * 8, "0pening" * 9, "5ubjectkey" * 6
CERTIFICATE, REQUEST, SECRET = "mdc-5eed5eed5eed", "rev-5eed5eed5eed5eed", b"s" * 32
PLANTED = [NAME, EMAIL, PHONE, BOGUS_TOKEN, OPENING, SUBJECT_KEY, CERTIFICATE, REQUEST]
HEADERS = {
    "cookie": f"session={BOGUS_TOKEN}",
    "user-agent": EMAIL,
    "referer": f"https://example.org/{SUBJECT_KEY}",
    "x-forwarded-for": "203.0.113.77",
    "x-request-id": REQUEST,
    "idempotency-key": OPENING,
    "baggage": f"who={SUBJECT_KEY}",
    "tracestate": f"who={SUBJECT_KEY}",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}
BODY = {"name": NAME, "contact": {"email": EMAIL, "phone": PHONE}, "subject": SUBJECT_KEY, "opening": OPENING}
VALUES = {"certificate_id": CERTIFICATE, "revocation_id": REQUEST}
"""Of parameters in paths, where something else than a name gets further."""
CALLS = [
    ("", {"subject": NAME, "modalities": ["audio"]}),
    ("", {"subject": EMAIL, "modalities": ["text"], "contact": PHONE}),
    (f"/{REQUEST}/verify-identity", {}),
    (f"/{REQUEST}/extend", {"reason": f"{NAME} lives abroad"}),
    (f"/{REQUEST}/approve", None),
    (f"/{REQUEST}/deny", {"reason": NAME}),
    ("/decisions", {"ids": [REQUEST], "decision": "extend", "reason": f"{NAME}, {PHONE}"}),
    (f"/{REQUEST}/cancel", {"reason": f"write to {EMAIL}"}),
]
"""Of requests to revoke: bodies that are understood."""


@dataclass
class Receiver:
    """Takes traces (OTLP over HTTP), and whatever else is sent to it."""

    url: str = ""
    bodies: list[bytes] = field(default_factory=list)

    def spans(self):
        return [
            span
            for body in self.bodies
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@contextmanager
def receiver():
    received = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            received.bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_words):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        received.url = f"http://127.0.0.1:{server.server_port}/v1/traces"
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield received
        server.shutdown()
        thread.join()


@dataclass(frozen=True)
class Observed:
    """All that a process of the API has said in the scenario."""

    out: str
    err: str
    answers: list[httpx.Response]
    templates: set[str]
    text: str
    openmetrics: str
    received: Receiver
    token: str

    @property
    def lines(self):
        return [json.loads(line) for line in self.err.splitlines()]


def make_deployment(home):
    """A deployment in which somebody has asked for something, and a key that may do everything."""
    (home / "keys").mkdir(parents=True)
    (home / "keys" / "subjects.secret").touch(mode=0o600)
    (home / "keys" / "subjects.secret").write_bytes(SECRET)
    settings = Settings(home=home)
    upgrade(settings.database)
    engine = open_database(settings.database)
    asked = Revocation(REQUEST, "d", "gdpr", (Channel(SUBJECT_KEY, "audio"),), NOW, NOW.date())
    with begin_locked(engine) as connection:
        requests.file(connection, asked, by=Actor(Role.SUBJECT, "key-of-somebody"))
        suppress(connection, asked.scope, since=NOW, revocation_id=REQUEST)
        _, token = api_keys.create(connection, label=NAME, scopes=list(Scope), at=NOW)
    engine.dispose()
    return token


def bearer(token):
    return {"authorization": f"Bearer {token}"}


def call_everything(client, token):
    """Every operation of the description, with planted values wherever a client can put some."""
    known = HEADERS | bearer(token)
    for number, (path, body) in enumerate(CALLS):
        yield client.post(
            f"/v1/revocations{path}", json=body, headers=known | {"idempotency-key": f"{OPENING}{number}"}
        )
    for path, operations in client.get("/openapi.json").json()["paths"].items():
        names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
        likely = path.format_map({name: quote(VALUES.get(name, EMAIL)) for name in names})
        for method in operations:
            yield client.request(method, f"{likely}?name={quote(NAME)}&key={SUBJECT_KEY}", headers=known, json=BODY)
            planted = path.format_map(dict.fromkeys(names, quote(NAME)))
            yield client.request(method, planted, headers=HEADERS | bearer(BOGUS_TOKEN))
    yield client.request(f"FIND-{SUBJECT_KEY}", f"/{EMAIL}")
    yield client.post("/v1/certificates/verify", content=f'{{"a": "{NAME}"'.encode(), headers=known)
    yield client.get("/healthz", headers={"x-request-id": "01ARZ3NDEKTSV4RRFFQ69G5FAV"})


def say_nonsense(address):
    """Bytes that are no HTTP, a body that is too large, and one that never comes."""
    for sent in (
        f"{NAME} {EMAIL}\r\n\r\n".encode(),
        f"POST /{EMAIL} HTTP/1.1\r\nhost: x\r\ncontent-length: 2000000\r\n\r\n".encode(),
        b"POST /v1/certificates/verify HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n" + EMAIL.encode(),
    ):
        with socket.create_connection(address) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(100)


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def token(home):
    return make_deployment(home)


@pytest.fixture
def observed(start, program, home, token):
    with receiver() as received:
        process = start(
            *(program, "serve", "--home", home, "--listen", "127.0.0.1:0"),
            MBD_LOG_LEVEL="debug",
            MBD_RATE_PER_MINUTE="0",
            MBD_TRACES_ENDPOINT=received.url,
        )
        said = process.stdout.readline()
        with httpx.Client(base_url=said.removeprefix("Listening: ").strip(), timeout=30) as client:
            templates = set(client.get("/openapi.json").json()["paths"])
            answers = list(call_everything(client, token))
            say_nonsense((client.base_url.host, client.base_url.port))
            text = client.get("/metrics", headers=bearer(token)).text
            accepted = bearer(token) | {"accept": "application/openmetrics-text; version=1.0.0"}
            in_openmetrics = client.get("/metrics", headers=accepted).text
            with sqlite3.connect(home / "mbd.sqlite3") as connection:
                connection.execute(
                    "DROP TABLE certificate"
                )  # from here on, queries fail with parameters in their errors
            connection.close()
            answers.append(client.get(f"/v1/certificates/{CERTIFICATE}"))
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate()
    assert process.returncode == 0, err
    return Observed(said + out, err, answers, templates, text, in_openmetrics, received, token)


def mentioned(text, planted=PLANTED):
    """Which planted values are in a text, as they are or quoted for a URL."""
    low = text.lower()
    return {value for value in planted for form in (value, quote(value), quote(value, safe="")) if form.lower() in low}


def test_the_planted_values_would_be_found():
    assert mentioned("".join(PLANTED)) == set(PLANTED)
    assert mentioned(f"/{quote(NAME)}") == {NAME}


def it_comes_to_everything(observed):
    assert observed.answers[0].status_code == 201, observed.answers[0].text
    assert {line.get("status") for line in observed.lines} >= {200, 401, 404, 413, 422, 499, 500, 503}
    assert {line.get("route") for line in observed.lines} >= observed.templates | {"none"}
    assert {line["logger"] for line in observed.lines} >= {"mbd.api", "uvicorn.error"}


def nothing_that_it_writes_counts_or_sends_is_about_anybody(observed):
    written = observed.out + observed.err
    sent = "".join(body.decode("latin-1") for body in observed.received.bodies)
    planted = [*PLANTED, observed.token, Identities(SECRET).subject_key(NAME)]
    for said in (written, sent, observed.text, observed.openmetrics):
        assert mentioned(said, planted) == set()
    assert not any(address in said for address in ("203.0.113.77", "127.0.0.1") for said in (observed.err, sent))


def every_request_has_one_line_that_its_answer_finds(observed):
    assert observed.out.count("\n") == 1
    assert {name for line in observed.lines for name in line} <= set(FIELDS)
    told = [line for line in observed.lines if line.get("event") == "request"]
    by_id = {line["request_id"]: line for line in told}
    assert len(by_id) == len(told)
    for answer in observed.answers:
        line = by_id[answer.headers["x-request-id"]]
        assert line["status"] == answer.status_code
        assert line["route"] in observed.templates | {"none"}
        assert line["method"] in {answer.request.method, "other"}
    assert observed.answers[-2].headers["x-request-id"] == "01ARZ3NDEKTSV4RRFFQ69G5FAV"


def an_error_of_ours_is_a_line_with_its_types_and_an_answer_with_its_id(observed):
    broken = {line["request_id"]: line for line in observed.lines if line.get("event") == "internal error"}
    answers = {answer.headers["x-request-id"] for answer in observed.answers if answer.status_code == 500}
    assert answers == set(broken) != set()
    assert {tuple(line["error"]) for line in broken.values()} == {("FileNotFoundError",)}  # there is no trusted root
    (away,) = (line for line in observed.lines if line.get("event") == "not ready")
    assert away["error"] == ["sqlalchemy.exc.OperationalError", "sqlite3.OperationalError"]


def metrics_are_what_prometheus_reads(observed):
    assert observed.text.splitlines()[0].startswith("# HELP")
    assert observed.openmetrics.endswith("# EOF\n")
    old = [each for each in text_string_to_metric_families(observed.text) if not each.name.endswith("_created")]
    families = {family.name: family for family in openmetrics.text_string_to_metric_families(observed.openmetrics)}
    assert {family.name.removesuffix("_total") for family in old} == set(families)
    assert families["mbd_database_up"].samples[0].value == 1
    assert sum(sample.value for sample in families["mbd_requests"].samples) == 2
    assert families["mbd_suppressed_channels"].samples[0].value == 1
    counted = [each for each in families["mbd_http_request_seconds"].samples if each.name.endswith("_count")]
    labels = {(each.labels["route"], each.labels["method"], each.labels["status"]) for each in counted}
    assert ("/v1/certificates/{certificate_id}", "GET", "4xx") in labels
    assert ("none", "other", "4xx") in labels
    assert {route for route, _, _ in labels} == observed.templates | {"none"}
    for family in families.values():
        assert family.documentation


def a_trace_joins_a_request_and_what_it_asked_the_database(observed):
    spans = observed.received.spans()
    requests_ = {span.span_id: span for span in spans if span.name == "GET /v1/certificates/{certificate_id}"}
    below = [span for span in spans if span.parent_span_id in requests_]
    assert below
    for span in below:
        assert span.trace_id == requests_[span.parent_span_id].trace_id
        assert span.name == "SELECT"
        assert "FROM certificate" in next(each.value.string_value for each in span.attributes if "text" in each.key)
    assert bytes.fromhex("0af7651916cd43dd8448eb211c80319c") in {span.trace_id for span in spans}  # the client's
    assert {attribute.key for span in spans for attribute in span.attributes} <= {
        *("http.request.method", "http.route", "http.response.status_code"),
        *("db.system.name", "db.query.text", "error.type"),
    }
    assert not any(span.events or span.links or span.trace_state or span.status.message for span in spans)


def test_what_the_service_tells_is_complete_and_about_nobody(observed, subtests):
    for claim in (
        it_comes_to_everything,
        nothing_that_it_writes_counts_or_sends_is_about_anybody,
        every_request_has_one_line_that_its_answer_finds,
        an_error_of_ours_is_a_line_with_its_types_and_an_answer_with_its_id,
        metrics_are_what_prometheus_reads,
        a_trace_joins_a_request_and_what_it_asked_the_database,
    ):
        with subtests.test(claim.__name__):
            claim(observed)


@contextmanager
def serving(app):
    """A client of a real server, in a thread."""
    config = uvicorn.Config(app, log_config=None, server_header=False, proxy_headers=False)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as bound:
        thread = Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        with httpx.Client(base_url=f"http://127.0.0.1:{bound.getsockname()[1]}", timeout=30) as client:
            yield client
        server.should_exit = True
        thread.join()


def test_a_database_that_is_away_is_a_metric_and_no_error(home, token):
    with open_office(Settings(home=home)) as office:
        metrics = Metrics(office.engine, home / "checkpoint", clock=office.clock, silence=timedelta(minutes=1))
        office.engine.dispose()
        for file in home.glob("mbd.sqlite3*"):
            file.unlink()
        text, _ = metrics.expose("")
    families = {family.name: family.samples for family in text_string_to_metric_families(text.decode())}
    assert families["mbd_database_up"][0].value == 0
    assert "mbd_requests" not in families


def test_metrics_are_for_whoever_has_their_scope(home, token):
    with serving(create_app(Settings(home=home))) as client:
        headers = [{}, bearer(BOGUS_TOKEN), bearer(token)]
        assert [client.get("/metrics", headers=each).status_code for each in headers] == [401, 401, 200]


def test_a_client_that_asks_too_often_is_told_when_to_come_again(home, token):
    with serving(create_app(Settings(home=home, rate_per_minute=3))) as client:
        assert [client.get("/v1/nothing").status_code for _ in range(4)] == [404, 404, 404, 429]
        refused = client.get("/metrics", headers=bearer(token))
        assert refused.json()["type"] == Kind.TOO_MANY_REQUESTS.path
        assert 1 <= int(refused.headers["retry-after"]) <= 20
        assert refused.headers["x-request-id"]
        free = ["/healthz", "/readyz", "/checkpoint", "/tile/0/000"]
        assert 429 not in {client.get(path).status_code for path in free}


@pytest.mark.parametrize("trusted", [None, ["127.0.0.0/8"]])
def test_who_a_proxy_speaks_for_counts_only_if_it_is_trusted(home, token, trusted):
    settings = Settings(home=home, rate_per_minute=1, trusted_proxies=trusted)
    with serving(create_app(settings)) as client:
        statuses = [
            client.get("/v1/nothing", headers={"x-forwarded-for": address}).status_code
            for address in ("192.0.2.1", "192.0.2.2", "192.0.2.2, 192.0.2.1")
        ]
    assert statuses == ([404, 404, 429] if trusted else [404, 429, 429])


class Note(BaseModel):
    text: str


def test_a_body_that_is_too_large_or_too_slow_is_refused_even_where_fastapi_reads_it():
    app = FastAPI()
    problems.install(app)
    app.add_middleware(LimitBody, most=100, seconds=0.2)

    @app.post("/notes")
    def keep(note: Note) -> Note:
        return note

    with serving(app) as client:
        assert client.post("/notes", json={"text": "short"}).json() == {"text": "short"}
        large = client.post("/notes", content=iter([b"x" * 60] * 2), headers={"content-type": "application/json"})
        assert (large.status_code, large.json()["type"]) == (413, Kind.TOO_LARGE.path)
        with socket.create_connection((client.base_url.host, client.base_url.port)) as connection:
            connection.sendall(b"POST /notes HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{")
            answer = connection.recv(10_000)
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b"connection: close" in answer
