"""What is sent, signed and recorded, how often it is tried, and by how many at once."""

import base64
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import select
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from mbd.errors import CallbackError
from mbd.records import requests, tables, webhooks
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.lifecycle import Action
from mbd.workflow.callbacks.policy import UrlPolicy
from mbd.workflow.callbacks.sending import CLAIM, SCHEDULE
from mbd.workflow.callbacks.standard import StandardWebhooks
from mbd.workflow.identities import Identities
from tests.integration.workflow.callbacks.receivers import HERE, HOST
from tests.integration.workflow.callbacks.waiting import (
    FORMAT,
    OFFICER,
    Clock,
    announce,
    delivery,
    endpoint,
    sender_of,
    wait_for,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DOCS = Path(__file__).resolve().parents[4] / "docs" / "callbacks.md"


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
