"""Model lines and their versions, and which of them saw whom. It changes nothing: that needs the deployment's keys."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel, Field

from api import cursors, files, problems
from api.dependencies import Here, Reading
from api.principals import Scope, needs
from api.problems import Kind, ProblemError
from certs.statement import Modality
from mbd.errors import RecordsError
from mbd.records import certificates, destruction, exposure, models
from mbd.records.certificates import Certificate, CertificateKind
from mbd.records.models import ModelVersion, VersionState
from mbd.records.suppression import Channel

_ALWAYS = (Kind.UNAUTHENTICATED, Kind.FORBIDDEN, Kind.INVALID_REQUEST, Kind.NOT_READY)

router = APIRouter(
    prefix="/v1",
    tags=["models"],
    dependencies=[Depends(needs(Scope.LINEAGE))],
    responses=problems.documented(*_ALWAYS),
)

DSSE = "application/vnd.dsse.envelope.v1+json"
MOST = 200

LineName = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="A line.", examples=["main"])]
Number = Annotated[int, Path(ge=1, lt=2**31, description="A version of it.", examples=[2])]
_MISSING = problems.documented(Kind.NOT_FOUND)


class Version(BaseModel):
    """A model version."""

    line: str
    version: int
    state: VersionState
    parent_version: int | None = Field(description="The version that it was made from.")
    guarantee_class: str | None = Field(description="What the deletion that made it proves; null: none made it.")
    digest: str = Field(description="SHA-256 of its manifest, model.json, which names its other files.")
    backbone: str
    statistics: str = Field(description="The salted commitment to its statistics.")
    cohort: str = Field(description="The root of its rows' manifest.")
    created_at: datetime


class CertificateName(BaseModel):
    """A certificate, which anybody can have under /v1/certificates."""

    id: str
    kind: CertificateKind
    request: str


class DetailedVersion(Version):
    """A model version, and what is said about it."""

    certificates: list[CertificateName] = Field(description="Of deletions that made it, and of what it does not hold.")
    destroyed_at: datetime | None = Field(
        description="When its files were destroyed; the statement is under /destruction."
    )


class Line(BaseModel):
    """A model line."""

    line: str
    live: Version | None = Field(description="The version in service; null: none is.")
    revoked_channels: int = Field(description="Of the live version: channels whose deletion is not finished.")


class Lines(BaseModel):
    """All model lines. Nothing live descends from a revoked channel when all `revoked_channels` are 0."""

    lines: list[Line]


class Versions(BaseModel):
    """Versions of one line, by number."""

    versions: list[Version]
    next: str | None = Field(description="The cursor with which the list goes on; null: this was the end.")


class Step(BaseModel):
    """How one version became the next, and the certificates of all requests that this step carried out."""

    before: int
    after: int
    certificates: list[CertificateName] = Field(description="None: nothing was deleted in this step.")


class Steps(BaseModel):
    """The steps from one version to a later one, in order."""

    steps: list[Step]


class Exposure(BaseModel):
    """A version that saw the person's channel, and what ended it."""

    modality: Modality
    line: str
    version: int
    state: VersionState
    ended_by_version: int | None = Field(description="The first later one in service without it; null: there is none.")
    certificate: str | None


class Absence(BaseModel):
    """A version that was certified to hold nothing of the person's channel."""

    modality: Modality
    line: str
    version: int
    certificate: str


class SubjectLineage(BaseModel):
    """Which models ever saw a person."""

    exposures: list[Exposure]
    absences: list[Absence]


@router.get("/models", summary="Model lines")
def list_lines(reading: Reading) -> Lines:
    """Every line, with its version in service."""
    live = {version.line: version for version in models.live_versions(reading)}
    left = [found.line for found in exposure.live_descendants_of_revoked(reading)]
    return Lines(
        lines=[
            Line(line=name, live=_version(live[name]) if name in live else None, revoked_channels=left.count(name))
            for name in models.lines(reading)
        ]
    )


