"""OpenDSR 2.0, the processor's side: controllers file erasures, follow them, and take them back while they are pending.

A controller is whoever holds a key or token that may file requests; it sees what came from it by OpenDSR, under the ids
that it chose. What follows on a request is the same as for every other.
"""

import base64
import hmac
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel
from sqlalchemy import Connection

from api.dependencies import Here, Reading
from api.facades.opendsr_bodies import (
    CUSTOMER,
    EMAIL,
    UUID4,
    Cancellation,
    Discovery,
    Receipt,
    RequestBody,
    Status,
    SupportedIdentity,
)
from api.facades.opendsr_errors import DOCUMENTED, TheirErrors
from api.principals import Principal, Scope, needs
from api.problems import Kind, ProblemError
from mbd.hashing import canonical_json
from mbd.records import opendsr, requests
from mbd.records.database import begin_snapshot
from mbd.records.lifecycle import Role, State
from mbd.records.opendsr import Submission
from mbd.records.requests import Revocation
from mbd.workflow import decisions, intake
from mbd.workflow.callbacks import opendsr as endpoints
from mbd.workflow.decisions import deciding
from mbd.workflow.intake import Filing
from mbd.workflow.office import Office
from mbd.workflow.opendsr import API_VERSION, PENDING, Processor, completion_time, status_of

PREFIX = "/opendsr/v2"

router = APIRouter(prefix=PREFIX, tags=["OpenDSR"], route_class=TheirErrors, responses=DOCUMENTED)

_PEM = "application/x-pem-file"
_VOUCHED = "the controller's word (OpenDSR)"
_TAKEN_BACK = "its controller took it back (OpenDSR)"


def _configured(request: Request) -> Processor:
    found: Processor | None = request.app.state.opendsr
    if found is None:
        raise ProblemError(
            Kind.NOT_FOUND, "OpenDSR is not configured here.", remedy="its operator sets MBD_OPENDSR_DOMAIN"
        )
    return found


async def _body(request: Request) -> bytes:
    return await request.body()


Configured = Annotated[Processor, Depends(_configured)]
Controller = Annotated[Principal, Depends(needs(Scope.CREATE))]
Id = Annotated[str, Path(pattern=UUID4, description="The subject_request_id.")]


@router.get("/discovery", summary="What this processor supports")
def discovery(processor: Configured, office: Here) -> Discovery:
    """Identities, request types, and where the certificate is. An address is taken where messages can be sent to it."""
    taken = (CUSTOMER,) if office.settings.notifier is None else (CUSTOMER, EMAIL)
    return Discovery(
        api_version=API_VERSION,
        supported_identities=[SupportedIdentity(identity_type=each, identity_format="raw") for each in taken],
        supported_subject_request_types=["erasure"],
        processor_certificate=f"https://{processor.domain}{PREFIX}/certificate",
    )


@router.get(
    "/certificate",
    response_class=Response,
    responses={200: {"description": "PEM", "content": {_PEM: {}}}},
    summary="What verifies this processor's signatures",
)
def certificate(processor: Configured) -> Response:
    """X.509, for the domain in X-OpenDSR-Processor-Domain."""
    return Response(processor.certificate, media_type=_PEM)


@router.post("/requests", status_code=201, response_model=Receipt, summary="File an erasure")
def file(  # noqa: PLR0917 - FastAPI calls by name
    processor: Configured,
    office: Here,
    request: Request,
    controller: Controller,
    asked: RequestBody,
    raw: Annotated[bytes, Depends(_body)],
) -> Response:
    """The same bytes again are answered again and not filed again; other bytes under the same id are refused."""
    # Keyed, because what was sent names a person, and could be guessed from a plain hash.
    digest = hmac.digest(office.identities.derive("OpenDSR requests v1"), raw, "sha256").hex()
    with begin_snapshot(office.engine) as connection:
        filed = _filed_before(connection, controller, asked.subject_request_id, digest)
    if filed is None:
        asked.check(now=office.clock())
        urls = list(dict.fromkeys(asked.status_callback_urls))
        for url in urls:  # before the transaction: names are resolved
            request.app.state.url_policy.admit(url)
        with deciding(office) as connection:
            filed = _filed_before(connection, controller, asked.subject_request_id, digest)
            if filed is None:
                filed = _file(processor, office, connection, controller, asked, digest=digest, urls=urls)
    said = Receipt(
        controller_id=controller.id,
        expected_completion_time=completion_time(filed.due),
        received_time=f"{filed.requested_at:%Y-%m-%dT%H:%M:%SZ}",
        encoded_request=base64.b64encode(raw).decode(),
        subject_request_id=asked.subject_request_id,
    )
    return _signed(processor, said, 201)


