"""How far the work on a request is, for whoever waits for it. It is written often, and forgotten when the work ends.

Writers pass a connection from `database.begin_locked`.
"""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from mbd.records import tables


@dataclass(frozen=True)
class Progress:
    """A moment of the work.

    Attributes:
        step: what is being done, in a few words.
        fraction: of all the work, from 0 to 1.
        started_at: when this run of the work began.
        at: when this was written.
        estimated_end: a guess; None while nothing can be said.
    """

    step: str
    fraction: float
    started_at: datetime
    at: datetime
    estimated_end: datetime | None


def put(connection: Connection, revocation_ids: Collection[str], now: Progress) -> None:
    """Write it down for all the requests that are worked on together."""
    clear(connection, revocation_ids)
    rows = [{"revocation_id": revocation_id, **asdict(now)} for revocation_id in revocation_ids]
    if rows:
        connection.execute(insert(tables.progress), rows)


def get(connection: Connection, revocation_id: str) -> Progress | None:
    """What was written last; None where nobody works on the request."""
    at = tables.progress.c
    query = select(at.step, at.fraction, at.started_at, at.at, at.estimated_end)
    row = connection.execute(query.where(at.revocation_id == revocation_id)).one_or_none()
    return None if row is None else Progress(*row)


def of(connection: Connection, revocation_ids: Collection[str]) -> dict[str, Progress]:
    """The same for some requests, by id, of those that are worked on."""
    at = tables.progress.c
    query = select(at.revocation_id, at.step, at.fraction, at.started_at, at.at, at.estimated_end)
    rows = connection.execute(query.where(at.revocation_id.in_(revocation_ids)))
    return {row[0]: Progress(*row[1:]) for row in rows}


def clear(connection: Connection, revocation_ids: Collection[str]) -> None:
    """Forget it."""
    connection.execute(delete(tables.progress).where(tables.progress.c.revocation_id.in_(revocation_ids)))
