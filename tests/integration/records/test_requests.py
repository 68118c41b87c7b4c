from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from mbd.errors import RecordsError, TransitionError
from mbd.records import requests
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.lifecycle import ENDED, RULES, WITH_THE_WORKER, Action, Denial, Role, State
from mbd.records.requests import WORKER, Actor, Event, Revocation
from mbd.records.suppression import EVERYONE, Channel, Suppressions, lift, suppress, suppressions

ANNA = Channel("anna", "audio")
PERSON, OFFICER = Actor(Role.SUBJECT, "token-1"), Actor(Role.OFFICER, "key-1")
ACTORS = {Role.SUBJECT: PERSON, Role.OFFICER: OFFICER, Role.WORKER: WORKER}


@pytest.fixture
def asked(now: datetime) -> Revocation:
    due = now.date() + timedelta(days=30)
    return Revocation("r1", "d1", "gdpr", (ANNA, Channel(EVERYONE, "vision")), now, due, changed_at=now)


@pytest.fixture
def filed(engine: Engine, asked: Revocation) -> Revocation:
    with begin_locked(engine) as connection:
        return requests.file(connection, asked, by=PERSON)


def take(engine: Engine, actions: Sequence[Action], at: datetime) -> Revocation:
    """Each action by somebody who may, with a reason where one is needed."""
    with begin_locked(engine) as connection:
        for action in actions:
            by = ACTORS[min(RULES[action].roles)]
            why = Denial.NO_MATCH if RULES[action].says_why else None
            due = at.date() + timedelta(days=90) if action is Action.EXTEND else None
            found = requests.act(connection, "r1", action, by=by, at=at, reason=why, due=due)
    return found


def test_a_request_comes_back_as_it_was_filed(engine: Engine, asked: Revocation, filed: Revocation) -> None:
    assert filed == replace(asked, filed_by=PERSON.id)
    with begin_snapshot(engine) as connection:
        assert requests.get(connection, "r1") == filed
        assert requests.events(connection, "r1") == (Event(Action.FILE, State.FILED, PERSON, asked.requested_at, None),)


def test_a_request_is_kept_once(engine: Engine, filed: Revocation) -> None:
    take(engine, [Action.VERIFY_IDENTITY, Action.APPROVE], filed.requested_at)
    with begin_locked(engine) as connection:
        again = requests.file(connection, replace(filed, id="r2"), by=OFFICER)
        assert (again.id, again.state) == ("r1", State.APPROVED)
        assert len(requests.events(connection, "r1")) == 3


def test_an_unknown_request_is_an_error(engine: Engine) -> None:
    with begin_snapshot(engine) as connection, pytest.raises(RecordsError, match="no request 'r1'"):
        requests.get(connection, "r1")


def test_every_step_is_written_down_with_who_took_it_and_why(engine: Engine, filed: Revocation) -> None:
    later = filed.requested_at + timedelta(hours=1)
    denied = take(engine, [Action.CHALLENGE, Action.DENY], later)
    assert denied == replace(filed, state=State.DENIED, changed_at=later)
    with begin_snapshot(engine) as connection:
        assert requests.events(connection, "r1")[1:] == (
            Event(Action.CHALLENGE, State.IDENTITY_UNVERIFIED, OFFICER, later, None),
            Event(Action.DENY, State.DENIED, OFFICER, later, Denial.NO_MATCH),
        )


def test_a_workers_step_said_again_changes_nothing(engine: Engine, filed: Revocation) -> None:
    take(engine, [Action.VERIFY_IDENTITY, Action.APPROVE, Action.START], filed.requested_at)
    later = filed.requested_at + timedelta(hours=1)
    assert take(engine, [Action.START], later).changed_at == filed.requested_at
    take(engine, [Action.EXTEND], later)  # an officer's word in between does not undo that
    assert take(engine, [Action.START, Action.FAIL, Action.FAIL], later).state is State.FAILED
    with begin_snapshot(engine) as connection:
        actions = [event.action for event in requests.events(connection, "r1")]
    assert actions.count(Action.START) == actions.count(Action.FAIL) == 1


def test_a_worker_does_not_say_an_officers_word_again(engine: Engine, filed: Revocation) -> None:
    take(engine, [Action.VERIFY_IDENTITY, Action.APPROVE], filed.requested_at)
    with begin_locked(engine) as connection:
        for action in (Action.APPROVE, Action.EXTEND):
            with pytest.raises(TransitionError):
                requests.act(connection, "r1", action, by=WORKER, at=filed.requested_at, reason="why")


def test_an_officers_decision_said_again_is_refused(engine: Engine, filed: Revocation) -> None:
    take(engine, [Action.VERIFY_IDENTITY, Action.APPROVE], filed.requested_at)
    with pytest.raises(TransitionError, match=r"'approve' is not possible.*approved.*now: cancel"):
        take(engine, [Action.APPROVE], filed.requested_at)


