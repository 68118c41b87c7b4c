"""What is decided about a request, each as one transaction with its consequences.

An approval suppresses the channels, a cancellation before the work began lifts that again, an extension moves the last
day. What may follow on what is `mbd.records.lifecycle`'s to say.
"""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection

from mbd.records import requests
from mbd.records.database import begin_locked
from mbd.records.deadlines import Deadlines, deadlines
from mbd.records.lifecycle import Action, Role
from mbd.records.requests import Actor, Revocation
from mbd.records.suppression import Channel, lift, suppress
from mbd.settings import Settings
from mbd.workflow.system import System, refuse_rollback

COMMAND_LINE = Actor(Role.OFFICER, "command line")
"""Whoever holds the deployment's keys."""

FOR_THE_PERSON = Actor(Role.SUBJECT, "command line")
"""The same, who passes on what the person said."""


def deadlines_of(settings: Settings, regime: str, requested_at: datetime) -> Deadlines:
    """The last days of a request under this deployment's policy."""
    return deadlines(
        regime, requested_at.date(), holidays=settings.holidays or frozenset(), policy_days=settings.deadline_days
    )


def approve(
    system: System, connection: Connection, revocation: Revocation, fallen: Collection[Channel], *, by: Actor
) -> None:
    """Approve a request, in the caller's transaction: from its commit on, import, training and prediction refuse.

    Args:
        system: the deployment.
        connection: that holds the lock.
        revocation: whose identity was verified.
        fallen: the channels that are derived from those it names, and fall with them.
        by: who decides.
    """
    now = system.clock()
    requests.act(connection, revocation.id, Action.APPROVE, by=by, at=now)
    suppress(connection, {*revocation.scope, *fallen}, since=now, revocation_id=revocation.id)


def cancel(system: System, revocation_id: str, *, by: Actor, reason: str | None = None) -> Revocation:
    """Take a request back before its work has begun, and its channels off the suppression list.

    Raises:
        RecordsError: there is no such request.
        TransitionError: its work has begun, or it has ended.
    """
    with begin_locked(system.engine) as connection:
        refuse_rollback(system, connection)
        now = system.clock()
        cancelled = requests.act(connection, revocation_id, Action.CANCEL, by=by, at=now, reason=reason)
        lift(connection, revocation_id, at=now)
    return cancelled


def extend(system: System, revocation_id: str, *, by: Actor, reason: str) -> Revocation:
    """Take the longer period that the regime allows; the person has to be told, within the first one.

    Raises:
        RecordsError: there is no such request.
        TransitionError: it has ended, was extended before, or its regime knows no longer period.
    """
    with begin_locked(system.engine) as connection:
        refuse_rollback(system, connection)
        current = requests.get(connection, revocation_id)
        longer = deadlines_of(system.settings, current.regime, current.requested_at).extended
        return requests.act(
            connection, revocation_id, Action.EXTEND, by=by, at=system.clock(), reason=reason, due=longer
        )
