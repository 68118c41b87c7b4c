import json
from collections.abc import Sequence
from datetime import date, datetime, timedelta

import pytest
from sqlalchemy import Engine, func, select

from mbd.errors import RecordsError
from mbd.records import requests, tables, webhooks
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.lifecycle import Action, Role
from mbd.records.requests import Actor, Revocation
from mbd.records.suppression import Channel
from mbd.records.webhooks import DISABLED, Delivery, Webhook

FORMATS = ("plain",)
MINUTE = timedelta(minutes=1)
OFFICER = Actor(Role.OFFICER, "key-1")


def endpoint(webhook_id: str, now: datetime, *, owner: str = "key-1", revocation_id: str | None = None) -> Webhook:
    return Webhook(webhook_id, owner, f"https://{webhook_id}.example/", "plain", now, b"sealed", revocation_id)


@pytest.fixture
def filed(engine: Engine, now: datetime) -> Revocation:
    """Of two requests, the first."""
    with begin_locked(engine) as connection:
        for name in ("r2", "r1"):
            asked = Revocation(name, f"d{name}", "gdpr", (Channel("anna-key", "audio"),), now, date(2026, 4, 1))
            kept = requests.file(connection, asked, by=OFFICER)
    return kept


def change(engine: Engine, revocation_id: str, action: Action, at: datetime) -> None:
    """A step of a request, which announces itself."""
    with begin_locked(engine) as connection:
        requests.act(connection, revocation_id, action, by=OFFICER, at=at)


def register(engine: Engine, *endpoints: Webhook) -> None:
    with begin_locked(engine) as connection:
        for each in endpoints:
            webhooks.register(connection, each)


def outbox(engine: Engine, webhook_id: str) -> tuple[Delivery, ...]:
    with begin_snapshot(engine) as connection:
        return webhooks.deliveries(connection, webhook_id, limit=100)


def due(engine: Engine, at: datetime, *, formats: Sequence[str] = FORMATS, limit: int = 100) -> tuple[str, ...]:
    with begin_snapshot(engine) as connection:
        return webhooks.due(connection, at, formats=formats, limit=limit)


def claim(engine: Engine, delivery_id: str, at: datetime) -> tuple[Webhook, Delivery] | None:
    with begin_locked(engine) as connection:
        return webhooks.claim(connection, delivery_id, at, until=at + MINUTE)


@pytest.fixture
def waiting(engine: Engine, filed: Revocation, now: datetime) -> Delivery:
    """The one delivery of one endpoint."""
    register(engine, endpoint("all", now))
    change(engine, "r1", Action.VERIFY_IDENTITY, now)
    (found,) = outbox(engine, "all")
    return found


def test_an_endpoint_is_its_owners_alone(engine: Engine, filed: Revocation, now: datetime) -> None:
    mine = [endpoint("w1", now), endpoint("w2", now + MINUTE, revocation_id="r1")]
    register(engine, *reversed(mine), endpoint("w3", now, owner="key-2"))
    with begin_snapshot(engine) as connection:
        assert webhooks.of_owner(connection, "key-1") == tuple(mine)
        assert webhooks.get(connection, "w2", owner="key-1") == mine[1]
        words = []
        for webhook_id in ("w3", "w4"):
            with pytest.raises(RecordsError) as unknown:
                webhooks.get(connection, webhook_id, owner="key-1")
            words.append(str(unknown.value).replace(webhook_id, ""))
    assert words[0] == words[1]


def test_those_who_listen_to_all_or_to_this_request_are_told_and_nobody_else(
    engine: Engine, filed: Revocation, now: datetime
) -> None:
    register(engine, endpoint("all", now), endpoint("gone", now))
    register(engine, endpoint("this", now, revocation_id="r1"), endpoint("other", now, revocation_id="r2"))
    with begin_locked(engine) as connection:
        webhooks.disable(connection, "gone", because="by its owner", at=now)
    change(engine, "r1", Action.VERIFY_IDENTITY, now)
    assert [len(outbox(engine, name)) for name in ("all", "this", "other", "gone")] == [1, 1, 0, 0]


def test_the_news_says_how_far_the_request_is_and_nothing_of_the_person(engine: Engine, waiting: Delivery) -> None:
    assert json.loads(waiting.body) == {
        "type": "revocation.changed",
        "timestamp": "2026-03-01T12:00:00Z",
        "data": {"id": "r1", "event": 1, "state": "pending_review", "due": "2026-04-01", "extended": False},
    }
    assert "anna" not in waiting.body


def test_every_change_has_an_id_of_its_own_at_every_endpoint(engine: Engine, filed: Revocation, now: datetime) -> None:
    register(engine, endpoint("all", now), endpoint("this", now, revocation_id="r1"))
    change(engine, "r1", Action.VERIFY_IDENTITY, now)
    change(engine, "r1", Action.APPROVE, now)
    assert len({each.id for name in ("all", "this") for each in outbox(engine, name)}) == 4


