"""Sends the messages that are due, and forgets how to reach people to whom nothing more is to be said.

At least once: a process that dies between sending and recording leaves the message claimed for a few minutes, and then
it is sent again, word for word and with the same id. Any number of senders may run at once, in any process.
"""

from datetime import timedelta

from sqlalchemy import Connection

from certs.trusted_root import parse
from mbd.records import certificates, contacts, messages, requests
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.lifecycle import Action
from mbd.records.messages import Message, Outgoing
from mbd.telemetry import logs
from mbd.workflow.notifying.codes import valid_until
from mbd.workflow.notifying.notifier import Letter, Notifier
from mbd.workflow.notifying.texts import Facts, subject_of, text_of
from mbd.workflow.office import Office

SCHEDULE = (
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=20),
    timedelta(hours=1),
    timedelta(hours=3),
    timedelta(hours=7),
    timedelta(hours=13),
)
"""How long to wait after each failed try; after the last one the message is given up."""

CLAIM = timedelta(minutes=5)
"""For how long a sender has a message to itself: longer than sending it can take."""

LONGEST_WAIT = timedelta(days=7)
"""After that, a message that nobody has sent keeps no contact of a request that has ended."""

_REASON = {
    Message.EXTENDED: Action.EXTEND,
    Message.DENIED: Action.DENY,
    Message.DUPLICATE: Action.FIND_DUPLICATE,
}

_log = logs.logger("mbd.notifying")


def send_due(office: Office, notifier: Notifier | None, *, limit: int) -> int:
    """Send what is due, one by one, each outside of any transaction; returns how many were tried.

    Without a notifier, messages wait. Contacts that are not needed any more are forgotten in either case.

    Crash point: death between sending and recording repeats the message when its claim has passed.

    Raises:
        RecordsError: the database cannot be reached.
    """
    tried = 0
    if notifier is not None:
        with begin_snapshot(office.engine) as connection:
            found = messages.due(connection, office.clock(), limit=limit)
        for each in found:
            with begin_locked(office.engine) as connection:
                now = office.clock()
                claimed = messages.claim(connection, each, now, until=now + CLAIM)
            if claimed is not None:
                _try(office, notifier, claimed)
                tried += 1
    forget_contacts(office)
    return tried


def forget_contacts(office: Office) -> int:
    """Empty the contacts of requests that have ended and about which nothing more is to be said; how many.

    Raises:
        RecordsError: the database cannot be reached.
    """
    since = office.clock() - LONGEST_WAIT
    with begin_snapshot(office.engine) as connection:
        found = contacts.forgettable(connection, waiting_since=since)
    if not found:
        return 0
    with begin_locked(office.engine) as connection:
        found = contacts.forgettable(connection, waiting_since=since)
        for each in found:
            contacts.empty(connection, each)
    return len(found)


def _try(office: Office, notifier: Notifier, message: Outgoing) -> None:
    """Send a claimed message, and record what came of it."""
    wait = SCHEDULE[message.tries - 1] if message.tries <= len(SCHEDULE) else None
    problem: Exception | None = None
    try:
        letter = _letter(office, message)
        if letter is None:  # nobody is left to send it to, or its code is worth nothing any more
            wait = None
        else:
            notifier.send(letter)
    except Exception as error:  # noqa: BLE001 - a plug-in may raise anything, and must not keep others from their messages
        letter, problem = None, error
    with begin_locked(office.engine) as connection:
        now = office.clock()
        if letter is not None:
            messages.sent(connection, message, at=now)
        else:
            messages.failed(connection, message, next_at=None if wait is None else now + wait)
    if letter is None:
        _log.warning(
            "a message to a person was given up" if wait is None else "a message to a person was not sent",
            revocation=message.revocation_id,
            tries=message.tries,
            error=problem,
        )


def _letter(office: Office, message: Outgoing) -> Letter | None:
    """What a message says: the same on every try; None where it cannot be said any more.

    Raises:
        SettingsError: the contact does not open.
    """
    is_code = message.kind is Message.CODE
    if is_code and office.clock() >= valid_until(office.settings, message):
        return None
    with begin_snapshot(office.engine) as connection:
        contact = contacts.get(connection, message.revocation_id)
        facts = _facts(office, connection, message)
    if contact is None or contact.sealed is None:
        return None
    return Letter(
        id=f"{message.revocation_id}.{message.number}",
        to=office.identities.open(contact.sealed, message.revocation_id).decode(),
        subject=subject_of(message.kind, facts),
        text=text_of(message.kind, facts),
        at=message.created_at,
    )


def _facts(office: Office, connection: Connection, message: Outgoing) -> Facts:
    steps = requests.events(connection, message.revocation_id)
    reasons = [step.reason for step in steps if step.action is _REASON.get(message.kind)]
    issued = certificates.of_revocations(connection, [message.revocation_id])
    is_code = message.kind is Message.CODE
    return Facts(
        revocation=requests.get(connection, message.revocation_id),
        origin=parse(office.trusted_root_path.read_bytes()).logs[0].key.name,
        public_url=office.settings.public_url,
        code=office.identities.code(message.revocation_id, message.number) if is_code else None,
        valid_until=valid_until(office.settings, message) if is_code else None,
        reason=reasons[-1] if reasons else None,
        certificates=tuple(each.id for each in issued),
    )
