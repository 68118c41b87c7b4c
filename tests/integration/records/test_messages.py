from datetime import date, datetime, timedelta

import pytest
from sqlalchemy import Engine, update

from mbd.errors import IdentityError
from mbd.records import contacts, messages, requests, tables
from mbd.records.contacts import Contact
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.lifecycle import ENDED, Role, State
from mbd.records.messages import MOST_CODES, Message, Outgoing
from mbd.records.requests import Actor, Revocation
from mbd.records.suppression import Channel

MINUTE = timedelta(minutes=1)
OFFICER = Actor(Role.OFFICER, "key-1")


@pytest.fixture(autouse=True)
def _filed(engine: Engine, now: datetime) -> None:
    """Two requests: r1 with a contact, r2 with none."""
    with begin_locked(engine) as connection:
        for name in ("r1", "r2"):
            asked = Revocation(name, f"d{name}", "gdpr", (Channel("anna-key", "audio"),), now, date(2026, 4, 1))
            requests.file(connection, asked, by=OFFICER)
        contacts.keep(connection, "r1", b"sealed")


def enqueue(engine: Engine, kind: Message, at: datetime, revocation_id: str = "r1") -> int | None:
    with begin_locked(engine) as connection:
        return messages.enqueue(connection, revocation_id, kind, at)


def outbox(engine: Engine, revocation_id: str = "r1") -> tuple[Outgoing, ...]:
    with begin_snapshot(engine) as connection:
        return messages.of_request(connection, revocation_id)


def due(engine: Engine, at: datetime, limit: int = 10) -> tuple[Outgoing, ...]:
    with begin_snapshot(engine) as connection:
        return messages.due(connection, at, limit=limit)


def claim(engine: Engine, message: Outgoing, at: datetime) -> Outgoing | None:
    with begin_locked(engine) as connection:
        return messages.claim(connection, message, at, until=at + MINUTE)


def put_in_state(engine: Engine, state: State) -> None:
    with begin_locked(engine) as connection:
        connection.execute(update(tables.revocation).values(state=state.value))


def forgettable(engine: Engine, waiting_since: datetime) -> tuple[str, ...]:
    with begin_snapshot(engine) as connection:
        return contacts.forgettable(connection, waiting_since=waiting_since)


def test_messages_are_numbered_by_their_request_and_due_at_once(engine, now):
    assert [enqueue(engine, kind, now) for kind in (Message.RECEIVED, Message.EXTENDED)] == [0, 1]
    assert outbox(engine) == (
        Outgoing("r1", 0, Message.RECEIVED, now, 0, now, None),
        Outgoing("r1", 1, Message.EXTENDED, now, 0, now, None),
    )
    assert due(engine, now) == outbox(engine)
    assert due(engine, now - timedelta(seconds=1)) == ()


def test_who_gave_no_contact_or_whose_contact_is_forgotten_is_told_nothing(engine, now):
    assert enqueue(engine, Message.RECEIVED, now, "r2") is None
    with begin_locked(engine) as connection:
        contacts.empty(connection, "r1")
    assert enqueue(engine, Message.COMPLETED, now) is None
    assert (outbox(engine), outbox(engine, "r2")) == ((), ())
    for request in ("r1", "r2"):
        with begin_locked(engine) as connection, pytest.raises(IdentityError, match="No contact"):
            messages.enqueue_code(connection, request, now)


def test_a_message_is_there_with_its_change_or_not_at_all(engine, now):
    with pytest.raises(ZeroDivisionError), begin_locked(engine) as connection:
        messages.enqueue(connection, "r1", Message.RECEIVED, now)
        raise ZeroDivisionError
    assert outbox(engine) == ()


def test_of_several_codes_the_last_is_sent_and_there_are_only_so_many(engine, now):
    enqueue(engine, Message.RECEIVED, now)
    for number in range(1, MOST_CODES + 1):
        with begin_locked(engine) as connection:
            assert messages.enqueue_code(connection, "r1", now + number * MINUTE) == number
    with begin_locked(engine) as connection, pytest.raises(IdentityError, match="4 codes were sent"):
        messages.enqueue_code(connection, "r1", now)
    with begin_snapshot(engine) as connection:
        current = messages.current_code(connection, "r1")
        assert messages.current_code(connection, "r2") is None
    assert (current.number, current.created_at) == (MOST_CODES, now + MOST_CODES * MINUTE)
    assert [message.number for message in due(engine, now + timedelta(days=1))] == [0, MOST_CODES]


def test_of_two_senders_one_gets_a_message_and_it_is_due_again_if_that_one_dies(engine, now):
    enqueue(engine, Message.RECEIVED, now)
    (waiting,) = due(engine, now)
    claimed = claim(engine, waiting, now)
    assert (claimed.tries, claimed.next_at) == (1, now + MINUTE)
    assert claim(engine, waiting, now) is None
    assert due(engine, now) == ()
    assert claim(engine, waiting, now + MINUTE).tries == 2


def test_a_sender_that_lost_its_claim_can_record_success_and_not_failure(engine, now):
    enqueue(engine, Message.RECEIVED, now)
    (waiting,) = due(engine, now)
    slow, other = claim(engine, waiting, now), claim(engine, waiting, now + MINUTE)
    with begin_locked(engine) as connection:
        messages.failed(connection, slow, next_at=None)
    assert outbox(engine) == (other,)
    with begin_locked(engine) as connection:
        messages.sent(connection, slow, at=now + MINUTE)
        messages.failed(connection, other, next_at=now + 2 * MINUTE)
        messages.sent(connection, other, at=now + 3 * MINUTE)
    (done,) = outbox(engine)
    assert (done.sent_at, done.next_at) == (now + MINUTE, None)


def test_what_was_tried_least_comes_first_and_what_was_given_up_not_at_all(engine, now):
    for kind in (Message.RECEIVED, Message.EXTENDED, Message.DENIED):
        enqueue(engine, kind, now)
    first, second, third = due(engine, now)
    claim(engine, first, now)
    given_up = claim(engine, second, now)
    with begin_locked(engine) as connection:
        messages.failed(connection, given_up, next_at=None)
    later = now + timedelta(days=1)
    assert [message.number for message in due(engine, later)] == [third.number, first.number]
    assert [message.number for message in due(engine, later, limit=1)] == [third.number]


def test_wrong_codes_are_counted_and_outlive_the_contact(engine):
    with begin_locked(engine) as connection:
        assert [contacts.count_wrong_code(connection, "r1") for _ in range(2)] == [1, 2]
        contacts.empty(connection, "r1")
    with begin_snapshot(engine) as connection:
        assert contacts.get(connection, "r1") == Contact(None, 2)
        assert contacts.get(connection, "r2") is None


def test_a_contact_is_needed_until_the_request_has_ended(engine, now):
    for state in State:
        put_in_state(engine, state)
        assert forgettable(engine, now) == (("r1",) if state in ENDED else ()), state


def test_a_contact_is_needed_until_the_last_message_was_sent_or_has_waited_for_too_long(engine, now):
    put_in_state(engine, State.COMPLETED)
    enqueue(engine, Message.COMPLETED, now)
    assert forgettable(engine, now) == ()
    assert forgettable(engine, now + MINUTE) == ("r1",)
    (waiting,) = due(engine, now)
    claimed = claim(engine, waiting, now)
    assert forgettable(engine, now) == ()
    with begin_locked(engine) as connection:
        messages.sent(connection, claimed, at=now)
    assert forgettable(engine, now) == ("r1",)
    with begin_locked(engine) as connection:
        contacts.empty(connection, "r1")
    assert forgettable(engine, now) == ()
