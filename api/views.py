"""Requests as answers: what everybody who may see one sees of it. It has no name of a person and no key of one."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, datetime

from pydantic import BaseModel, Field
from sqlalchemy import Connection

from mbd.records import certificates, progress, requests
from mbd.records.lifecycle import ENDED, RULES, WITH_THE_WORKER, Action, State
from mbd.records.requests import Revocation
from mbd.workflow.decisions import deadlines_of, lines_holding
from mbd.workflow.office import Office

_PROOF = Action.VERIFY_IDENTITY
_WORKED_ON = WITH_THE_WORKER | {State.COMPLETED}
"""States in which there may be progress and certificates."""


class CertificateView(BaseModel):
    """The answer of one model line."""

    id: str
    line: str
    version: int
    kind: str = Field(description="deletion, or absence: the line held nothing of the request")
    issued: bool = Field(description="Whether the file can be had; before that it waits for witnesses.")


class ProgressView(BaseModel):
    """How far the work is."""

    step: str
    fraction: float
    estimated_end: datetime | None


class RevocationView(BaseModel):
    """A request."""

    id: str = Field(examples=["rev-2f1c0a9b8d7e6f50"])
    state: State
    regime: str
    modalities: list[str]
    requested_at: datetime
    changed_at: datetime
    acknowledge_by: date | None = Field(
        description="Until when the person is told that it has come, where that is set."
    )
    due: date = Field(description="The last day on which an answer is in time.")
    days_left: int | None = Field(description="Until then; none when it has ended.")
    extended: bool
    possible: list[Action] = Field(description="What can follow, by whoever may do it.")
    certificates: list[CertificateView]
    progress: ProgressView | None = None


class RevocationPage(BaseModel):
    """Some requests, and where the list goes on."""

    revocations: list[RevocationView]
    next: str | None = Field(description="The cursor of the next page; none after the last one.")


class EventView(BaseModel):
    """A step of a request."""

    action: Action
    state: State
    role: str
    actor: str
    at: datetime
    reason: str | None


class ReviewView(RevocationView):
    """A request as an officer sees it who decides."""

    identity: str | None = Field(description="How it was proved that the person asks; none as long as it is not.")
    lines_holding: list[str] = Field(
        description="Model lines whose live version holds any of it. With none, deny it as no_match."
    )


def view(office: Office, connection: Connection, revocation: Revocation) -> RevocationView:
    """One request."""
    return views(office, connection, [revocation])[0]


def review(office: Office, connection: Connection, revocation: Revocation) -> ReviewView:
    """One request, with what an officer needs."""
    shown = view(office, connection, revocation).model_dump()
    proofs = (step.reason for step in requests.events(connection, revocation.id) if step.action is _PROOF)
    return ReviewView(**shown, identity=next(proofs, None), lines_holding=list(lines_holding(connection, revocation)))


def views(office: Office, connection: Connection, found: Sequence[Revocation]) -> list[RevocationView]:
    """Some requests, with two questions to the database for all of them."""
    ids = [revocation.id for revocation in found if revocation.state in _WORKED_ON]
    issued = defaultdict(list)
    for each in certificates.of_revocations(connection, ids) if ids else ():
        issued[each.revocation_id].append(
            CertificateView(
                id=each.id,
                line=each.model_line,
                version=each.version,
                kind=each.kind.value,
                issued=each.bundle is not None,
            )
        )
    working = progress.of(connection, ids) if ids else {}
    today = office.clock().date()
    return [_view(office, revocation, issued[revocation.id], working.get(revocation.id), today) for revocation in found]


def _view(
    office: Office,
    revocation: Revocation,
    issued: list[CertificateView],
    working: progress.Progress | None,
    today: date,
) -> RevocationView:
    last = deadlines_of(office.settings, revocation.regime, revocation.requested_at)
    return RevocationView(
        id=revocation.id,
        state=revocation.state,
        regime=revocation.regime,
        modalities=sorted({channel.modality for channel in revocation.scope}),
        requested_at=revocation.requested_at,
        changed_at=revocation.changed_at or revocation.requested_at,
        acknowledge_by=last.acknowledge,
        due=revocation.due,
        days_left=None if revocation.state in ENDED else (revocation.due - today).days,
        extended=revocation.extended,
        possible=[action for action in Action if revocation.state in RULES[action].leads],
        certificates=issued,
        progress=None
        if working is None
        else ProgressView(step=working.step, fraction=working.fraction, estimated_end=working.estimated_end),
    )


def steps(connection: Connection, revocation: Revocation) -> list[EventView]:
    """Every step of a request, in order."""
    return [
        EventView(
            action=step.action,
            state=step.state,
            role=step.by.role.value,
            actor=step.by.id,
            at=step.at,
            reason=step.reason,
        )
        for step in requests.events(connection, revocation.id)
    ]
