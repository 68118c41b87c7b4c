"""Messages and codes: each sent once, tried for a day, right until they expire; and contacts that are forgotten."""

import io
import json
import logging
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from mbd.errors import IdentityError
from mbd.records import requests, tables
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.lifecycle import Action
from mbd.records.messages import Message
from mbd.telemetry import logs
from mbd.workflow.notifying import Letter, forget_contacts, send_due, verify_code
from mbd.workflow.notifying.codes import MOST_WRONG
from mbd.workflow.notifying.sending import LONGEST_WAIT, SCHEDULE
from tests.integration.workflow.notifying.inboxes import codes_of, mails_of, text_of
from tests.integration.workflow.notifying.offices import (
    ANNA,
    FROM,
    act,
    ask_for_code,
    enqueue,
    file,
    outbox,
    sealed,
    send,
    verify,
)


def test_a_message_is_sent_once_recorded_and_says_what_happened(either_office, inbox, clock):
    due = date(2027, 6, 1)
    act(either_office, Action.EXTEND, Message.EXTENDED, reason="viele Anträge", due=due)
    assert send(either_office) == 1
    assert send(either_office) == 0
    (mail,) = mails_of(inbox)
    assert (inbox.got[0].mail_from, inbox.got[0].rcpt_tos) == ("privacy@example.org", [ANNA])
    assert (mail["From"], mail["To"], mail["Message-ID"]) == (FROM, ANNA, "<r1.0@example.org>")
    assert (mail["Date"].datetime, mail["Auto-Submitted"]) == (clock(), "auto-generated")
    assert mail["Subject"] == "We need more time for the request r1"
    assert "by 1 June 2027" in text_of(mail)
    assert "The reason: viele Anträge" in text_of(mail)
    assert "\nlog.example.org/main\n" in text_of(mail)
    assert inbox.got[0].content.isascii()
    (sent,) = outbox(either_office)
    assert (sent.sent_at, sent.next_at, sent.tries) == (clock(), None, 1)


def test_a_code_that_was_sent_is_right_until_it_expires(either_office, inbox, clock):
    ask_for_code(either_office)
    send(either_office)
    (code,) = codes_of(inbox)
    assert verify(either_office, code)
    assert verify(either_office, f" {code[:4]}-{code[4:]} ")
    clock.now += timedelta(minutes=30, seconds=-1)
    assert verify(either_office, code)
    clock.now += timedelta(seconds=1)
    with pytest.raises(IdentityError, match="expired"):
        verify(either_office, code)


def test_wrong_codes_are_counted_and_after_some_the_right_one_is_not_looked_at(either_office):
    right = either_office.identities.code("r1", ask_for_code(either_office))
    wrong = [
        either_office.identities.code("r1", 1),
        either_office.identities.code("r2", 0),
        "",
        "一二三四五六七八",
        "\ud800",
    ]
    assert len(wrong) == MOST_WRONG
    for given in wrong:
        assert verify(either_office, right)
        assert not verify(either_office, given)
    with pytest.raises(IdentityError, match="5 wrong codes"):
        verify(either_office, right)
    either_office.clock.now += timedelta(minutes=1)
    right = either_office.identities.code("r1", ask_for_code(either_office))
    with pytest.raises(IdentityError, match="5 wrong codes"):
        verify(either_office, right)


def test_who_guesses_at_once_guesses_no_more_often(either_office):
    ask_for_code(either_office)

    def guess(number: int) -> bool | None:
        try:
            return verify(either_office, f"x{number}")
        except IdentityError:
            return None

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(guess, range(12)))
    assert sorted(answers, key=str) == [False] * MOST_WRONG + [None] * (12 - MOST_WRONG)


def test_only_the_last_code_is_right_and_none_was_sent_for_other_requests(office):
    first = office.identities.code("r1", ask_for_code(office))
    second = office.identities.code("r1", ask_for_code(office))
    assert not verify(office, first)
    assert verify(office, second)
    file(office, "r2")
    enqueue(office, Message.RECEIVED, "r2")
    with begin_locked(office.engine) as connection, pytest.raises(IdentityError, match="No code"):
        verify_code(office, connection, requests.get(connection, "r2"), first, office.clock())


def test_what_is_not_sent_is_tried_for_a_day_word_for_word_and_then_given_up(office, inbox, clock):
    inbox.answers = ["451 later"] * len(SCHEDULE) + ["550 never"]
    enqueue(office, Message.RECEIVED)
    begun = clock()
    for wait in SCHEDULE:
        assert send(office) == 1
        assert outbox(office)[0].next_at == clock() + wait
        clock.now += wait - timedelta(seconds=1)
        assert send(office) == 0
        clock.now += timedelta(seconds=1)
    assert clock() - begun > timedelta(days=1)
    assert send(office) == 1
    (given_up,) = outbox(office)
    assert (given_up.next_at, given_up.sent_at, given_up.tries) == (None, None, len(SCHEDULE) + 1)
    assert len({envelope.content for envelope in inbox.got}) == 1
    clock.now += timedelta(days=365)
    assert send(office) == 0


def test_a_message_that_fails_holds_up_no_other(office, inbox, clock):
    inbox.answers = ["554 no"]
    file(office, "r2", "ben@example.org")
    for name in ("r1", "r2"):
        enqueue(office, Message.RECEIVED, name)
    assert send(office) == 2
    assert [outbox(office, name)[0].sent_at for name in ("r1", "r2")] == [None, clock()]
    clock.now += SCHEDULE[0]
    send(office)
    assert [envelope.rcpt_tos for envelope in inbox.got] == [[ANNA], ["ben@example.org"], [ANNA]]


