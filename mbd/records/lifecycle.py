"""The life of a request, as a pure function: which action leads from which state to which, and who may take it.

It knows no table and no clock. Identity comes before everything that could hurt the person whose name was given: it is
verified before a duplicate is found and before an approval, so that a stranger who files in somebody's name blocks
nothing (GHSA-qx5f-ghc2-7g5c).

    filed -> identity_unverified -> pending_review -> approved -> in_progress -> completed
    denied, cancelled, duplicate: ends, before the work has begun; failed: retried by one command
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from mbd.errors import TransitionError


class State(StrEnum):
    """How far a request has come."""

    FILED = "filed"
    IDENTITY_UNVERIFIED = "identity_unverified"
    PENDING_REVIEW = "pending_review"
    APPROVED = "approved"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    DENIED = "denied"
    CANCELLED = "cancelled"
    DUPLICATE = "duplicate"


class Action(StrEnum):
    """What somebody does with a request."""

    FILE = "file"
    CHALLENGE = "challenge"
    """Ask the person for a proof of who they are."""

    VERIFY_IDENTITY = "verify_identity"
    FIND_DUPLICATE = "find_duplicate"
    APPROVE = "approve"
    """From here on the channels are suppressed, and the worker may begin."""

    DENY = "deny"
    EXTEND = "extend"
    """Take the longer period that the regime allows, once, and say why."""

    CANCEL = "cancel"
    START = "start"
    """The point of no return: from here on a request is carried out."""

    FAIL = "fail"
    RETRY = "retry"
    COMPLETE = "complete"


class Role(StrEnum):
    """As what somebody acts."""

    SUBJECT = "subject"
    """The person, or an agent."""

    OFFICER = "officer"
    """Who reviews, and whoever holds the keys of the deployment."""

    WORKER = "worker"
    """The program that deletes."""


class Denial(StrEnum):
    """Why a request is denied, in the words of the Data Rights Protocol (1.0, section 3.02)."""

    SUSPECTED_FRAUD = "suspected_fraud"
    INSUFFICIENT_VERIFICATION = "insuf_verification"
    NO_MATCH = "no_match"
    CLAIM_NOT_COVERED = "claim_not_covered"
    OUTSIDE_JURISDICTION = "outside_jurisdiction"
    TOO_MANY_REQUESTS = "too_many_requests"
    OTHER = "other"


@dataclass(frozen=True)
class Rule:
    """Where an action leads, and what it takes.

    Attributes:
        leads: from each state in which the action can be taken, the state after it.
        roles: who may take it.
        says_why: the action needs a reason.
    """

    leads: Mapping[State, State]
    roles: frozenset[Role]
    says_why: bool = False


ENDED = frozenset({State.COMPLETED, State.DENIED, State.CANCELLED, State.DUPLICATE})
"""States from which no action leads."""

WITH_THE_WORKER = frozenset({State.APPROVED, State.IN_PROGRESS, State.FAILED})
"""Approved, and not yet done: the channels are suppressed, and a model may still hold them."""

_OPEN = tuple(state for state in State if state not in ENDED)
_BEFORE_REVIEW = (State.FILED, State.IDENTITY_UNVERIFIED)
_BEFORE_APPROVAL = (*_BEFORE_REVIEW, State.PENDING_REVIEW)


def _all_to(after: State, *before: State) -> Mapping[State, State]:
    return MappingProxyType(dict.fromkeys(before, after))


_PERSON = frozenset({Role.SUBJECT})
_OFFICER = frozenset({Role.OFFICER})
_WORKER = frozenset({Role.WORKER})

RULES: Mapping[Action, Rule] = MappingProxyType(
    {
        Action.FILE: Rule(MappingProxyType({}), _PERSON | _OFFICER),  # it makes a request, and follows on none
        Action.CHALLENGE: Rule(_all_to(State.IDENTITY_UNVERIFIED, State.FILED), _OFFICER | _WORKER),
        Action.VERIFY_IDENTITY: Rule(_all_to(State.PENDING_REVIEW, *_BEFORE_REVIEW), _PERSON | _OFFICER),
        Action.FIND_DUPLICATE: Rule(_all_to(State.DUPLICATE, State.PENDING_REVIEW), _OFFICER | _WORKER, says_why=True),
        Action.APPROVE: Rule(_all_to(State.APPROVED, State.PENDING_REVIEW), _OFFICER),
        Action.DENY: Rule(_all_to(State.DENIED, *_BEFORE_APPROVAL), _OFFICER, says_why=True),
        Action.EXTEND: Rule(MappingProxyType({state: state for state in _OPEN}), _OFFICER, says_why=True),
        Action.CANCEL: Rule(_all_to(State.CANCELLED, *_BEFORE_APPROVAL, State.APPROVED), _PERSON),
        Action.START: Rule(_all_to(State.IN_PROGRESS, State.APPROVED), _WORKER),
        Action.FAIL: Rule(_all_to(State.FAILED, State.APPROVED, State.IN_PROGRESS), _WORKER, says_why=True),
        Action.RETRY: Rule(_all_to(State.APPROVED, State.FAILED), _OFFICER | _WORKER),
        Action.COMPLETE: Rule(_all_to(State.COMPLETED, State.IN_PROGRESS), _WORKER),
    }
)


def after(state: State, action: Action, role: Role, *, reason: str | None = None) -> State:
    """The state that an action leads to.

    Raises:
        TransitionError: it cannot be taken there, or not by them, or not without a reason.
    """
    rule = RULES[action]
    following = rule.leads.get(state)
    if following is None:
        possible = ", ".join(sorted(each.value for each in Action if state in RULES[each].leads))
        raise TransitionError(
            f"'{action}' is not possible: the request is {state}.",
            remedy=f"possible now: {possible}" if possible else "it has ended; file a new one",
        )
    if role not in rule.roles:
        who = " or ".join(sorted(each.value for each in rule.roles))
        raise TransitionError(f"The action '{action}' is not for the {role}.", remedy=f"the {who} takes it")
    if rule.says_why and not (reason or "").strip():
        raise TransitionError(f"The action '{action}' needs a reason.", remedy="say why")
    if action is Action.DENY and reason not in set(Denial):
        raise TransitionError(
            f"'{reason}' is no reason to deny a request.", remedy=f"use one of: {', '.join(sorted(Denial))}"
        )
    return following
