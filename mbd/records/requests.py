"""Revocation requests, how far they have come, and every step on the way. It knows what was asked, not of whom by name.

Which step may follow is `lifecycle`'s to say; here each is written down with who took it, when and why, in the same
transaction as the state that it leads to and the call-backs that tell of it. Writers pass a connection from
`database.begin_locked`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, func, insert, literal, or_, select, tuple_, update

from mbd.errors import RecordsError, TransitionError
from mbd.records import lifecycle, tables, webhooks
from mbd.records.lifecycle import WITH_THE_WORKER, Action, Role, State
from mbd.records.suppression import EVERYONE, Channel
from mbd.records.tables.requests import OPEN


@dataclass(frozen=True)
class Actor:
    """Who takes an action. The id names a key, a program or a token: never a person by name or address."""

    role: Role
    id: str


WORKER = Actor(Role.WORKER, "worker")

# Made once: to put a statement together costs more than to run it.
_KEEP, _KEEP_EVENT = insert(tables.revocation), insert(tables.revocation_event)
_BY_ID = select(tables.revocation).where(tables.revocation.c.id == bindparam("value"))
_BY_DIGEST = select(tables.revocation).where(tables.revocation.c.digest == bindparam("value"))


@dataclass(frozen=True)
class Revocation:
    """A request to withdraw channels.

    Attributes:
        digest: of the request as it was received; one digest is one request.
        regime: the law or policy that it was made under.
        scope: the channels to withdraw.
        due: the last day on which an answer is in time (`mbd.records.deadlines`).
        state: how far it has come.
        changed_at: when `state` was reached; None for one that is to be filed.
        extended: whether its longer period was taken.
        filed_by: the id of who filed it; empty for one that is to be filed.
    """

    id: str
    digest: str
    regime: str
    scope: tuple[Channel, ...]
    requested_at: datetime
    due: date
    state: State = State.FILED
    changed_at: datetime | None = None
    extended: bool = False
    filed_by: str = ""

    @property
    def subject_key(self) -> str | None:
        """Of the person whom all of it is about; None where it is about several, or everyone."""
        people = {channel.subject_key for channel in self.scope}
        (one,) = people if len(people) == 1 else (EVERYONE,)
        return None if one == EVERYONE else one


@dataclass(frozen=True)
class Event:
    """One step of a request: the action, who took it, when and why, and the state that it led to."""

    action: Action
    state: State
    by: Actor
    at: datetime
    reason: str | None


def file(connection: Connection, revocation: Revocation, *, by: Actor) -> Revocation:
    """Keep a request, and return the one that is kept: of two with the same digest, the first."""
    stored = _one(connection, _BY_DIGEST, revocation.digest)
    if stored is not None:
        return stored
    at = revocation.requested_at
    filed = replace(revocation, state=State.FILED, changed_at=at, extended=False, filed_by=by.id)
    connection.execute(
        _KEEP,
        {
            "id": filed.id,
            "digest": filed.digest,
            "regime": filed.regime,
            "scope": [{"subject_key": channel.subject_key, "modality": channel.modality} for channel in filed.scope],
            "requested_at": at,
            "due": filed.due,
            "state": filed.state.value,
            "changed_at": at,
            "extended": filed.extended,
            "filed_by": filed.filed_by,
            "subject_key": filed.subject_key,
        },
    )
    _write(connection, filed.id, 0, Event(Action.FILE, filed.state, by, at, None))
    webhooks.announce(connection, filed, at=at)
    return filed


def find(connection: Connection, revocation_id: str) -> Revocation | None:
    """A request by its id, or None."""
    return _one(connection, _BY_ID, revocation_id)


def get(connection: Connection, revocation_id: str) -> Revocation:
    """A request by its id.

    Raises:
        RecordsError: there is no such request.
    """
    stored = find(connection, revocation_id)
    if stored is None:
        raise RecordsError(f"There is no request '{revocation_id}'.", remedy="use an id that `mbd requests list` shows")
    return stored


def act(
    connection: Connection,
    revocation_id: str,
    action: Action,
    *,
    by: Actor,
    at: datetime,
    reason: str | None = None,
    due: date | None = None,
) -> Revocation:
    """Take an action, and write it down.

    A worker's step may be said again, because a step that was killed is repeated: it changes nothing where the request
    is already in the state that it leads to.

    Args:
        connection: that holds the lock.
        revocation_id: of the request.
        action: what is done.
        by: who does it.
        at: when.
        reason: why; without names, addresses or other words about a person.
        due: of an extension, the new last day.

    Raises:
        RecordsError: there is no such request.
        TransitionError: the action is not possible there, or not theirs, or lacks its reason.
    """
    current = get(connection, revocation_id)
    rule = lifecycle.RULES[action]
    if by.role is Role.WORKER and by.role in rule.roles and current.state in rule.leads.values():
        return current
    state = lifecycle.after(current.state, action, by.role, reason=reason)
    changes: dict[str, object] = {}
    if state is not current.state:
        changes |= {"state": state.value, "changed_at": at}
    if action is Action.EXTEND:
        changes |= {"extended": True, "due": _extended(current, due)}
    connection.execute(update(tables.revocation).where(tables.revocation.c.id == revocation_id).values(**changes))
    number = select(func.count()).where(tables.revocation_event.c.revocation_id == revocation_id)
    _write(connection, revocation_id, connection.scalar(number) or 0, Event(action, state, by, at, reason))
    changed = get(connection, revocation_id)
    webhooks.announce(connection, changed, at=at)
    return changed


def events(connection: Connection, revocation_id: str) -> tuple[Event, ...]:
    """Every step of a request, in order."""
    at = tables.revocation_event.c
    query = select(tables.revocation_event).where(at.revocation_id == revocation_id).order_by(at.number)
    return tuple(
        Event(Action(row.action), State(row.state), Actor(Role(row.role), row.actor), row.at, row.reason)
        for row in connection.execute(query)
    )


def in_states(connection: Connection, states: Iterable[State]) -> tuple[Revocation, ...]:
    """The requests in some states, oldest first."""
    at = tables.revocation.c
    query = (
        select(tables.revocation)
        .where(at.state.in_(sorted(state.value for state in states)))
        .order_by(at.requested_at, at.id)
    )
    return tuple(_revocation(row) for row in connection.execute(query))


@dataclass(frozen=True)
class Failure:
    """That a request has failed: which one, when it did last, and how many times until then."""

    request_id: str
    at: datetime
    times: int


def failed_for(connection: Connection, reasons: Iterable[str]) -> tuple[Failure, ...]:
    """The requests that are `failed`, and were so the last time for one of these reasons."""
    request, event = tables.revocation.c, tables.revocation_event.c
    failures = (event.revocation_id == request.id) & (event.action == Action.FAIL.value)
    times = select(func.count()).where(failures).scalar_subquery()
    last = select(event.reason).where(failures).order_by(event.number.desc()).limit(1).scalar_subquery()
    query = (
        select(request.id, request.changed_at, times)
        .where(request.state == State.FAILED.value, last.in_(sorted(reasons)))
        .order_by(request.changed_at, request.id)
    )
    return tuple(Failure(*row) for row in connection.execute(query))


def covering(connection: Connection, revocation: Revocation) -> Revocation | None:
    """Another open request of the same person whose identity was verified, and which asks for all of this one's."""
    if revocation.subject_key is None:
        return None
    at = tables.revocation.c
    query = (
        select(tables.revocation)
        .where(at.subject_key == revocation.subject_key, at.id != revocation.id)
        .where(at.state.in_(sorted(state.value for state in (State.PENDING_REVIEW, *WITH_THE_WORKER))))
        .order_by(at.requested_at, at.id)
    )
    others = map(_revocation, connection.execute(query))
    return next((other for other in others if set(revocation.scope) <= set(other.scope)), None)


