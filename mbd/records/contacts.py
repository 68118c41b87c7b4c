"""How to reach the person of a request, sealed, and how often a wrong code was given for it. It opens nothing.

It is kept only while something can be said: `forgettable` finds what is not needed any more. Writers pass a connection
from `database.begin_locked`.
"""

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, exists, insert, select, update

from mbd.records import tables
from mbd.records.lifecycle import ENDED

_contact = tables.contact.c
_message = tables.message.c


@dataclass(frozen=True)
class Contact:
    """What is kept of a way to reach somebody.

    Attributes:
        sealed: encrypted by whoever keeps it; None since it was emptied.
        wrong_codes: how often a wrong code was given for the request.
    """

    sealed: bytes | None = field(repr=False)
    wrong_codes: int


def keep(connection: Connection, revocation_id: str, sealed: bytes) -> None:
    """Keep the contact of a request, in the transaction that files it."""
    connection.execute(insert(tables.contact).values(revocation_id=revocation_id, sealed=sealed, wrong_codes=0))


def get(connection: Connection, revocation_id: str) -> Contact | None:
    """The contact of a request; None if none was given."""
    query = select(_contact.sealed, _contact.wrong_codes).where(_contact.revocation_id == revocation_id)
    row = connection.execute(query).one_or_none()
    return None if row is None else Contact(row.sealed, row.wrong_codes)


def count_wrong_code(connection: Connection, revocation_id: str) -> int:
    """Count a wrong code, and return how many there were. It counts if the caller's transaction is committed."""
    this = _contact.revocation_id == revocation_id
    connection.execute(update(tables.contact).where(this).values(wrong_codes=_contact.wrong_codes + 1))
    return connection.scalar(select(_contact.wrong_codes).where(this)) or 0


def empty(connection: Connection, revocation_id: str) -> None:
    """Forget how to reach the person; that wrong codes were given stays."""
    connection.execute(update(tables.contact).where(_contact.revocation_id == revocation_id).values(sealed=None))


def forgettable(connection: Connection, *, waiting_since: datetime) -> tuple[str, ...]:
    """Requests that have ended, whose contact is still there, and for which no message waits.

    Args:
        connection: to read.
        waiting_since: messages that were made before this time, and wait still, hold up nothing.
    """
    waits = exists().where(
        _message.revocation_id == _contact.revocation_id,
        _message.next_at.is_not(None),
        _message.created_at >= waiting_since,
    )
    query = (
        select(_contact.revocation_id)
        .join(tables.revocation)
        .where(_contact.sealed.is_not(None), tables.revocation.c.state.in_(sorted(ENDED)), ~waits)
        .order_by(_contact.revocation_id)
    )
    return tuple(connection.scalars(query))
