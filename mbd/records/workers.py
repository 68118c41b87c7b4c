"""Which workers there are, and when each was heard of last. It does not decide which of them is dead.

Writers pass a connection from `database.begin_locked`.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update

from mbd.records import tables


@dataclass(frozen=True)
class Worker:
    """A process that deletes.

    Attributes:
        id: new with each start.
        seen_at: its last sign of life, by its own clock.
        stopped_at: when it ended, or was taken for dead.
    """

    id: str
    started_at: datetime
    seen_at: datetime
    stopped_at: datetime | None = None


def beat(connection: Connection, worker_id: str, *, at: datetime) -> None:
    """A sign of life. The first one registers the worker; one that was taken for dead lives again."""
    known = tables.worker.c.id == worker_id
    done = connection.execute(update(tables.worker).where(known).values(seen_at=at, stopped_at=None))
    if done.rowcount == 0:
        connection.execute(insert(tables.worker).values(id=worker_id, started_at=at, seen_at=at))


def stop(connection: Connection, worker_id: str, *, at: datetime) -> None:
    """It has ended, or is taken for dead; saying so again changes nothing."""
    running = (tables.worker.c.id == worker_id, tables.worker.c.stopped_at.is_(None))
    connection.execute(update(tables.worker).where(*running).values(stopped_at=at))


def known(connection: Connection) -> tuple[Worker, ...]:
    """All that are remembered, by their ids."""
    at = tables.worker.c
    query = select(at.id, at.started_at, at.seen_at, at.stopped_at).order_by(at.id)
    return tuple(Worker(*row) for row in connection.execute(query))


def forget(connection: Connection, *, stopped_before: datetime) -> None:
    """Remove what nobody asks for any more."""
    connection.execute(delete(tables.worker).where(tables.worker.c.stopped_at < stopped_before))