@dataclass(frozen=True)
class Page:
    """Some requests in their order, and the position after which the next page begins; None after the last."""

    requests: tuple[Revocation, ...]
    following: tuple[str, str] | None


def page(
    connection: Connection,
    *,
    limit: int,
    after: tuple[str, str] | None = None,
    urgent: bool = False,
    states: Iterable[State] | None = None,
    filed_by: str | None = None,
    subject_key: str | None = None,
) -> Page:
    """A page of requests by keyset: whatever is filed meanwhile, none is shown twice and none that was there is missed.

    Args:
        connection: for reading.
        limit: the most requests.
        after: where the page before ended (`Page.following`).
        urgent: those that are not done, by their last day; otherwise all, the newest first.
        states: only in these.
        filed_by: only what this one filed.
        subject_key: only what is about this person; where both are given, either.
    """
    at = tables.revocation.c
    query = select(tables.revocation).limit(limit + 1)
    order: Any = at.due if urgent else at.requested_at
    query = query.where(OPEN).order_by(order, at.id) if urgent else query.order_by(order.desc(), at.id.desc())
    if after is not None:
        moment = (date if urgent else datetime).fromisoformat(after[0])
        place, last = tuple_(order, at.id), tuple_(literal(moment, order.type), literal(after[1], at.id.type))
        query = query.where(place > last if urgent else place < last)
    mine = [column == value for column, value in ((at.filed_by, filed_by), (at.subject_key, subject_key)) if value]
    if mine:
        query = query.where(or_(*mine))
    if states is not None:
        query = query.where(at.state.in_(sorted(state.value for state in states)))
    found = tuple(_revocation(row) for row in connection.execute(query))
    if len(found) <= limit:
        return Page(found, None)
    last_shown = found[limit - 1]
    moment_shown = last_shown.due if urgent else last_shown.requested_at
    return Page(found[:limit], (moment_shown.isoformat(), last_shown.id))


def unfinished(connection: Connection) -> tuple[Revocation, ...]:
    """The approved requests that still have a way to go, oldest first: what a restart resumes."""
    return in_states(connection, WITH_THE_WORKER)


def _extended(current: Revocation, due: date | None) -> date:
    if current.extended:
        raise TransitionError("The request has been extended before.", remedy="answer it by its last day")
    if due is None or due <= current.due:
        raise TransitionError(
            f"The regime '{current.regime}' knows no longer period.", remedy="answer the request by its last day"
        )
    return due


def _write(connection: Connection, revocation_id: str, number: int, event: Event) -> None:
    connection.execute(
        _KEEP_EVENT,
        {
            "revocation_id": revocation_id,
            "number": number,
            "action": event.action.value,
            "state": event.state.value,
            "role": event.by.role.value,
            "actor": event.by.id,
            "at": event.at,
            "reason": event.reason,
        },
    )


def _one(connection: Connection, query: Select[Any], value: str) -> Revocation | None:
    row = connection.execute(query, {"value": value}).one_or_none()
    return None if row is None else _revocation(row)


def _revocation(row: Row[Any]) -> Revocation:
    scope = tuple(Channel(entry["subject_key"], entry["modality"]) for entry in row.scope)
    return Revocation(
        row.id,
        row.digest,
        row.regime,
        scope,
        row.requested_at,
        row.due,
        State(row.state),
        row.changed_at,
        row.extended,
        row.filed_by,
    )
