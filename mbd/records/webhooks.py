"""Who is told of changes to requests, and the outbox of what they are told. It knows no HTTP and opens no secret.

What is to be said is written in the transaction of the change itself, so that neither is ever there without the other.
A sender *claims* a delivery, sends it outside of any transaction, and records what came of it: the claim is a time
until which nobody else takes it, so that the deliveries of a sender that died are sent again, with the same id.
Writers pass a connection from `database.begin_locked`.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, func, insert, or_, select, update

from mbd.errors import RecordsError
from mbd.hashing import canonical_json, json_digest
from mbd.records import tables

if TYPE_CHECKING:
    from mbd.records.requests import Revocation

CHANGED = "revocation.changed"
"""The type of the one event there is."""

DISABLED = "endpoint disabled"
"""What became of the deliveries of an endpoint that was disabled."""

_webhook = tables.webhook.c
_delivery = tables.delivery.c

# Made once, for it is asked with every change: to put a statement together costs more than to run it.
_LISTENERS = select(_webhook.id).where(
    _webhook.disabled_at.is_(None), or_(_webhook.revocation_id == bindparam("about"), _webhook.revocation_id.is_(None))
)


@dataclass(frozen=True)
class Webhook:
    """An endpoint that is told of changes.

    Attributes:
        owner: the id of who registered it: a key or a token, never a name.
        url: where it is. It may hold a secret of the receiver's: it is shown to the owner alone, and never logged.
        format: the name of how it is spoken to.
        sealed_secret: what its messages are signed with, encrypted; None where the format has no secret.
        revocation_id: the request that it is told about; None for all requests.
        disabled_because: a fixed word, if it was disabled.
    """

    id: str
    owner: str
    url: str = field(repr=False)
    format: str
    created_at: datetime
    sealed_secret: bytes | None = field(default=None, repr=False)
    revocation_id: str | None = None
    disabled_at: datetime | None = None
    disabled_because: str | None = None


@dataclass(frozen=True)
class Delivery:
    """One message to one endpoint.

    Attributes:
        id: the same on every try, by which the receiver knows a repetition.
        body: what happened, as JSON.
        tries: how often it was claimed.
        next_at: when it is due; None when it arrived or was given up.
        last_problem: a fixed word, never the receiver's.
    """

    id: str
    webhook_id: str
    body: str
    created_at: datetime
    tries: int
    next_at: datetime | None
    delivered_at: datetime | None
    last_problem: str | None


def register(connection: Connection, webhook: Webhook) -> None:
    """Keep an endpoint; from the commit on it is told of changes. Its owner's right to be is the caller's to check."""
    connection.execute(
        insert(tables.webhook).values(
            id=webhook.id,
            owner=webhook.owner,
            url=webhook.url,
            format=webhook.format,
            sealed_secret=webhook.sealed_secret,
            revocation_id=webhook.revocation_id,
            created_at=webhook.created_at,
        )
    )


def get(connection: Connection, webhook_id: str, *, owner: str) -> Webhook:
    """An owner's endpoint.

    Raises:
        RecordsError: there is none of that id, or it is somebody else's, which is not told apart.
    """
    found = _webhooks(connection, (_webhook.id == webhook_id) & (_webhook.owner == owner))
    if not found:
        raise RecordsError(f"There is no call-back endpoint '{webhook_id}'.", remedy="use an id from the list of yours")
    return found[0]


def of_owner(connection: Connection, owner: str, *, formats: Collection[str] | None = None) -> tuple[Webhook, ...]:
    """An owner's endpoints, of some formats or of all, oldest first, the disabled among them."""
    spoken = () if formats is None else (_webhook.format.in_(sorted(formats)),)
    return _webhooks(connection, and_(_webhook.owner == owner, *spoken))


def deliveries(connection: Connection, webhook_id: str, *, limit: int) -> tuple[Delivery, ...]:
    """The newest messages to an endpoint, newest first."""
    query = select(tables.delivery).where(_delivery.webhook_id == webhook_id)
    query = query.order_by(_delivery.created_at.desc(), _delivery.id).limit(limit)
    return tuple(_to_delivery(row) for row in connection.execute(query))


def disable(connection: Connection, webhook_id: str, *, because: str, at: datetime) -> None:
    """Tell an endpoint nothing more; what waited for it is given up. One that is disabled stays as it is."""
    _disable(connection, _webhook.id == webhook_id, because, at)


def disable_all_of(connection: Connection, owner: str, *, because: str, at: datetime) -> None:
    """The same for all endpoints of an owner who lost the right to be told."""
    _disable(connection, _webhook.owner == owner, because, at)


