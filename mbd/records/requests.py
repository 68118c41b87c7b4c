"""Revocation requests and how far they have come. It knows what was asked, never of whom by name.

Writers pass a connection from `database.begin_locked`.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, insert, select, update

from mbd.errors import RecordsError
from mbd.records import tables
from mbd.records.suppression import Channel


class State(StrEnum):
    """How far a request has come."""

    FILED = "filed"
    APPROVED = "approved"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"


_NEXT = {
    State.FILED: {State.APPROVED},
    State.APPROVED: {State.IN_PROGRESS, State.FAILED},
    State.IN_PROGRESS: {State.COMPLETED, State.FAILED},
    State.FAILED: {State.IN_PROGRESS},
    State.COMPLETED: set[State](),
}


@dataclass(frozen=True)
class Revocation:
    """A request to withdraw channels.

    Attributes:
        digest: of the request as it was received; one digest is one request.
        regime: the law or policy that it was made under.
        scope: the channels to withdraw.
        changed_at: when `state` was reached.
    """

    id: str
    digest: str
    regime: str
    scope: tuple[Channel, ...]
    requested_at: datetime
    state: State
    changed_at: datetime


def add(connection: Connection, revocation: Revocation) -> Revocation:
    """Keep a request, and return the one that is kept: of two with the same digest, the first."""
    stored = _one(connection, tables.revocation.c.digest == revocation.digest)
    if stored is not None:
        return stored
    connection.execute(
        insert(tables.revocation).values(
            id=revocation.id,
            digest=revocation.digest,
            regime=revocation.regime,
            scope=[{"subject_key": channel.subject_key, "modality": channel.modality} for channel in revocation.scope],
            requested_at=revocation.requested_at,
            state=revocation.state.value,
            changed_at=revocation.changed_at,
        )
    )
    return get(connection, revocation.id)


def get(connection: Connection, revocation_id: str) -> Revocation:
    """A request by its id.

    Raises:
        RecordsError: there is no such request.
    """
    stored = _one(connection, tables.revocation.c.id == revocation_id)
    if stored is None:
        raise RecordsError(
            f"There is no revocation '{revocation_id}'.", remedy="use the id that mbd revoke has printed"
        )
    return stored


def advance(connection: Connection, revocation_id: str, state: State, *, at: datetime) -> Revocation:
    """Move a request on. Reaching a state again changes nothing, so that a retried step may say it twice.

    Raises:
        RecordsError: there is no such request, or that state does not follow its state.
    """
    current = get(connection, revocation_id)
    if current.state is state:
        return current
    if state not in _NEXT[current.state]:
        raise RecordsError(
            f"The revocation '{revocation_id}' is {current.state}, from where it cannot become {state}.",
            remedy="look at it with mbd lineage, and file a new one if it has ended",
        )
    connection.execute(
        update(tables.revocation)
        .where(tables.revocation.c.id == revocation_id)
        .values(state=state.value, changed_at=at)
    )
    return get(connection, revocation_id)


def unfinished(connection: Connection) -> tuple[Revocation, ...]:
    """The requests that still have a way to go, oldest first: what a restart resumes."""
    query = (
        select(tables.revocation)
        .where(tables.revocation.c.state != State.COMPLETED.value)
        .order_by(tables.revocation.c.requested_at, tables.revocation.c.id)
    )
    return tuple(_revocation(row) for row in connection.execute(query))


def _one(connection: Connection, condition: ColumnElement[bool]) -> Revocation | None:
    row = connection.execute(select(tables.revocation).where(condition)).one_or_none()
    return None if row is None else _revocation(row)


def _revocation(row: Row[Any]) -> Revocation:
    scope = tuple(Channel(entry["subject_key"], entry["modality"]) for entry in row.scope)
    return Revocation(row.id, row.digest, row.regime, scope, row.requested_at, State(row.state), row.changed_at)