def test_a_change_that_is_taken_back_tells_nobody(engine: Engine, filed: Revocation, now: datetime) -> None:
    register(engine, endpoint("all", now))
    with pytest.raises(ZeroDivisionError), begin_locked(engine) as connection:
        requests.act(connection, filed.id, Action.VERIFY_IDENTITY, by=OFFICER, at=now)
        _ = 1 / 0
    with begin_snapshot(engine) as connection:
        assert connection.scalar(select(func.count()).select_from(tables.delivery)) == 0


def test_a_claimed_delivery_is_nobody_elses_until_its_claim_has_passed(
    engine: Engine, waiting: Delivery, now: datetime
) -> None:
    assert due(engine, now - MINUTE) == ()
    assert due(engine, now) == (waiting.id,)
    first = claim(engine, waiting.id, now)
    assert first is not None
    assert (first[0].id, first[1].id, first[1].tries) == ("all", waiting.id, 1)
    assert due(engine, now) == ()
    assert claim(engine, waiting.id, now) is None
    again = claim(engine, waiting.id, now + MINUTE)
    assert again is not None
    assert (again[1].id, again[1].body, again[1].tries) == (waiting.id, waiting.body, 2)


def test_a_sender_that_lost_its_claim_records_no_failure_but_an_arrival(
    engine: Engine, waiting: Delivery, now: datetime
) -> None:
    (_, stale), (_, fresh) = claim(engine, waiting.id, now), claim(engine, waiting.id, now + MINUTE)
    with begin_locked(engine) as connection:
        webhooks.failed(connection, stale, "timeout", next_at=None)
    assert outbox(engine, "all") == (fresh,)
    with begin_locked(engine) as connection:
        webhooks.arrived(connection, stale, at=now + MINUTE)
        webhooks.failed(connection, fresh, "timeout", next_at=now + 2 * MINUTE)
        webhooks.arrived(connection, fresh, at=now + 3 * MINUTE)
    (done,) = outbox(engine, "all")
    assert (done.delivered_at, done.next_at, done.last_problem) == (now + MINUTE, None, None)


def test_what_failed_is_due_again_when_it_says_and_what_is_given_up_never(
    engine: Engine, waiting: Delivery, now: datetime
) -> None:
    _, claimed = claim(engine, waiting.id, now)
    with begin_locked(engine) as connection:
        webhooks.failed(connection, claimed, "status 500", next_at=now + 2 * MINUTE)
    assert due(engine, now + MINUTE) == ()
    assert due(engine, now + 2 * MINUTE) == (waiting.id,)
    _, claimed = claim(engine, waiting.id, now + 2 * MINUTE)
    with begin_locked(engine) as connection:
        webhooks.failed(connection, claimed, "status 404", next_at=None)
    assert due(engine, now + timedelta(days=365)) == ()
    assert outbox(engine, "all")[0].last_problem == "status 404"


def test_a_disabled_endpoint_is_sent_nothing_that_waited_or_was_on_its_way(
    engine: Engine, filed: Revocation, now: datetime
) -> None:
    register(engine, endpoint("mine", now), endpoint("theirs", now, owner="key-2"))
    change(engine, "r1", Action.VERIFY_IDENTITY, now)
    change(engine, "r1", Action.APPROVE, now)
    _, on_its_way = claim(engine, outbox(engine, "mine")[0].id, now)
    with begin_locked(engine) as connection:
        webhooks.disable_all_of(connection, "key-1", because="key revoked", at=now)
        webhooks.disable(connection, "mine", because="status 410", at=now + MINUTE)
        webhooks.failed(connection, on_its_way, "timeout", next_at=now + MINUTE)
    with begin_snapshot(engine) as connection:
        gone = webhooks.get(connection, "mine", owner="key-1")
    assert (gone.disabled_at, gone.disabled_because) == (now, "key revoked")
    assert {(each.next_at, each.last_problem) for each in outbox(engine, "mine")} == {(None, DISABLED)}
    assert set(due(engine, now + MINUTE)) == {each.id for each in outbox(engine, "theirs")}


def test_the_least_tried_come_first_and_formats_that_one_does_not_speak_not_at_all(
    engine: Engine, filed: Revocation, now: datetime
) -> None:
    register(engine, endpoint("dead", now))
    change(engine, "r1", Action.VERIFY_IDENTITY, now)
    (tried,) = outbox(engine, "dead")
    _, claimed = claim(engine, tried.id, now)
    with begin_locked(engine) as connection:
        webhooks.failed(connection, claimed, "timeout", next_at=now)
    change(engine, "r2", Action.VERIFY_IDENTITY, now + MINUTE)
    fresh = outbox(engine, "dead")[0]
    assert due(engine, now + MINUTE) == (fresh.id, tried.id)
    assert due(engine, now + MINUTE, limit=1) == (fresh.id,)
    assert due(engine, now + MINUTE, formats=("opendsr",)) == ()


def test_what_holds_a_secret_does_not_show_it(now: datetime) -> None:
    shown = repr(endpoint("w1", now))
    assert "sealed" not in shown.replace("sealed_secret", "")
    assert "https" not in shown