@router.get("/requests/{subject_request_id}", response_model=Status, summary="How far a request has come")
def status(processor: Configured, reading: Reading, controller: Controller, subject_request_id: Id) -> Response:
    """One of this controller's own."""
    submission, revocation = _own(reading, controller, subject_request_id)
    return _signed(processor, Status.model_validate(processor.status(submission, revocation)), 200)


@router.delete(
    "/requests/{subject_request_id}", status_code=202, response_model=Cancellation, summary="Take a request back"
)
def cancel(processor: Configured, office: Here, controller: Controller, subject_request_id: Id) -> Response:
    """While it is pending. One that was taken back before is answered as it was then."""
    with deciding(office) as connection:
        submission, revocation = _own(connection, controller, subject_request_id)
        if revocation.state is not State.CANCELLED:
            if status_of(revocation.state) != PENDING:
                raise ProblemError(Kind.CONFLICT, "The request is not pending any more.", remedy="ask for its status")
            by = controller.acting_as(Role.SUBJECT)
            revocation = decisions.cancel(office, connection, revocation.id, by=by, reason=_TAKEN_BACK)
    said = Cancellation(
        controller_id=controller.id,
        subject_request_id=submission.subject_request_id,
        received_time=f"{revocation.changed_at:%Y-%m-%dT%H:%M:%SZ}",
        api_version=API_VERSION,
    )
    return _signed(processor, said, 202)


def _file(
    processor: Processor,
    office: Office,
    connection: Connection,
    controller: Principal,
    asked: RequestBody,
    *,
    digest: str,
    urls: list[str],
) -> Revocation:
    """File it, with its endpoints before anything follows on it, so that they hear of that."""

    def keep(filed: Revocation) -> None:
        submission = Submission(controller.id, asked.subject_request_id, filed.id, digest, asked.submitted_time)
        opendsr.keep(connection, submission)
        for url in urls:
            endpoints.register(connection, url, owner=controller.id, revocation_id=filed.id, at=office.clock())

    key = intake.subject_key_of(office, asked.subject)
    filing = Filing(key, asked.modalities(processor.domain), asked.regulation, asked.contact)
    proof = _VOUCHED if office.settings.opendsr_vouched else None
    by = controller.acting_as(Role.SUBJECT)
    return intake.file(office, connection, filing, by=by, proof=proof, when_filed=keep)


def _filed_before(
    connection: Connection, controller: Principal, subject_request_id: str, digest: str
) -> Revocation | None:
    submission = opendsr.find(connection, controller.id, subject_request_id)
    if submission is None:
        return None
    if not hmac.compare_digest(submission.digest, digest):
        raise ProblemError(
            Kind.UNACCEPTABLE,
            "The subject_request_id was used for another request.",
            remedy="use a new one for each request, and send the same bytes to send one again",
        )
    return requests.get(connection, submission.revocation_id)


def _own(connection: Connection, controller: Principal, subject_request_id: str) -> tuple[Submission, Revocation]:
    submission = opendsr.find(connection, controller.id, subject_request_id)
    if submission is None:
        raise ProblemError(Kind.NOT_FOUND, "There is no request of that id, or it is not yours.")
    return submission, requests.get(connection, submission.revocation_id)


def _signed(processor: Processor, said: BaseModel, code: int) -> Response:
    body = canonical_json(said.model_dump(mode="json", exclude_none=True))
    return Response(body, code, {**processor.headers(body), "cache-control": "no-store"}, "application/json")
