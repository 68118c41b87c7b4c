"""Certificates for everybody: as they were issued, and verified for whoever cannot do it themselves."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, Field

from api import files, problems
from api.dependencies import Here, Reading
from api.problems import Kind, ProblemError
from certs import bundle as bundles
from certs.errors import VerificationError
from mbd.errors import RecordsError
from mbd.records import certificates
from mbd.workflow.standing import verify_in_log

router = APIRouter(prefix="/v1/certificates", tags=["certificates"])

Id = Annotated[str, Path(pattern=r"^mdc-[0-9a-f]{1,64}$", description="A certificate's id.", examples=["mdc-0"])]

_MISSING = problems.documented(Kind.NOT_FOUND, Kind.INVALID_REQUEST, Kind.NOT_READY)
_BUNDLE_BODY = {
    "requestBody": {
        "required": True,
        "description": "The certificate file, mdc.sigstore.json, as it is.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}


class StepResult(BaseModel):
    """One numbered step of SPEC.md."""

    number: int
    title: str
    result: str
    detail: str


class Verification(BaseModel):
    """What came out, as ``mbd certificate verify --json`` says it."""

    valid: bool
    verdict: str = Field(examples=["valid as of checkpoint size 5 of log.example.org/main"])
    step: int | None = Field(None, description="The step that failed.")
    code: str | None = Field(None, description="The failure, by its name in SPEC.md.")
    remedy: str | None = None
    steps: list[StepResult] = []
    leaf_index: int | None = None
    tree_size: int | None = None
    key_id: str | None = None
    signed_at: str | None = None


async def _body(request: Request) -> bytes:
    return await request.body()


@router.post(
    "/verify",
    openapi_extra=_BUNDLE_BODY,
    responses=problems.documented(Kind.TOO_LARGE, Kind.TOO_SLOW, Kind.NOT_READY),
    summary="Verify a certificate",
)
def verify(office: Here, reading: Reading, bundle: Annotated[bytes, Depends(_body)]) -> Verification:
    """Every step of an offline verification under this deployment's trusted root, and what its log says later.

    A convenience: who does not want to trust this service verifies offline, with tools of others. That a certificate is
    not valid is an answer, with status 200.
    """
    try:
        found = verify_in_log(reading, bundle, office.trusted_root_path.read_bytes(), at=office.clock())
    except VerificationError as error:
        return Verification(
            valid=False, verdict=error.message, step=error.step, code=error.code.value, remedy=error.remedy
        )
    return Verification(
        valid=True,
        verdict=found.verdict,
        steps=[StepResult(number=s.number, title=s.title, result=s.result, detail=s.detail) for s in found.steps],
        leaf_index=found.leaf_index,
        tree_size=found.tree_size,
        key_id=found.key_id,
        signed_at=found.signed_at.isoformat() if found.signed_at else None,
    )


@router.get(
    "/{certificate_id}",
    response_class=Response,
    responses=_MISSING | files.documented(bundles.MEDIA_TYPE),
    summary="The certificate file",
)
def bundle(reading: Reading, certificate_id: Id) -> Response:
    """The Sigstore bundle, byte for byte as it was issued."""
    return files.respond(_bundle(reading, certificate_id), bundles.MEDIA_TYPE)


@router.get("/{certificate_id}/statement", responses=_MISSING, summary="What it says")
def statement(reading: Reading, certificate_id: Id) -> dict[str, Any]:
    """The signed in-toto statement. Read on its own it proves nothing: verify the certificate."""
    found: dict[str, Any] = json.loads(bundles.parse(_bundle(reading, certificate_id)).dsse_envelope.payload)
    return found


@router.get(
    "/{certificate_id}/tlog-proof",
    response_class=Response,
    responses=_MISSING | files.documented(files.TEXT),
    summary="Its text proof",
)
def tlog_proof(reading: Reading, certificate_id: Id) -> Response:
    """The proof that the log has it (C2SP tlog-proof)."""
    proof = bundles.text_proof(bundles.parse(_bundle(reading, certificate_id)))
    return files.respond(proof.text, files.TEXT)


def _bundle(reading: Reading, certificate_id: str) -> bytes:
    try:
        found = certificates.get(reading, certificate_id)
    except RecordsError:
        raise ProblemError(Kind.NOT_FOUND, "There is no certificate of that id.") from None
    if found.bundle is None:
        raise ProblemError(
            Kind.NOT_FOUND, "The certificate is signed and logged, and not handed out yet.", remedy="ask again later"
        )
    return found.bundle.encode()
