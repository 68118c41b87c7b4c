"""Requests that came by OpenDSR, under the name that their controller gave them. It knows no HTTP and no person.

A row is never changed: how far its request has come is `mbd.records.requests`'s to say. Writers pass a connection from
`database.begin_locked`.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, insert, select

from mbd.records import tables

_at = tables.opendsr_request.c


@dataclass(frozen=True)
class Submission:
    """One request of a controller.

    Attributes:
        controller_id: who sent it: the id of a key or a token, never a name.
        subject_request_id: what its controller calls it; two controllers may choose the same.
        revocation_id: what it is called here.
        digest: of what was sent, under a key: it names a person.
        submitted_at: when the person asked the controller, as the controller says.
    """

    controller_id: str
    subject_request_id: str
    revocation_id: str
    digest: str
    submitted_at: datetime


def keep(connection: Connection, submission: Submission) -> None:
    """Keep a request's other name, in the transaction that files it."""
    connection.execute(
        insert(tables.opendsr_request).values(
            controller_id=submission.controller_id,
            subject_request_id=submission.subject_request_id,
            revocation_id=submission.revocation_id,
            digest=submission.digest,
            submitted_at=submission.submitted_at,
        )
    )


def find(connection: Connection, controller_id: str, subject_request_id: str) -> Submission | None:
    """What a controller sent under a name; None if it sent nothing."""
    return _one(connection, (_at.controller_id == controller_id) & (_at.subject_request_id == subject_request_id))


def of_revocation(connection: Connection, revocation_id: str) -> Submission | None:
    """How a request came in; None if not by OpenDSR."""
    return _one(connection, _at.revocation_id == revocation_id)


def _one(connection: Connection, condition: ColumnElement[bool]) -> Submission | None:
    row = connection.execute(select(tables.opendsr_request).where(condition)).one_or_none()
    return None if row is None else Submission(**row._asdict())
