"""To whom a call-back goes, and what a server can do to its caller: addresses, certificates, answers that are none."""

import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from ipaddress import ip_address

import httpcore
import pytest

from mbd.workflow.callbacks.formats import Message
from mbd.workflow.callbacks.pinned import LARGEST_ANSWER, SECONDS, post
from mbd.workflow.callbacks.policy import UrlPolicy
from mbd.workflow.callbacks.sending import SCHEDULE
from tests.integration.workflow.callbacks.receivers import HERE, HOST, Receiver
from tests.integration.workflow.callbacks.waiting import announce, delivery, sender_of, wait_for


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


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_a_failure_that_nobody_follows(sqlite_engine, serve, clock, status):
    receiver, elsewhere = serve(), serve()
    receiver.last = (status, {"Location": f"http://127.0.0.1:{elsewhere.port}/"})
    sender, _ = wait_for(sqlite_engine, receiver, clock)
    sender.send_due(limit=1)
    assert delivery(sqlite_engine).last_problem == f"status {status}"
    assert elsewhere.connections == 0


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


def test_a_url_that_the_policy_no_longer_allows_is_not_called(sqlite_engine, receiver, clock):
    sender, _ = wait_for(sqlite_engine, receiver, clock)
    assert replace(sender, policy=UrlPolicy()).send_due(limit=10) == 1
    assert delivery(sqlite_engine).last_problem == "refused address"
    assert receiver.connections == 0
