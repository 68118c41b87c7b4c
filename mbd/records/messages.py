"""What is to be said to the person of a request: an outbox. It knows kinds of messages, no texts, codes or addresses.

A message is written in the transaction of the change that it tells of, so that neither is ever there without the other.
A sender *claims* it, sends it outside of any transaction, and records what came of it: the claim is a time until which
nobody else takes it, so that the messages of a sender that died are sent again. Writers pass a connection from
`database.begin_locked`.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from mbd.errors import IdentityError
from mbd.records import contacts, tables

MOST_CODES = 4
"""Codes that are sent for one request: the first, and three more on demand."""

_message = tables.message.c


class Message(StrEnum):
    """What is said. What exactly follows from the request, when it is sent."""

    CODE = "code"
    """A code, which proves that somebody reads what is sent to the contact."""

    RECEIVED = "received"
    EXTENDED = "extended"
    DENIED = "denied"
    DUPLICATE = "duplicate"
    COMPLETED = "completed"


@dataclass(frozen=True)
class Outgoing:
    """A message of the outbox.

    Attributes:
        number: counts the messages of the request, from 0; with it the code of a `Message.CODE` is computed.
        tries: how often it was claimed.
        next_at: when it is due; None when it was sent or given up.
    """

    revocation_id: str
    number: int
    kind: Message
    created_at: datetime
    tries: int
    next_at: datetime | None
    sent_at: datetime | None


def enqueue(connection: Connection, revocation_id: str, kind: Message, at: datetime) -> int | None:
    """Have something said, and return the message's number; None where the person gave no contact.

    Crash point: it is in the caller's transaction, so that the change and its message are there together or not.
    """
    contact = contacts.get(connection, revocation_id)
    if contact is None or contact.sealed is None:
        return None
    number = connection.scalar(select(func.count()).where(_message.revocation_id == revocation_id)) or 0
    connection.execute(
        insert(tables.message).values(
            revocation_id=revocation_id, number=number, kind=kind.value, created_at=at, tries=0, next_at=at
        )
    )
    return number


def enqueue_code(connection: Connection, revocation_id: str, at: datetime) -> int:
    """Have a code sent, and return its number; codes that were to be sent before are not valid, and given up.

    Raises:
        IdentityError: the person gave no contact, or as many codes were sent as one request can have.
    """
    codes = (_message.revocation_id == revocation_id, _message.kind == Message.CODE.value)
    if (connection.scalar(select(func.count()).where(*codes)) or 0) >= MOST_CODES:
        raise IdentityError(
            f"{MOST_CODES} codes were sent for this request, and no more are.", remedy="let an officer attest who it is"
        )
    connection.execute(update(tables.message).where(*codes).values(next_at=None))
    number = enqueue(connection, revocation_id, Message.CODE, at)
    if number is None:
        raise IdentityError(
            "No contact is known for this request to send a code to.", remedy="let an officer attest who it is"
        )
    return number


def current_code(connection: Connection, revocation_id: str) -> Outgoing | None:
    """The last message with a code, the only one whose code is valid; None if there was none."""
    query = select(tables.message).where(_message.revocation_id == revocation_id, _message.kind == Message.CODE.value)
    row = connection.execute(query.order_by(_message.number.desc()).limit(1)).one_or_none()
    return None if row is None else _outgoing(row)


def of_request(connection: Connection, revocation_id: str) -> tuple[Outgoing, ...]:
    """Everything that was or is to be said about a request, in order."""
    query = select(tables.message).where(_message.revocation_id == revocation_id).order_by(_message.number)
    return tuple(_outgoing(row) for row in connection.execute(query))


def due(connection: Connection, at: datetime, *, limit: int) -> tuple[Outgoing, ...]:
    """Messages whose time has come: the least tried first, so that dead ends hold up none."""
    query = (
        select(tables.message)
        .where(_message.next_at <= at)
        .order_by(_message.tries, _message.next_at, _message.revocation_id, _message.number)
        .limit(limit)
    )
    return tuple(_outgoing(row) for row in connection.execute(query))


def claim(connection: Connection, message: Outgoing, at: datetime, *, until: datetime) -> Outgoing | None:
    """Take a due message, and count the try; None if another sender was faster.

    Crash point: a sender that dies after the commit leaves it due again at ``until``.
    """
    changed = {"tries": _message.tries + 1, "next_at": until}
    taken = connection.execute(update(tables.message).where(*_this(message), _message.next_at <= at).values(**changed))
    if taken.rowcount == 0:
        return None
    return _outgoing(connection.execute(select(tables.message).where(*_this(message))).one())


def sent(connection: Connection, message: Outgoing, *, at: datetime) -> None:
    """Record that a claimed message was sent, whoever has claimed it since."""
    connection.execute(
        update(tables.message).where(*_this(message), _message.sent_at.is_(None)).values(sent_at=at, next_at=None)
    )


def failed(connection: Connection, message: Outgoing, *, next_at: datetime | None) -> None:
    """Record that a claimed message was not sent; nothing changes where the claim has passed to another sender.

    Args:
        connection: that holds the lock.
        message: as it was claimed.
        next_at: when it is tried again; None to give it up.
    """
    mine = (*_this(message), _message.tries == message.tries, _message.next_at.is_not(None))
    connection.execute(update(tables.message).where(*mine).values(next_at=next_at))


def _this(message: Outgoing) -> tuple[Any, ...]:
    return (_message.revocation_id == message.revocation_id, _message.number == message.number)


def _outgoing(row: Row[Any]) -> Outgoing:
    return Outgoing(
        row.revocation_id, row.number, Message(row.kind), row.created_at, row.tries, row.next_at, row.sent_at
    )
