"""What was answered to requests with an Idempotency-Key, so that one sent again gets its answer and is not done again.

An answer is kept in the transaction that did what it says: there is no time in which one is there without the other,
and a second request with the key waits for the first one's end. Writers pass a connection from `database.begin_locked`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, delete, insert, select

from mbd.records import tables

KEPT = timedelta(days=1)
"""How long an answer can be had again."""

# Made once: to put a statement together costs more than to run it.
_of = tables.idempotency.c
_FIND = select(tables.idempotency).where(_of.principal == bindparam("caller"), _of.key == bindparam("name"))
_FORGET = delete(tables.idempotency).where(_of.created_at < bindparam("before"))
_KEEP = insert(tables.idempotency)


@dataclass(frozen=True)
class Answer:
    """An answer as it was given, and a digest of what was asked."""

    digest: str
    status: int
    body: str


def find(connection: Connection, principal: str, key: str) -> Answer | None:
    """What was answered to this caller's request with this key."""
    row = connection.execute(_FIND, {"caller": principal, "name": key}).one_or_none()
    return None if row is None else Answer(row.digest, row.status, row.answer)


def keep(connection: Connection, principal: str, key: str, answer: Answer, *, at: datetime) -> None:
    """Keep an answer, and forget those that are too old."""
    connection.execute(_FORGET, {"before": at - KEPT})
    connection.execute(
        _KEEP,
        {
            "principal": principal,
            "key": key,
            "digest": answer.digest,
            "status": answer.status,
            "answer": answer.body,
            "created_at": at,
        },
    )
