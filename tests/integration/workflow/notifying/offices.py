"""An office with a request of somebody who can be reached, and what it sends and records."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from mbd.records import contacts, messages, requests
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.lifecycle import Action, Role
from mbd.records.messages import Message, Outgoing
from mbd.records.requests import Actor, Revocation
from mbd.records.suppression import Channel
from mbd.settings import Settings
from mbd.workflow.identities import load_identities
from mbd.workflow.notifying import open_notifier, send_due, verify_code
from mbd.workflow.office import Office
from tests.integration.workflow.notifying.inboxes import Inbox

ANNA = "anna@example.org"
FROM = "Privacy desk <privacy@example.org>"
OFFICER = Actor(Role.OFFICER, "key-1")


class Clock:
    """A time that tests move."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC).replace(microsecond=0)

    def __call__(self) -> datetime:
        return self.now


def office_of(engine: Engine, home: Path, clock: Clock, inbox: Inbox | None = None, **more: Any) -> Office:
    chosen = {"mail_from": FROM} | more
    if inbox is not None:
        chosen["notifier"] = f"smtp://127.0.0.1:{inbox.port}"
    office = Office(Settings(**chosen), home, engine, load_identities(home), clock)
    file(office, "r1")
    return office


def file(office: Office, name: str, contact: str = ANNA) -> None:
    asked = Revocation(name, f"d{name}", "gdpr", (Channel("anna-key", "audio"),), office.clock(), date(2027, 4, 1))
    with begin_locked(office.engine) as connection:
        requests.file(connection, asked, by=OFFICER)
        contacts.keep(connection, name, office.identities.seal(contact.encode(), name))


def enqueue(office: Office, kind: Message, name: str = "r1") -> None:
    with begin_locked(office.engine) as connection:
        messages.enqueue(connection, name, kind, office.clock())


def ask_for_code(office: Office) -> int:
    with begin_locked(office.engine) as connection:
        return messages.enqueue_code(connection, "r1", office.clock())


def act(office: Office, action: Action, kind: Message | None = None, **more: Any) -> None:
    with begin_locked(office.engine) as connection:
        requests.act(connection, "r1", action, by=OFFICER, at=office.clock(), **more)
        if kind is not None:
            messages.enqueue(connection, "r1", kind, office.clock())


def send(office: Office) -> int:
    return send_due(office, open_notifier(office.settings), limit=10)


def outbox(office: Office, name: str = "r1") -> tuple[Outgoing, ...]:
    with begin_snapshot(office.engine) as connection:
        return messages.of_request(connection, name)


def sealed(office: Office, name: str = "r1") -> bytes | None:
    with begin_snapshot(office.engine) as connection:
        return contacts.get(connection, name).sealed


def verify(office: Office, given: str) -> bool:
    with begin_locked(office.engine) as connection:
        return verify_code(office, connection, requests.get(connection, "r1"), given, office.clock())
