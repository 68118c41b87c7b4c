"""What is decided about a request, each in one transaction with its consequences.

An approval suppresses the channels, a cancellation before the work began lifts that again, an extension moves the last
day. What may follow on what is `mbd.records.lifecycle`'s to say. Each function works in the caller's transaction, one
from `deciding`: what is said of a decision is committed with it or not at all.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import Connection

from mbd.derivation import fallen_everywhere
from mbd.errors import DecisionError, TransitionError
from mbd.records import derivations, messages, requests
from mbd.records.database import begin_locked
from mbd.records.deadlines import Deadlines, deadlines
from mbd.records.exposure import models_exposed_to
from mbd.records.lifecycle import Action, Denial, Role
from mbd.records.messages import Message
from mbd.records.models import VersionState
from mbd.records.requests import Actor, Revocation
from mbd.records.suppression import Channel, lift, suppress
from mbd.settings import Settings
from mbd.workflow.office import Office, refuse_rollback

COMMAND_LINE = Actor(Role.OFFICER, "command line")
"""Whoever holds the deployment's keys."""

FOR_THE_PERSON = Actor(Role.SUBJECT, "command line")
"""The same, who passes on what the person said."""


@contextmanager
def deciding(office: Office) -> Iterator[Connection]:
    """A transaction for decisions.

    Raises:
        LedgerError: an old backup was restored, in which what is decided now would be decided on old records.
    """
    with begin_locked(office.engine) as connection:
        refuse_rollback(office, connection)
        yield connection


def deadlines_of(settings: Settings, regime: str, requested_at: datetime) -> Deadlines:
    """The last days of a request under this deployment's policy."""
    return deadlines(
        regime, requested_at.date(), holidays=settings.holidays or frozenset(), policy_days=settings.deadline_days
    )


def approve(office: Office, connection: Connection, revocation: Revocation, *, by: Actor) -> Revocation:
    """Approve a request: from the commit on, import, training and prediction refuse its channels.

    Those that are derived from them and fall with them in every line are suppressed with them.

    Raises:
        TransitionError: its identity was not verified, or it was decided before.
    """
    now = office.clock()
    approved = requests.act(connection, revocation.id, Action.APPROVE, by=by, at=now)
    suppress(connection, _with_all_that_falls(connection, revocation), since=now, revocation_id=revocation.id)
    return approved


def approve_reviewed(office: Office, connection: Connection, revocation_id: str, *, by: Actor) -> Revocation:
    """Approve what somebody else filed, if a live model holds any of it.

    Raises:
        RecordsError: there is no such request.
        TransitionError: its identity was not verified, or it was decided before.
        DecisionError: nobody's models hold it, or policy wants another officer than the one who filed it.
    """
    revocation = requests.get(connection, revocation_id)
    if office.settings.four_eyes and by.id == revocation.filed_by:
        raise DecisionError(
            "Who filed a request does not approve it here (MBD_FOUR_EYES).", remedy="let another officer decide"
        )
    if not lines_holding(connection, revocation):
        raise DecisionError(
            "No live model holds any of these channels of that name.",
            remedy=f"look whether the name is the one that your cohorts have, or deny it as {Denial.NO_MATCH}",
        )
    return approve(office, connection, revocation, by=by)


def deny(office: Office, connection: Connection, revocation_id: str, *, by: Actor, reason: str) -> Revocation:
    """Deny a request, for one of the reasons that the Data Rights Protocol names, and tell the person.

    Raises:
        RecordsError: there is no such request.
        TransitionError: it was decided before, or that is not a reason.
    """
    now = office.clock()
    denied = requests.act(connection, revocation_id, Action.DENY, by=by, at=now, reason=reason)
    messages.enqueue(connection, revocation_id, Message.DENIED, now)
    return denied


def cancel(
    office: Office, connection: Connection, revocation_id: str, *, by: Actor, reason: str | None = None
) -> Revocation:
    """Take a request back before its work has begun, and its channels off the suppression list.

    Raises:
        RecordsError: there is no such request.
        TransitionError: its work has begun, or it has ended.
    """
    now = office.clock()
    cancelled = requests.act(connection, revocation_id, Action.CANCEL, by=by, at=now, reason=reason)
    lift(connection, revocation_id, at=now)
    return cancelled


def extend(office: Office, connection: Connection, revocation_id: str, *, by: Actor, reason: str) -> Revocation:
    """Take the longer period that the regime allows, and tell the person, if there is a way to reach them.

    Raises:
        RecordsError: there is no such request.
        TransitionError: it has ended, was extended before, its regime knows no longer period, or the first one, within
            which the person must be told, is over.
    """
    now = office.clock()
    current = requests.get(connection, revocation_id)
    if now.date() > current.due:
        raise TransitionError(
            "The first period is over, and the person had to be told within it.", remedy="answer the request at once"
        )
    longer = deadlines_of(office.settings, current.regime, current.requested_at).extended
    extended = requests.act(connection, revocation_id, Action.EXTEND, by=by, at=now, reason=reason, due=longer)
    messages.enqueue(connection, revocation_id, Message.EXTENDED, now)
    return extended


def retry(office: Office, connection: Connection, revocation_id: str, *, by: Actor) -> Revocation:
    """Have a failed request worked on again, from the step that failed.

    Raises:
        RecordsError: there is no such request.
        TransitionError: it has not failed.
    """
    return requests.act(connection, revocation_id, Action.RETRY, by=by, at=office.clock())


def lines_holding(connection: Connection, revocation: Revocation) -> tuple[str, ...]:
    """The model lines whose live version holds a channel of a request, or one that falls with it."""
    return tuple(
        sorted(
            {
                found.line
                for channel in _with_all_that_falls(connection, revocation)
                for found in models_exposed_to(connection, channel)
                if found.state is VersionState.LIVE and found.ended_by is None
            }
        )
    )


def _with_all_that_falls(connection: Connection, revocation: Revocation) -> frozenset[Channel]:
    asked = {(channel.subject_key, channel.modality) for channel in revocation.scope}
    fallen = fallen_everywhere(asked, derivations.of_live_lines(connection))
    return frozenset(Channel(*pair) for pair in asked | fallen)
