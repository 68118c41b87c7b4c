"""Sends the deliveries that are due, and says when those that did not arrive are tried again.

At least once: a process that dies between sending and recording leaves the delivery claimed for a minute, and then it
is sent again with the same id. Any number of senders may run at once, in any process.
"""

import email.utils
import re
import secrets
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import httpcore
from sqlalchemy import Engine

from mbd.errors import CallbackError, MbdError
from mbd.records import webhooks
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.webhooks import Delivery, Webhook
from mbd.workflow.callbacks.formats import Format
from mbd.workflow.callbacks.pinned import SECONDS, Answer, CertificateRefusedError, post
from mbd.workflow.callbacks.policy import UrlPolicy

SCHEDULE = (
    timedelta(seconds=5),
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
"""How long to wait after each failed try, before up to a quarter more by chance; after the last one it is given up."""

CLAIM = timedelta(minutes=1)
"""For how long a sender has a delivery to itself: longer than resolving and sending can take."""

LONGEST_WAIT = timedelta(hours=24)
"""The most that a Retry-After is obeyed."""

GONE = "status 410"
"""Why an endpoint is disabled that says that it is gone."""

_PROBLEMS: Mapping[type[Exception], str] = MappingProxyType(
    {
        CallbackError: "refused address",
        MbdError: "not signed",
        CertificateRefusedError: "certificate",
        httpcore.TimeoutException: "timeout",
        httpcore.NetworkError: "no connection",
        httpcore.ProtocolError: "no HTTP",
    }
)
"""What is recorded of an error: the word of the first kind that it is of, and none of its own."""

_ASKS_TO_WAIT = (429, 503)
_DELAY = re.compile(r"[0-9]{1,9}")


def chance() -> float:
    """A number from 0 to 1 that nobody foresees."""
    return secrets.SystemRandom().random()


@dataclass(frozen=True)
class Sender:
    """Sends call-backs.

    Attributes:
        engine: where the outbox is.
        formats: how each kind of endpoint is spoken to, by name; deliveries in other formats are left to others.
        policy: which URLs may be called.
        tls: which certificate authorities are trusted; `ssl.create_default_context()` trusts the system's.
        clock: the time, in UTC.
        chance: spreads the next tries, from 0 to 1.
        seconds: how long one try may take.
    """

    engine: Engine
    formats: Mapping[str, Format]
    policy: UrlPolicy
    tls: ssl.SSLContext
    clock: Callable[[], datetime]
    chance: Callable[[], float] = chance
    seconds: float = SECONDS

    def send_due(self, *, limit: int) -> int:
        """Send what is due, one by one, each outside of any transaction; returns how many were tried.

        Crash point: death between sending and recording repeats the delivery when its claim has passed, with its id.

        Raises:
            RecordsError: the database cannot be reached.
        """
        with begin_snapshot(self.engine) as connection:
            found = webhooks.due(connection, self.clock(), formats=self.formats, limit=limit)
        tried = 0
        for delivery_id in found:
            with begin_locked(self.engine) as connection:
                now = self.clock()
                claimed = webhooks.claim(connection, delivery_id, now, until=now + CLAIM)
            if claimed is not None:
                self._record(*claimed, self._send(*claimed))
                tried += 1
        return tried

    def _send(self, webhook: Webhook, delivery: Delivery) -> Answer | str:
        """The receiver's answer, or what kept it from giving one, in a fixed word."""
        try:
            target = self.policy.read(webhook.url)
            addresses = self.policy.addresses(target)
            message = self.formats[webhook.format].message(webhook, delivery, at=self.clock())
            return post(target, addresses, message, tls=self.tls, seconds=self.seconds)
        except tuple(_PROBLEMS) as error:
            return next(word for kind, word in _PROBLEMS.items() if isinstance(error, kind))

    def _record(self, webhook: Webhook, delivery: Delivery, outcome: Answer | str) -> None:
        with begin_locked(self.engine) as connection:
            now = self.clock()
            match outcome:
                case Answer(status=status) if 200 <= status < 300:
                    webhooks.arrived(connection, delivery, at=now)
                case Answer(status=410):
                    webhooks.failed(connection, delivery, GONE, next_at=None)
                    webhooks.disable(connection, webhook.id, because=GONE, at=now)
                case Answer(status=status, retry_after=retry_after):
                    asked = _asked(retry_after, now) if status in _ASKS_TO_WAIT else timedelta()
                    webhooks.failed(connection, delivery, f"status {status}", next_at=self._next(delivery, now, asked))
                case problem:
                    webhooks.failed(connection, delivery, problem, next_at=self._next(delivery, now, timedelta()))

    def _next(self, delivery: Delivery, now: datetime, asked: timedelta) -> datetime | None:
        """When a delivery is tried again: by the schedule, or later where the receiver asks for it."""
        if delivery.tries > len(SCHEDULE):
            return None
        wait = SCHEDULE[delivery.tries - 1] * (1 + self.chance() / 4)
        return now + max(wait, min(asked, LONGEST_WAIT))


def _asked(retry_after: str | None, now: datetime) -> timedelta:
    """How long a Retry-After header asks to wait: seconds or a date (RFC 9110, section 10.2.3); else not at all."""
    if retry_after is None:
        return timedelta()
    if _DELAY.fullmatch(retry_after):
        return timedelta(seconds=int(retry_after))
    try:
        until = email.utils.parsedate_to_datetime(retry_after)
    except (ValueError, OverflowError):  # the latter for a year of twenty digits
        return timedelta()
    return (until if until.tzinfo else until.replace(tzinfo=UTC)) - now