@router.get("/models/{line}/versions", responses=_MISSING, summary="Versions of a line")
def list_versions(
    office: Here,
    reading: Reading,
    line: LineName,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 50,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> Versions:
    """By number, candidates and retired ones as well."""
    about = ["versions", line]
    after = 0 if cursor is None else int(cursors.read(office, cursor, about)[0])
    found = models.versions(reading, line, after=after, most=limit + 1)
    if not found and after == 0:
        raise ProblemError(Kind.NOT_FOUND, "There is no such model line.")
    shown = found[:limit]
    more = cursors.write(office, (str(shown[-1].version), ""), about) if len(found) > limit else None
    return Versions(versions=[_version(each) for each in shown], next=more)


@router.get("/models/{line}/versions/{number}", responses=_MISSING, summary="A version")
def show_version(reading: Reading, line: LineName, number: Number) -> DetailedVersion:
    """What it was made of, and what certificates say of it."""
    found = models.find(reading, line, number)
    if found is None:
        raise ProblemError(Kind.NOT_FOUND, "There is no such version.")
    stated = destruction.find(reading, line, number)
    return DetailedVersion(
        **_version(found).model_dump(),
        certificates=[_name(each) for each in certificates.about_version(reading, line, number)],
        destroyed_at=stated.destroyed_at if stated else None,
    )


@router.get(
    "/models/{line}/versions/{number}/destruction",
    response_class=Response,
    responses=_MISSING | files.documented(DSSE),
    summary="The statement of its destruction",
)
def show_destruction(reading: Reading, line: LineName, number: Number) -> Response:
    """The signed DSSE envelope of an in-toto statement: which files were unlinked, and what that does not prove."""
    stated = destruction.find(reading, line, number)
    if stated is None:
        raise ProblemError(Kind.NOT_FOUND, "There is no statement that this version was destroyed.")
    return files.respond(stated.envelope, DSSE)


@router.get("/models/{line}/steps", responses=_MISSING, summary="How one version became another")
def list_steps(
    reading: Reading,
    line: LineName,
    before: Annotated[int, Query(ge=1, lt=2**31, description="The earlier version.", examples=[1])],
    after: Annotated[int, Query(ge=1, lt=2**31, description="The later version.", examples=[2])],
) -> Steps:
    """The certificates that cover the steps between two versions."""
    try:
        found = certificates.certificates_between(reading, line, before, after)
    except RecordsError:
        raise ProblemError(Kind.NOT_FOUND, "The later version does not come from the earlier one.") from None
    return Steps(
        steps=[
            Step(
                before=step.parent_version,
                after=step.version,
                certificates=[_name(each) for each in step.certificates],
            )
            for step in found
        ]
    )


@router.get("/lineage", summary="Which models ever saw a person")
def show_lineage(
    office: Here,
    reading: Reading,
    subject: Annotated[str, Query(min_length=1, max_length=256, description="The person, by the cohorts' name.")],
    modality: Annotated[Modality | None, Query(description="Only this channel.")] = None,
    model: Annotated[str | None, Query(max_length=64, description="Only this line.")] = None,
) -> SubjectLineage:
    """Of a person whom no model ever saw, the answer is two empty lists, as of somebody who does not exist."""
    key = office.identities.subject_key(subject)
    wanted: tuple[Modality, ...] = ("text", "audio", "vision") if modality is None else (modality,)
    return SubjectLineage(
        exposures=[
            Exposure(
                modality=each,
                line=seen.line,
                version=seen.version,
                state=seen.state,
                ended_by_version=seen.ended_by.version if seen.ended_by else None,
                certificate=seen.ended_by.certificate_id if seen.ended_by else None,
            )
            for each in wanted
            for seen in exposure.models_exposed_to(reading, Channel(key, each))
            if model in {None, seen.line}
        ],
        absences=[
            Absence(modality=each, line=found.model_line, version=found.version, certificate=found.id)
            for each in wanted
            for found in certificates.absences_of(reading, Channel(key, each))
            if model in {None, found.model_line}
        ],
    )


def _version(found: ModelVersion) -> Version:
    return Version(
        line=found.line,
        version=found.version,
        state=found.state,
        parent_version=found.parent_version,
        guarantee_class=found.guarantee_class,
        digest=found.digest,
        backbone=found.backbone,
        statistics=found.statistics,
        cohort=found.cohort,
        created_at=found.created_at,
    )


def _name(certificate: Certificate) -> CertificateName:
    return CertificateName(id=certificate.id, kind=certificate.kind, request=certificate.revocation_id)
