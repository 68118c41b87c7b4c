"""Figures are counted alike on both databases, and are those of the rows."""

from datetime import UTC, date, datetime, timedelta

from sqlalchemy import Engine, insert

from mbd.records import requests, tables
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.figures import Outbox, figures
from mbd.records.lifecycle import Action, Role, State
from mbd.records.requests import Actor, Revocation
from mbd.records.suppression import Channel, lift, suppress

OFFICER, PERSON = Actor(Role.OFFICER, "key-1"), Actor(Role.SUBJECT, "token-1")
NOW, SILENCE = datetime(2026, 3, 1, 12, tzinfo=UTC), timedelta(minutes=1)


def ago(**time: float) -> datetime:
    return NOW - timedelta(**time)


def test_an_empty_deployment_has_nothing(engine: Engine) -> None:
    with begin_snapshot(engine) as connection:
        found = figures(connection, now=NOW, silence=SILENCE)
    assert set(found.requests) == set(State)
    assert set(found.requests.values()) == {0}
    assert (found.next_due, found.overdue, found.waiting_since) == (None, 0, {})
    assert (found.suppressed, found.certificates, found.log_size, found.signed_size) == (0, 0, 0, 0)
    assert (found.deliveries, found.messages, found.workers, found.silent_workers) == (Outbox(0, 0), Outbox(0, 0), 0, 0)


def test_requests_are_counted_by_state_and_by_time(engine: Engine) -> None:
    with begin_locked(engine) as connection:
        for n, (due, actions) in enumerate(
            [
                (date(2026, 2, 28), ()),  # overdue
                (date(2026, 3, 1), (Action.VERIFY_IDENTITY, Action.APPROVE)),  # its last day
                (date(2026, 3, 9), (Action.VERIFY_IDENTITY, Action.APPROVE)),
                (date(2026, 1, 1), (Action.CANCEL,)),  # has ended: nothing is due
            ]
        ):
            channel = Channel(f"person-{n}", "audio")
            requests.file(connection, Revocation(f"r{n}", f"d{n}", "gdpr", (channel,), ago(days=9), due), by=PERSON)
            for action in actions:
                by = PERSON if action is Action.CANCEL else OFFICER
                requests.act(connection, f"r{n}", action, by=by, at=ago(hours=n))
    with begin_snapshot(engine) as connection:
        found = figures(connection, now=NOW, silence=SILENCE)
    counts = {state: count for state, count in found.requests.items() if count}
    assert counts == {State.FILED: 1, State.APPROVED: 2, State.CANCELLED: 1}
    assert (found.next_due, found.overdue) == (date(2026, 2, 28), 1)
    assert found.waiting_since == {State.APPROVED: ago(hours=2)}


def test_channels_workers_and_outboxes_are_counted(engine: Engine) -> None:
    anna, ben = Channel("anna", "audio"), Channel("ben", "audio")
    with begin_locked(engine) as connection:
        for name, channels in (("r1", [anna, ben]), ("r2", [anna]), ("r3", [Channel("ben", "text")])):
            requests.file(connection, Revocation(name, name, "gdpr", (anna,), NOW, NOW.date()), by=PERSON)
            suppress(connection, channels, since=NOW, revocation_id=name)
        lift(connection, "r3", at=NOW)
        connection.execute(
            insert(tables.worker),
            [
                {"id": "a", "started_at": NOW, "seen_at": ago(seconds=1), "stopped_at": None},
                {"id": "b", "started_at": NOW, "seen_at": ago(hours=1), "stopped_at": None},
                {"id": "c", "started_at": NOW, "seen_at": ago(hours=1), "stopped_at": NOW},
            ],
        )
        connection.execute(
            insert(tables.message),
            [
                {"revocation_id": "r1", "number": n, "kind": "filed", "created_at": NOW, "tries": 0}
                | {"next_at": next_at, "sent_at": sent_at}
                for n, (next_at, sent_at) in enumerate([(NOW, None), (NOW, None), (None, None), (None, NOW)])
            ],
        )
        hook = {"id": "w", "owner": "key-1", "url": "https://example.org/", "format": "standard", "created_at": NOW}
        connection.execute(insert(tables.webhook), [hook])
        connection.execute(
            insert(tables.delivery),
            [
                {"id": str(n), "webhook_id": "w", "body": "{}", "created_at": NOW, "tries": 0}
                | {"next_at": next_at, "delivered_at": delivered_at}
                for n, (next_at, delivered_at) in enumerate([(NOW, None), (None, None), (None, None), (None, NOW)])
            ],
        )
    with begin_snapshot(engine) as connection:
        found = figures(connection, now=NOW, silence=SILENCE)
    assert found.suppressed == 2
    assert (found.workers, found.silent_workers) == (1, 1)
    assert (found.messages, found.deliveries) == (Outbox(2, 1), Outbox(1, 2))


def test_certificates_that_stand_and_leaves_that_are_signed_are_counted(engine: Engine) -> None:
    with begin_locked(engine) as connection:
        requests.file(connection, Revocation("r1", "d1", "gdpr", (), NOW, NOW.date()), by=PERSON)
        for n in range(3):
            hashed = bytes([n]) * 32
            connection.execute(insert(tables.leaf).values(idx=n, body=b"", hash=hashed))
            connection.execute(insert(tables.head).values(size=n + 1, root=hashed))
        connection.execute(insert(tables.checkpoint).values(size=2, root=b"\1" * 32, note=""))
        node = {"id": "model:1", "kind": "model", "digest": "1", "name": "1", "created_at": NOW, "attributes": {}}
        connection.execute(insert(tables.lineage_node).values(node))
        version = {"line": "main", "version": 1, "node": "model:1", "digest": "1", "state": "live", "backbone": "mbd"}
        more = {"statistics": "1", "cohort": "1", "created_at": NOW}
        connection.execute(insert(tables.model_version).values(version | more))
        for n, superseded_by in enumerate(["mdc-1", "mdc-2", None]):
            certificate = {"id": f"mdc-{n}", "revocation_id": "r1", "model_line": "main", "version": 1, "leaf_index": n}
            more = {"dsse_digest": str(n), "envelope": "{}", "created_at": NOW, "superseded_by": superseded_by}
            connection.execute(insert(tables.certificate).values(certificate | more))
    with begin_snapshot(engine) as connection:
        found = figures(connection, now=NOW, silence=SILENCE)
    assert (found.certificates, found.log_size, found.signed_size) == (1, 3, 2)
