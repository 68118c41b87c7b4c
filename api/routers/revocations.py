"""Requests to withdraw: filed, followed, and decided. Who may see or do what is decided here, and what follows below.

A request that is not the caller's is one that there is not: both are answered alike.
"""

from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy import Connection

from api import cursors, problems, views
from api.access import is_mine, visible
from api.dependencies import Here, Reading
from api.posting import Once, Posting
from api.principals import Principal, Scope, needs
from api.problems import Kind, ProblemError
from api.views import EventView, ReviewView, RevocationPage, RevocationView
from mbd.errors import DecisionError, TransitionError
from mbd.records import requests
from mbd.records.lifecycle import Denial, Role, State
from mbd.records.requests import Actor, Revocation
from mbd.workflow import decisions, intake
from mbd.workflow.intake import Filing
from mbd.workflow.office import Office

router = APIRouter(prefix="/v1/revocations", tags=["revocations"])

MOST_AT_ONCE = 1000
"""Requests that one call decides."""

_ATTESTED = "attested by an officer"
_LOGIN = "a login as the person"

Id = Annotated[
    str, Path(pattern=r"^rev-[0-9a-f]{16}$", description="A request's id.", examples=["rev-2f1c0a9b8d7e6f50"])
]
Reason = Annotated[
    str,
    StringConstraints(strict=True, min_length=1, max_length=500, strip_whitespace=True),
    Field(description="Name nobody: it stays in the records for ever.", examples=["many requests at once"]),
]

_SEEING = problems.documented(
    Kind.UNAUTHENTICATED, Kind.FORBIDDEN, Kind.NOT_FOUND, Kind.INVALID_REQUEST, Kind.NOT_READY
)
_DOING = _SEEING | problems.documented(Kind.TOO_LARGE, Kind.CONFLICT, Kind.TOO_SLOW, Kind.BAD_REQUEST)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class FilingBody(_Body):
    """What is asked."""

    subject: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        None,
        description="The person's name as the cohorts have it. Left out: whom the token logs in.",
        examples=["p07"],
    )
    modalities: Annotated[list[Literal["text", "audio", "vision"]], Field(min_length=1, max_length=3)] = Field(
        description="What is not to be used any more.", examples=[["audio"]]
    )
    regime: Annotated[str, Field(min_length=1, max_length=64)] = Field(
        "gdpr", description="The law or policy: gdpr, uk, ccpa, cpra, bipa or another short name."
    )
    contact: Annotated[str, Field(min_length=3, max_length=254)] | None = Field(
        None, description="Where the person can be reached; it is kept encrypted, and emptied at the end."
    )


class VerificationBody(_Body):
    """A proof of identity: a code that was sent; or nothing, where a login or an officer's word is the proof."""

    code: Annotated[str, Field(pattern=r"^[0-9]{8}$", examples=["49152631"])] | None = None


class DenialBody(_Body):
    """Why."""

    reason: Annotated[Denial, Field(strict=False)]


class ExtensionBody(_Body):
    """Why."""

    reason: Reason


class CancellationBody(_Body):
    """What the person said, if anything."""

    reason: Reason | None = None


class DecisionsBody(_Body):
    """One decision on many requests."""

    ids: Annotated[
        list[Annotated[str, StringConstraints(pattern=r"^rev-[0-9a-f]{16}$")]],
        Field(min_length=1, max_length=MOST_AT_ONCE),
    ]
    decision: Literal["approve", "deny", "extend"]
    reason: Reason | None = Field(None, description="Of a denial one of the reasons for one; of an extension why.")


class Decided(BaseModel):
    """What came of it for one request."""

    id: str
    state: State | None = Field(description="The state after it; none where there is no such request.")
    problem: str | None = Field(None, description="Why it was not decided.")


class DecisionsView(BaseModel):
    """What came of it, in the order of the ids. A request that could not be decided keeps none from being."""

    decided: list[Decided]


Filer = Annotated[Principal, Depends(needs(Scope.CREATE, Scope.REVIEW))]
Onlooker = Annotated[Principal, Depends(needs(Scope.READ_OWN, Scope.CREATE, Scope.REVIEW, Scope.LINEAGE))]
Subject = Annotated[Principal, Depends(needs(Scope.CREATE))]
Officer = Annotated[Principal, Depends(needs(Scope.REVIEW))]
Extender = Annotated[Principal, Depends(needs(Scope.EXTEND))]


