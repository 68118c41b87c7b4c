from collections import deque

import pytest

from mbd.errors import TransitionError
from mbd.records.lifecycle import ENDED, RULES, WITH_THE_WORKER, Action, Denial, Role, State, after

# The design's picture, written down a second time: from, action, to.
WAYS = """
filed challenge identity_unverified
filed verify_identity pending_review
identity_unverified verify_identity pending_review
pending_review find_duplicate duplicate
pending_review approve approved
filed deny denied
identity_unverified deny denied
pending_review deny denied
filed cancel cancelled
identity_unverified cancel cancelled
pending_review cancel cancelled
approved cancel cancelled
approved start in_progress
approved fail failed
in_progress fail failed
failed retry approved
in_progress complete completed
"""


def reason_for(action: Action) -> str | None:
    return Denial.OTHER if RULES[action].says_why else None


def ways() -> set[tuple[State, Action, State]]:
    drawn = {tuple(line.split()) for line in WAYS.strip().splitlines()}
    return {(State(a), Action(b), State(c)) for a, b, c in drawn}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("action", Action)
def test_the_ways_are_those_of_the_picture_and_no_others(state: State, action: Action) -> None:
    role = min(RULES[action].roles)
    leads = {following for before, taken, following in ways() if (before, taken) == (state, action)}
    if action is Action.EXTEND and state not in ENDED:
        leads = {state}
    if leads:
        assert {after(state, action, role, reason=reason_for(action))} == leads
    else:
        with pytest.raises(TransitionError, match=f"the request is {state}"):
            after(state, action, role, reason=reason_for(action))


@pytest.mark.parametrize("action", Action)
def test_nobody_else_takes_an_action(action: Action) -> None:
    for state in RULES[action].leads:
        for role in set(Role) - RULES[action].roles:
            with pytest.raises(TransitionError, match=f"not for the {role}"):
                after(state, action, role, reason=reason_for(action))


@pytest.mark.parametrize("action", [action for action in Action if RULES[action].says_why])
@pytest.mark.parametrize("reason", [None, "", "  "])
def test_a_decision_says_why(action: Action, reason: str | None) -> None:
    state = next(iter(RULES[action].leads))
    with pytest.raises(TransitionError, match="needs a reason"):
        after(state, action, min(RULES[action].roles), reason=reason)


def test_a_denial_uses_the_words_that_other_platforms_know() -> None:
    with pytest.raises(TransitionError, match=r"'no time' is no reason.*too_many_requests"):
        after(State.FILED, Action.DENY, Role.OFFICER, reason="no time")
    for reason in Denial:
        assert after(State.FILED, Action.DENY, Role.OFFICER, reason=reason) is State.DENIED


def reachable(start: State, without: Action) -> set[State]:
    found, waiting = {start}, deque([start])
    while waiting:
        state = waiting.popleft()
        for action, rule in RULES.items():
            following = rule.leads.get(state)
            if action is not without and following is not None and following not in found:
                found.add(following)
                waiting.append(following)
    return found


def test_without_a_verified_identity_nothing_is_deleted_and_nobody_is_a_duplicate() -> None:
    assert reachable(State.FILED, without=Action.VERIFY_IDENTITY) == {
        State.FILED,
        State.IDENTITY_UNVERIFIED,
        State.DENIED,
        State.CANCELLED,
    }


def test_without_an_approval_the_worker_gets_nothing() -> None:
    assert not reachable(State.FILED, without=Action.APPROVE) & {*WITH_THE_WORKER, State.COMPLETED}


def test_the_point_of_no_return_is_the_start() -> None:
    assert State.CANCELLED in reachable(State.APPROVED, without=Action.START)
    assert State.CANCELLED not in reachable(State.IN_PROGRESS, without=Action.RETRY)


def test_every_state_is_reached_and_every_end_is_one() -> None:
    assert reachable(State.FILED, without=Action.FILE) == set(State)
    assert {state for state in State if not any(state in rule.leads for rule in RULES.values())} == ENDED


def test_an_ended_request_says_what_to_do() -> None:
    with pytest.raises(TransitionError, match="file a new one"):
        after(State.COMPLETED, Action.CANCEL, Role.SUBJECT)