def announce(connection: Connection, revocation: "Revocation", *, at: datetime) -> None:
    """Enqueue the news of a request's last event for the endpoints of all requests and for those bound to it.

    It says how far the request is, and nothing of the person. The id of a delivery follows from endpoint, request and
    event.

    Crash point: it is in the caller's transaction, so that the change and its announcement are there together or not.

    Args:
        connection: that holds the lock, on which the event has been written.
        revocation: as it is now.
        at: when it changed.
    """
    listeners = connection.scalars(_LISTENERS, {"about": revocation.id}).all()
    if not listeners:
        return
    events = tables.revocation_event.c
    number = connection.scalar(select(func.max(events.number)).where(events.revocation_id == revocation.id))
    news = {
        "type": CHANGED,
        "timestamp": f"{at:%Y-%m-%dT%H:%M:%SZ}",
        "data": {
            "id": revocation.id,
            "event": number,
            "state": revocation.state.value,
            "due": revocation.due.isoformat(),
            "extended": revocation.extended,
        },
    }
    body = canonical_json(news).decode()
    rows = [
        {
            "id": f"msg_{json_digest([listener, revocation.id, number])[:32]}",
            "webhook_id": listener,
            "body": body,
            "created_at": at,
            "tries": 0,
            "next_at": at,
        }
        for listener in listeners
    ]
    connection.execute(insert(tables.delivery), rows)


def due(connection: Connection, at: datetime, *, formats: Collection[str], limit: int) -> tuple[str, ...]:
    """Ids of deliveries in some formats whose time has come: the least tried first, so that dead ends hold up none."""
    query = (
        select(_delivery.id)
        .join(tables.webhook)
        .where(_delivery.next_at <= at, _webhook.format.in_(sorted(formats)))
        .order_by(_delivery.tries, _delivery.next_at, _delivery.id)
        .limit(limit)
    )
    return tuple(connection.scalars(query))


def claim(
    connection: Connection, delivery_id: str, at: datetime, *, until: datetime
) -> tuple[Webhook, Delivery] | None:
    """Take a due delivery, and count the try; None if another sender was faster.

    Crash point: a sender that dies after the commit leaves it due again at ``until``.
    """
    taken = connection.execute(
        update(tables.delivery)
        .where(_delivery.id == delivery_id, _delivery.next_at <= at)
        .values(tries=_delivery.tries + 1, next_at=until)
    )
    if taken.rowcount == 0:
        return None
    row = connection.execute(select(tables.delivery).where(_delivery.id == delivery_id)).one()
    return _webhooks(connection, _webhook.id == row.webhook_id)[0], _to_delivery(row)


def arrived(connection: Connection, delivery: Delivery, *, at: datetime) -> None:
    """Record that a claimed delivery arrived, whoever has claimed it since."""
    connection.execute(
        update(tables.delivery)
        .where(_delivery.id == delivery.id, _delivery.delivered_at.is_(None))
        .values(delivered_at=at, next_at=None, last_problem=None)
    )


def failed(connection: Connection, delivery: Delivery, problem: str, *, next_at: datetime | None) -> None:
    """Record that a claimed delivery did not arrive.

    It changes nothing where the claim has passed to another sender, or the endpoint was disabled meanwhile.

    Args:
        connection: that holds the lock.
        delivery: as it was claimed.
        problem: a fixed word.
        next_at: when it is tried again; None to give it up.
    """
    connection.execute(
        update(tables.delivery)
        .where(_delivery.id == delivery.id, _delivery.tries == delivery.tries, _delivery.next_at.is_not(None))
        .values(next_at=next_at, last_problem=problem)
    )


def _disable(connection: Connection, which: ColumnElement[bool], because: str, at: datetime) -> None:
    """Deliveries first: afterwards nothing tells which endpoints were live."""
    live = select(_webhook.id).where(which, _webhook.disabled_at.is_(None))
    waiting = update(tables.delivery).where(_delivery.webhook_id.in_(live), _delivery.next_at.is_not(None))
    connection.execute(waiting.values(next_at=None, last_problem=DISABLED))
    endpoints = update(tables.webhook).where(which, _webhook.disabled_at.is_(None))
    connection.execute(endpoints.values(disabled_at=at, disabled_because=because))


def _webhooks(connection: Connection, condition: ColumnElement[bool]) -> tuple[Webhook, ...]:
    query = select(tables.webhook).where(condition).order_by(_webhook.created_at, _webhook.id)
    return tuple(Webhook(**row._asdict()) for row in connection.execute(query))


def _to_delivery(row: Row[Any]) -> Delivery:
    return Delivery(**row._asdict())