@router.post("", status_code=201, response_model=RevocationView, responses=_DOING, summary="File a request")
def file(post: Once, principal: Filer, body: FilingBody) -> Response:
    """The person's identity is verified next: by the login, by a code that is sent, or by an officer.

    Whether a model holds anything of that name is told to officers alone.
    """

    def work(connection: Connection) -> BaseModel:
        office = post.office
        if body.subject is not None:
            key = intake.subject_key_of(office, body.subject)
        elif principal.subject_key is not None:
            key = principal.subject_key
        else:
            raise ProblemError(
                Kind.UNACCEPTABLE, "It is not said whose channels these are.", remedy="give `subject`, or log in"
            )
        filing = Filing(key, frozenset(body.modalities), body.regime, body.contact)
        proof = _LOGIN if key == principal.subject_key else None
        role = Role.SUBJECT if proof or not principal.may(Scope.REVIEW) else Role.OFFICER
        return views.view(
            office, connection, intake.file(office, connection, filing, by=principal.acting_as(role), proof=proof)
        )

    return post.once(body, work, status=201)


@router.get("", responses=_SEEING, summary="See requests")
def page(  # noqa: PLR0917 - FastAPI calls by name
    office: Here,
    reading: Reading,
    principal: Onlooker,
    state: Annotated[list[State] | None, Query(description="Only in these states.", max_length=len(State))] = None,
    sort: Annotated[
        Literal["received", "due"], Query(description="The newest first; or what is not done, the most urgent first.")
    ] = "received",
    cursor: Annotated[str | None, Query(description="`next` of the page before.", max_length=300)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> RevocationPage:
    """One's own; for officers and auditors those of everybody."""
    states = None if state is None else sorted(set(state))
    whose = (None, None) if principal.sees_all else (principal.id, principal.subject_key)
    about = [*whose, states, sort]
    found = requests.page(
        reading,
        limit=limit,
        after=None if cursor is None else cursors.read(office, cursor, about),
        urgent=sort == "due",
        states=states,
        filed_by=whose[0],
        subject_key=whose[1],
    )
    following = None if found.following is None else cursors.write(office, found.following, about)
    return RevocationPage(revocations=views.views(office, reading, found.requests), next=following)


@router.get("/{revocation_id}", responses=_SEEING, summary="See one request")
def one(office: Here, reading: Reading, principal: Onlooker, revocation_id: Id) -> RevocationView | ReviewView:
    """How far it has come, until when it is due, its certificates, and while it is worked on how far that is."""
    found = visible(reading, principal, revocation_id)
    shown = views.review if principal.may(Scope.REVIEW) else views.view
    return shown(office, reading, found)


@router.get("/{revocation_id}/events", responses=_SEEING, summary="See every step of a request")
def events(reading: Reading, principal: Onlooker, revocation_id: Id) -> list[EventView]:
    """Who did what, when and why; append-only."""
    return views.steps(reading, visible(reading, principal, revocation_id))


@router.post(
    "/{revocation_id}/verify-identity", response_model=RevocationView, responses=_DOING, summary="Verify an identity"
)
def verify_identity(post: Once, principal: Filer, revocation_id: Id, body: VerificationBody) -> Response:
    """With a code that was sent to the person; with the person's own login; or by an officer, who attests it.

    After it a request that repeats another one becomes a duplicate.
    """

    def work(connection: Connection) -> BaseModel | ProblemError:
        found = visible(connection, principal, revocation_id)
        office, person = post.office, principal.acting_as(Role.SUBJECT)
        if body.code is not None:
            verified = intake.verify_with_code(office, connection, found, body.code, by=person)
            if verified is None:
                return ProblemError(Kind.UNACCEPTABLE, "The code is wrong.", remedy="look at the last one that came")
            return views.view(office, connection, verified)
        if found.subject_key == principal.subject_key:
            return views.view(
                office, connection, intake.verify_with_proof(office, connection, found, _LOGIN, by=person)
            )
        if principal.may(Scope.REVIEW):
            officer = principal.acting_as(Role.OFFICER)
            return views.view(
                office, connection, intake.verify_with_proof(office, connection, found, _ATTESTED, by=officer)
            )
        raise ProblemError(
            Kind.UNACCEPTABLE, "That is no proof of the person's identity.", remedy="give the code, or log in as them"
        )

    return post.once(body, work)


@router.post("/{revocation_id}/send-code", response_model=RevocationView, responses=_DOING, summary="Send another code")
def send_code(post: Once, principal: Filer, revocation_id: Id) -> Response:
    """The one before does not count any more."""
    return _decide(post, principal, revocation_id, lambda c, found, _by: intake.ask_for_code(post.office, c, found))


@router.post("/{revocation_id}/approve", response_model=RevocationView, responses=_DOING, summary="Approve a request")
def approve(post: Once, principal: Officer, revocation_id: Id) -> Response:
    """From now on import, training and prediction refuse its channels, and a worker deletes them."""
    return _decide(
        post, principal, revocation_id, lambda c, found, by: decisions.approve_reviewed(post.office, c, found.id, by=by)
    )


@router.post("/{revocation_id}/deny", response_model=RevocationView, responses=_DOING, summary="Deny a request")
def deny(post: Once, principal: Officer, revocation_id: Id, body: DenialBody) -> Response:
    """For one of the reasons that the Data Rights Protocol names."""
    return _decide(
        post,
        principal,
        revocation_id,
        lambda c, found, by: decisions.deny(post.office, c, found.id, by=by, reason=body.reason),
        body,
    )


@router.post(
    "/{revocation_id}/extend", response_model=RevocationView, responses=_DOING, summary="Take the longer period"
)
def extend(post: Once, principal: Extender, revocation_id: Id, body: ExtensionBody) -> Response:
    """Once, where the regime has one; the person is told, if there is a way to reach them."""
    return _decide(
        post,
        principal,
        revocation_id,
        lambda c, found, by: decisions.extend(post.office, c, found.id, by=by, reason=body.reason),
        body,
    )


@router.post("/{revocation_id}/cancel", response_model=RevocationView, responses=_DOING, summary="Take a request back")
def cancel(post: Once, principal: Subject, revocation_id: Id, body: CancellationBody) -> Response:
    """As long as its work has not begun (`start`, the point of no return)."""
    return _decide(
        post,
        principal,
        revocation_id,
        lambda c, found, by: decisions.cancel(post.office, c, found.id, by=by, reason=body.reason),
        body,
        role=Role.SUBJECT,
    )


@router.post(
    "/{revocation_id}/retry", response_model=RevocationView, responses=_DOING, summary="Try a failed one again"
)
def retry(post: Once, principal: Officer, revocation_id: Id) -> Response:
    """From the step that failed; the certificates that it has stay."""
    return _decide(
        post, principal, revocation_id, lambda c, found, by: decisions.retry(post.office, c, found.id, by=by)
    )


@router.post("/decisions", response_model=DecisionsView, responses=_DOING, summary="Decide many requests at once")
def decide_many(post: Once, principal: Officer, body: DecisionsBody) -> Response:
    """Each by itself: one that cannot be decided says why, and the others are."""
    if body.decision == "extend" and not principal.may(Scope.EXTEND):
        raise ProblemError(Kind.FORBIDDEN, "The key or token does not allow this.", remedy="use one with the scope")
    if body.decision == "deny" and body.reason not in set(Denial):
        raise ProblemError(
            Kind.UNACCEPTABLE, "A denial needs one of the reasons for one.", remedy=f"give one of {', '.join(Denial)}"
        )
    if body.decision == "extend" and body.reason is None:
        raise ProblemError(Kind.UNACCEPTABLE, "An extension needs a reason.", remedy="give `reason`")

    def work(connection: Connection) -> BaseModel:
        by = principal.acting_as(Role.OFFICER)
        ids = dict.fromkeys(body.ids)
        return DecisionsView(decided=[_decided(post.office, connection, each, body, by) for each in ids])

    return post.once(body, work)


def _decided(office: Office, connection: Connection, revocation_id: str, body: DecisionsBody, by: Actor) -> Decided:
    found = requests.find(connection, revocation_id)
    if found is None:
        return Decided(id=revocation_id, state=None, problem="There is no such request.")
    try:
        if body.decision == "approve":
            after = decisions.approve_reviewed(office, connection, found.id, by=by)
        elif body.decision == "deny":
            after = decisions.deny(office, connection, found.id, by=by, reason=body.reason or "")
        else:
            after = decisions.extend(office, connection, found.id, by=by, reason=body.reason or "")
    except (TransitionError, DecisionError) as error:
        return Decided(id=found.id, state=found.state, problem=error.message)
    return Decided(id=found.id, state=after.state)


def _decide(
    post: Posting,
    principal: Principal,
    revocation_id: str,
    act: Callable[[Connection, Revocation, Actor], Revocation],
    body: BaseModel | None = None,
    *,
    role: Role = Role.OFFICER,
) -> Response:
    def work(connection: Connection) -> BaseModel:
        found = visible(connection, principal, revocation_id)
        if role is Role.SUBJECT and not is_mine(found, principal):
            raise ProblemError(Kind.FORBIDDEN, "Only the person, or who filed it for them, does this.")
        return views.view(post.office, connection, act(connection, found, principal.acting_as(role)))

    return post.once(body, work)
