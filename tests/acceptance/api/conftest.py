"""A real server over a copy of the demo's deployment, and callers with keys of every role."""

import socket
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from api.app import create_app
from api.problems import Kind
from mbd.cli.api_keys import ROLES
from mbd.records import api_keys
from mbd.records.database import begin_locked, begin_snapshot
from mbd.settings import Settings
from mbd.workflow.office import Office


@dataclass(frozen=True)
class Caller:
    """Whoever holds a key or token, or nobody."""

    client: httpx.Client
    headers: dict[str, str] = field(default_factory=dict)

    def get(self, path, **more):
        return self.client.get(path, headers=self.headers, **more)

    def post(self, path, json=None, *, key=None, **more):
        headers = self.headers | ({} if key is None else {"idempotency-key": key})
        return self.client.post(path, json=json, headers=headers, **more)


@dataclass(frozen=True)
class Api:
    """A server, and what it serves."""

    app: FastAPI
    client: httpx.Client

    @property
    def office(self) -> Office:
        return self.app.state.office

    @property
    def nobody(self):
        return Caller(self.client)

    def caller(self, role, subject=None):
        """Somebody with a new key of that role."""
        person = None if subject is None else self.office.identities.subject_key(subject)
        with begin_locked(self.office.engine) as connection:
            _, token = api_keys.create(
                connection, label=role, scopes=ROLES[role], at=self.office.clock(), subject_key=person
            )
        return self.with_token(token)

    def with_token(self, token):
        return Caller(self.client, {"authorization": f"Bearer {token}"})

    def get(self, path, **more):
        return self.nobody.get(path, **more)

    def post(self, path, **more):
        return self.client.post(path, **more)

    def reading(self):
        return begin_snapshot(self.office.engine)


@contextmanager
def serving(settings):
    app = create_app(settings)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, server_header=False))
    with socket.create_server(("127.0.0.1", 0)) as bound:
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as `mbd serve` does
        thread = Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{bound.getsockname()[1]}", timeout=30) as client:
                yield Api(app, client)
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def serve(home):
    """``with serve(four_eyes=True) as api`` serves the deployment with other settings."""
    return lambda **more: serving(Settings(home=home, **{"rate_per_minute": 0} | more))


@pytest.fixture
def api(serve):
    with serve() as served:
        yield served


@pytest.fixture
def problem():
    """The kind of a problem document, which says its own status."""

    def kind_of(answer):
        assert answer.headers["content-type"] == "application/problem+json", answer.text
        document = answer.json()
        assert document["status"] == answer.status_code
        return next(kind for kind in Kind if kind.path == document["type"])

    return kind_of


@dataclass(frozen=True)
class Receiver:
    """A server that takes call-backs: headers and body of each."""

    host: str
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    @property
    def url(self):
        return f"http://{self.host}/hook?t=token"


@pytest.fixture
def receiver():
    """``serve(callback_allow={receiver.host})`` may call it."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            found.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Receiver(f"127.0.0.1:{server.server_port}")
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield found
        server.shutdown()
        thread.join()