def test_a_code_that_expired_on_the_way_or_was_replaced_is_not_sent(office, inbox, clock):
    ask_for_code(office)
    clock.now += timedelta(minutes=1)
    second = office.identities.code("r1", ask_for_code(office))
    send(office)
    assert codes_of(inbox) == [second]
    ask_for_code(office)
    clock.now += timedelta(minutes=30)
    assert send(office) == 1
    assert codes_of(inbox) == [second]
    assert [message.next_at for message in outbox(office)] == [None] * 3


def test_a_sender_that_is_killed_before_it_records_sends_again_the_same_code(
    sqlite_url, office, inbox, keys_home, clock
):
    ask_for_code(office)
    program = Path(__file__).with_name("notify_and_die.py")
    words = [sys.executable, program, sqlite_url, keys_home, str(inbox.port)]
    assert subprocess.run(words, check=False, timeout=60).returncode == -signal.SIGKILL
    (claimed,) = outbox(office)
    assert (claimed.tries, claimed.sent_at, len(inbox.got)) == (1, None, 1)
    clock.now = claimed.next_at - timedelta(seconds=1)
    assert send(office) == 0
    clock.now = claimed.next_at
    assert send(office) == 1
    assert inbox.got[0].content == inbox.got[1].content
    assert len(set(codes_of(inbox))) == 1
    assert outbox(office)[0].sent_at == clock()


def test_of_senders_at_once_each_message_has_one(office, inbox):
    for _ in range(6):
        enqueue(office, Message.RECEIVED)
    with ThreadPoolExecutor(3) as threads:
        tried = list(threads.map(lambda _: send(office), range(3)))
    assert sum(tried) == len(inbox.got) == 6
    assert len({mail["Message-ID"] for mail in mails_of(inbox)}) == 6


def test_a_contact_is_forgotten_with_the_last_message_of_an_ended_request(either_office, inbox):
    act(either_office, Action.DENY, Message.DENIED, reason="no_match")
    assert forget_contacts(either_office) == 0
    assert sealed(either_office) is not None
    send(either_office)
    assert len(inbox.got) == 1
    assert sealed(either_office) is None


def test_a_contact_is_kept_while_its_message_is_tried_again_and_forgotten_when_it_is_given_up(office, inbox, clock):
    inbox.answers = ["451 later"] * 100
    act(office, Action.DENY, Message.DENIED, reason="other")
    for wait in SCHEDULE:
        send(office)
        assert sealed(office) is not None
        clock.now += wait
    send(office)
    assert sealed(office) is None


def test_without_a_notifier_messages_wait_and_keep_the_contact_for_a_week(office, inbox, clock):
    act(office, Action.DENY, Message.DENIED, reason="other")
    assert send_due(office, None, limit=10) == 0
    clock.now += LONGEST_WAIT
    assert send_due(office, None, limit=10) == 0
    assert sealed(office) is not None
    clock.now += timedelta(seconds=1)
    send_due(office, None, limit=10)
    assert sealed(office) is None
    assert send(office) == 1
    assert inbox.got == []
    assert outbox(office)[0].next_at is None


def test_nothing_personal_is_in_the_database_or_in_the_log(either_office, inbox, database_url):
    heard = io.StringIO()
    handler = logs.lines(heard)
    logging.getLogger("mbd").addHandler(handler)
    inbox.answers = [f"550 <{ANNA}> is unknown here"]
    ask_for_code(either_office)
    try:
        send(either_office)
    finally:
        logging.getLogger("mbd").removeHandler(handler)
    said = json.loads(heard.getvalue())
    assert (said["revocation"], said["tries"], said["error"]) == (
        "r1",
        1,
        ["mbd.errors.NotifierError", "smtplib.SMTPDataError"],
    )
    (code,) = codes_of(inbox)
    with begin_snapshot(either_office.engine) as connection:
        rows = [
            repr(tuple(row)) for table in tables.metadata.sorted_tables for row in connection.execute(select(table))
        ]
    dump = "\n".join(rows).encode()
    if database_url.startswith("sqlite"):
        dump += b"".join(path.read_bytes() for path in Path(either_office.engine.url.database).parent.glob("records*"))
    assert b"dr1" in dump
    for personal in (ANNA.encode(), b"anna@", code.encode(), b"example.org"):
        assert personal not in dump
        assert personal not in heard.getvalue().encode()


def test_a_contact_that_does_not_open_is_tried_again_and_nobody_else_is_written_to(office, inbox):
    with begin_locked(office.engine) as connection:
        moved = office.identities.seal(ANNA.encode(), "another request")
        connection.execute(tables.contact.update().values(sealed=moved))
    enqueue(office, Message.RECEIVED)
    assert send(office) == 1
    assert inbox.got == []
    assert outbox(office)[0].next_at == office.clock() + SCHEDULE[0]


def test_a_plug_in_that_breaks_holds_up_nobody(office, clock):
    class Broken:
        def send(self, letter: Letter) -> None:
            raise KeyError(letter.to)

    enqueue(office, Message.RECEIVED)
    assert send_due(office, Broken(), limit=10) == 1
    assert outbox(office)[0].next_at == clock() + SCHEDULE[0]