def test_an_extension_moves_the_last_day_once(engine: Engine, filed: Revocation) -> None:
    extended = take(engine, [Action.EXTEND], filed.requested_at)
    assert (extended.due, extended.extended, extended.state) == (
        filed.requested_at.date() + timedelta(days=90),
        True,
        State.FILED,
    )
    assert extended.changed_at == filed.requested_at
    with pytest.raises(TransitionError, match="extended before"):
        take(engine, [Action.EXTEND], filed.requested_at)


@pytest.mark.parametrize("due", [None, date(2000, 1, 1)])
def test_a_regime_without_a_longer_period_is_not_extended(engine: Engine, filed: Revocation, due: date | None) -> None:
    with begin_locked(engine) as connection, pytest.raises(TransitionError, match="no longer period"):
        requests.act(
            connection, "r1", Action.EXTEND, by=OFFICER, at=filed.requested_at, reason="many requests", due=due
        )


def test_what_a_restart_resumes_is_listed_oldest_first(engine: Engine, asked: Revocation) -> None:
    ways = {
        State.FILED: [],
        State.PENDING_REVIEW: [Action.VERIFY_IDENTITY],
        State.APPROVED: [Action.VERIFY_IDENTITY, Action.APPROVE],
        State.IN_PROGRESS: [Action.VERIFY_IDENTITY, Action.APPROVE, Action.START],
        State.FAILED: [Action.VERIFY_IDENTITY, Action.APPROVE, Action.START, Action.FAIL],
        State.COMPLETED: [Action.VERIFY_IDENTITY, Action.APPROVE, Action.START, Action.COMPLETE],
        State.CANCELLED: [Action.CANCEL],
    }
    with begin_locked(engine) as connection:
        for number, (state, way) in enumerate(ways.items()):
            came = asked.requested_at - timedelta(days=number)
            requests.file(connection, replace(asked, id=state, digest=state, requested_at=came), by=PERSON)
            for action in way:
                by = ACTORS[min(RULES[action].roles)]
                requests.act(connection, state, action, by=by, at=came, reason="why")
            assert requests.get(connection, state).state is state
        names = [found.id for found in requests.unfinished(connection)]
    assert names == ["failed", "in_progress", "approved"]


WALKS = st.lists(st.tuples(st.sampled_from(Action), st.sampled_from(Role)), max_size=25)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(walk=WALKS)
def test_no_walk_finds_an_illegal_state(engine: Engine, asked: Revocation, walk: list[tuple[Action, Role]]) -> None:
    """Whatever is tried, in whatever order: the stored request obeys, and its steps tell the whole way there."""
    with begin_locked(engine) as connection:
        request = requests.file(connection, asked, by=PERSON)
        for hour, (action, role) in enumerate(walk, start=1):
            at = asked.requested_at + timedelta(hours=hour)
            due = asked.due + timedelta(days=60)
            try:
                request = requests.act(connection, "r1", action, by=ACTORS[role], at=at, reason=Denial.OTHER, due=due)
            except TransitionError:
                assert requests.get(connection, "r1") == request
        steps = requests.events(connection, "r1")
        connection.rollback()
    assert steps[-1].state is request.state
    taken = [step.action for step in steps]
    for before, step in pairwise(steps):
        assert RULES[step.action].leads[before.state] is step.state
        assert before.state not in ENDED
        assert step.by.role in RULES[step.action].roles
    if request.state in {*WITH_THE_WORKER, State.COMPLETED}:
        assert taken.index(Action.VERIFY_IDENTITY) < taken.index(Action.APPROVE)
    if request.state is State.DUPLICATE:
        assert Action.VERIFY_IDENTITY in taken
    assert taken.count(Action.EXTEND) == int(request.extended) <= 1


def test_a_suppressed_channel_stays_so_until_every_request_for_it_is_cancelled(
    engine: Engine, filed: Revocation
) -> None:
    day = timedelta(days=1)
    with begin_locked(engine) as connection:
        assert suppressions(connection) == Suppressions(frozenset())
        requests.file(connection, replace(filed, id="r2", digest="d2"), by=PERSON)
        suppress(connection, filed.scope, since=filed.requested_at, revocation_id="r1")
        suppress(connection, [ANNA, ANNA], since=filed.requested_at + day, revocation_id="r1")
        suppress(connection, [ANNA], since=filed.requested_at + day, revocation_id="r2")
    with begin_snapshot(engine) as connection:
        listed = suppressions(connection)
        of_anna, of_nobody = (suppressions(connection, of=keys) for keys in ([ANNA.subject_key], []))
    assert listed == Suppressions(frozenset(filed.scope))
    assert {channel.subject_key for channel in of_anna.channels} == {"anna", EVERYONE}
    assert {channel.subject_key for channel in of_nobody.channels} == {EVERYONE}
    assert listed.covers(Channel("ben", "vision"))
    with begin_locked(engine) as connection:
        lift(connection, "r1", at=filed.requested_at + 2 * day)
        assert suppressions(connection) == Suppressions(frozenset({ANNA}))
        lift(connection, "r2", at=filed.requested_at + 3 * day)
        assert suppressions(connection) == Suppressions(frozenset())
