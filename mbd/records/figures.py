"""How much there is of everything, for whoever watches the service: counts and times, nobody's key and nobody's id.

Each figure is one aggregate query. Those of the outboxes and of the suppression list read their tables; the others, an
index.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import Column, Connection, Select, Table, func, select

from mbd.records import tables
from mbd.records.lifecycle import ENDED, State


@dataclass(frozen=True)
class Outbox:
    """What is to be said to others.

    Attributes:
        waiting: it will be tried, or tried again.
        given_up: it did not arrive, and nobody tries any more.
    """

    waiting: int
    given_up: int


@dataclass(frozen=True)
class Figures:
    """The state of the service at one moment.

    Attributes:
        requests: how many are in each state, of all states.
        next_due: the last day of the open request that has the least time left; None where none is open.
        overdue: open requests whose last day is over.
        waiting_since: of the approved and of those in progress, since when the one that has waited longest is so.
        suppressed: channels on the suppression list.
        certificates: that stand: not superseded by another.
        log_size: leaves.
        signed_size: leaves that the last signed checkpoint covers.
        deliveries: call-backs to other platforms.
        messages: to people.
        workers: those that live.
        silent_workers: those that have neither stopped nor given a sign of life for too long.
    """

    requests: Mapping[State, int]
    next_due: date | None
    overdue: int
    waiting_since: Mapping[State, datetime]
    suppressed: int
    certificates: int
    log_size: int
    signed_size: int
    deliveries: Outbox
    messages: Outbox
    workers: int
    silent_workers: int


def figures(connection: Connection, *, now: datetime, silence: timedelta) -> Figures:
    """Count everything; a worker of which nobody has heard for as long as `silence` is a silent one."""
    at = tables.revocation.c
    by_state = select(at.state, func.count(), func.min(at.due)).group_by(at.state)
    found = {State(state): (count, due) for state, count, due in connection.execute(by_state)}
    still_open = [state for state in State if state not in ENDED]
    late = select(func.count()).where(at.state.in_(still_open), at.due < now.date())
    workers = tables.worker.c
    running = select(func.count()).select_from(tables.worker).where(workers.stopped_at.is_(None))
    listed = tables.suppression.c
    channels = select(listed.subject_key, listed.modality).where(listed.lifted_at.is_(None)).distinct().subquery()
    standing = select(func.count()).where(tables.certificate.c.superseded_by.is_(None))

    def number(query: Select[int]) -> int:
        return connection.scalar(query) or 0

    return Figures(
        requests={state: found.get(state, (0, None))[0] for state in State},
        next_due=min((found[state][1] for state in still_open if state in found), default=None),
        overdue=number(late),
        waiting_since=_waiting_since(connection),
        suppressed=number(select(func.count()).select_from(channels)),
        certificates=number(standing),
        log_size=number(select(func.max(tables.head.c.size))),
        signed_size=number(select(func.max(tables.checkpoint.c.size))),
        deliveries=_outbox(connection, tables.delivery, tables.delivery.c.delivered_at),
        messages=_outbox(connection, tables.message, tables.message.c.sent_at),
        workers=number(running.where(workers.seen_at >= now - silence)),
        silent_workers=number(running.where(workers.seen_at < now - silence)),
    )


def _waiting_since(connection: Connection) -> Mapping[State, datetime]:
    at = tables.revocation.c
    states = (State.APPROVED, State.IN_PROGRESS)
    query = select(at.state, func.min(at.changed_at)).where(at.state.in_(states)).group_by(at.state)
    return {State(state): since for state, since in connection.execute(query)}


def _outbox(connection: Connection, table: Table, arrived: Column[datetime]) -> Outbox:
    counts = select(func.count(table.c.next_at), func.count()).where(arrived.is_(None))
    waiting, all_left = connection.execute(counts).one()
    return Outbox(waiting, all_left - waiting)
