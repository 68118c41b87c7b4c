"""Time stamps of somebody else's authority over HTTP: asked, checked, waited for."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import ValidationError

from certs.timestamp_authority import TimestampAuthority
from certs.verification import verify
from mbd.cohort.modality import Modality
from mbd.errors import SettingsError, TimeStampError
from mbd.records import certificates, requests
from mbd.records.database import begin_snapshot
from mbd.records.lifecycle import Action, State
from mbd.settings import Settings
from mbd.workflow.jobs.engine import MemoryJobs
from mbd.workflow.jobs.worker import Worker
from mbd.workflow.office import utc_now
from mbd.workflow.revocation import resume, revoke
from mbd.workflow.rotation import trust_authority
from mbd.workflow.system import open_system
from mbd.workflow.time_stamping import stamp

AUDIO = Modality.AUDIO


class Server:
    """An authority of somebody else on loopback; `answer` can be changed while it runs."""

    def __init__(self) -> None:
        self.authority = TimestampAuthority.generate("elsewhere.example", now=utc_now() - timedelta(days=1))
        self.answer: Callable[[bytes], tuple[int, bytes]] = self.honest
        self.asked: list[str | None] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.asked.append(self.headers["Content-Type"])
                status, data = server.answer(body)
                self.send_response(status)
                self.send_header("Content-Type", "application/timestamp-reply")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/"

    def honest(self, body: bytes) -> tuple[int, bytes]:
        return 200, self.authority.respond(body, at=utc_now())


@pytest.fixture
def elsewhere():
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever)
    thread.start()
    yield server
    server.http.shutdown()
    thread.join()
    server.http.server_close()


@pytest.fixture
def asking(home, elsewhere):
    """The deployment, with the authority registered and asked."""
    with open_system(Settings(home=home), create=False) as system:
        trust_authority(system, elsewhere.url, elsewhere.authority.chain)
    with open_system(Settings(home=home, timestamp_url=elsewhere.url), create=False) as system:
        yield system


def test_a_certificate_bears_the_time_stamp_of_the_authority_that_was_registered(asking, elsewhere, people):
    (result,) = revoke(asking, [(people[0], AUDIO)])
    verified = verify(result.bundle.read_bytes(), asking.trusted_root_path.read_bytes(), at=utc_now())
    assert "elsewhere.example" in verified.steps[3].detail
    assert set(elsewhere.asked) == {"application/timestamp-query"}


def test_an_authority_that_nobody_registered_is_of_no_use(home, elsewhere):
    with (
        open_system(Settings(home=home, timestamp_url=elsewhere.url), create=False) as system,
        pytest.raises(TimeStampError, match="does not know the authority") as failure,
    ):
        stamp(system, b"signature")
    assert "trust-authority" in failure.value.remedy


def test_an_authority_is_registered_once(asking, elsewhere):
    fresh = asking.with_current_keys()
    with pytest.raises(SettingsError, match="already"):
        trust_authority(fresh, elsewhere.url, elsewhere.authority.chain)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda server, body: (500, b""), "cannot be used"),
        (lambda server, body: (302, b""), "cannot be used"),
        (lambda server, body: (200, b"hello"), "of no use"),
        (lambda server, body: (200, b""), "of no use"),
        (lambda server, body: (200, b"x" * (1 << 17)), "without end"),
        (lambda server, body: (200, server.authority.respond(b"no request", at=utc_now())), "of no use"),
        (lambda server, body: (200, server.authority.respond(body, at=utc_now() - timedelta(days=9))), "of no use"),
        (lambda server, body: (200, TimestampAuthority.generate("x", now=utc_now()).respond(body, at=utc_now())), "of"),
    ],
)
def test_an_answer_that_verifiers_would_refuse_is_an_error_with_a_remedy(answer, message, asking, elsewhere):
    elsewhere.answer = lambda body: answer(elsewhere, body)
    with pytest.raises(TimeStampError, match=message) as failure:
        stamp(asking, b"signature")
    assert failure.value.remedy


def test_an_old_answer_is_not_taken_for_a_new_one(asking, elsewhere):
    answers = []
    elsewhere.answer = lambda body: answers.append(elsewhere.honest(body)) or answers[0]
    stamp(asking, b"signature")
    with pytest.raises(TimeStampError, match="another request"):
        stamp(asking, b"signature")


def test_a_deletion_does_not_wait_for_the_authority_and_its_certificate_does(asking, elsewhere, people):
    elsewhere.answer = lambda body: (503, b"")
    with pytest.raises(TimeStampError, match="503") as failure:
        revoke(asking, [(people[0], AUDIO)])
    assert "--resume" in failure.value.remedy
    assert asking.live("main").version == 2
    with begin_snapshot(asking.engine) as connection:
        (waiting,) = certificates.incomplete(connection)
    elsewhere.answer = elsewhere.honest
    (result,) = resume(asking)
    assert result.certificate == waiting.id
    assert verify(result.bundle.read_bytes(), asking.trusted_root_path.read_bytes(), at=utc_now()).signed_at


def test_a_worker_completes_the_certificate_by_itself_when_the_authority_is_back(asking, elsewhere, people):
    elsewhere.answer = lambda body: (503, b"")
    with pytest.raises(TimeStampError):
        revoke(asking, [(people[0], AUDIO)])
    elsewhere.answer = elsewhere.honest
    a_minute_later = replace(asking, clock=lambda: utc_now() + timedelta(minutes=1))
    stopping = threading.Event()
    thread = threading.Thread(target=Worker(a_minute_later, MemoryJobs(), "worker-1", stopping).run)
    thread.start()
    try:
        (request,) = wait_for_states(asking, {State.COMPLETED})
    finally:
        stopping.set()
        thread.join()
    with begin_snapshot(asking.engine) as connection:
        (certificate,) = certificates.current(connection)
        assert certificates.incomplete(connection) == ()
        actions = [event.action for event in requests.events(connection, request.id)]
    assert actions[-4:] == [Action.FAIL, Action.RETRY, Action.START, Action.COMPLETE]
    bundle = asking.certificate_folder(certificate.id) / "mdc.sigstore.json"
    assert verify(bundle.read_bytes(), asking.trusted_root_path.read_bytes(), at=utc_now()).signed_at


def wait_for_states(system, states, patience=60):
    end = time.monotonic() + patience
    while True:
        with begin_snapshot(system.engine) as connection:
            found = requests.in_states(connection, states)
        if found:
            return found
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


@pytest.mark.parametrize("url", ["elsewhere.example", "ftp://elsewhere.example", "http://a b"])
def test_a_setting_that_is_no_address_is_refused(url):
    with pytest.raises(ValidationError):
        Settings(timestamp_url=url)
