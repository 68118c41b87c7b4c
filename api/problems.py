"""Errors over HTTP: problem documents (RFC 9457), each of a kind that has one name, one status and one meaning.

A document's ``type`` is a path of this service, where the kind is explained. No document says what a client sent, and
none of a status 5xx says what went wrong inside: that is in the log.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import HTTPException, RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException as AnyHTTPException

from mbd.errors import (
    CallbackError,
    DecisionError,
    FilingError,
    IdentityError,
    MbdError,
    PredictionError,
    PredictorError,
    RecordsError,
    TransitionError,
)
from mbd.telemetry import logs

MEDIA_TYPE = "application/problem+json"

_TEXT = {"type": "string"}
_MISTAKE = {
    "type": "object",
    "required": ["where", "what"],
    "properties": {"where": {"type": "array", "items": _TEXT}, "what": _TEXT},
}
_SCHEMA = {
    "title": "Problem",
    "description": "RFC 9457. `type` is a path of this service, which explains the kind.",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT,
        "remedy": _TEXT,
        "errors": {"type": "array", "items": _MISTAKE},
    },
}

_log = logs.logger("mbd.api")


@dataclass(frozen=True)
class _Kind:
    name: str
    status: int
    title: str
    meaning: str


class Kind(Enum):
    """Every kind of problem. Append only: programs of others match on the names."""

    NOT_FOUND = _Kind("not-found", 404, "There is no such thing", "Nothing has this path or this id.")
    METHOD_NOT_ALLOWED = _Kind("method-not-allowed", 405, "Not with this method", "See the header Allow.")
    INVALID_REQUEST = _Kind("invalid-request", 422, "The request is not valid", "`errors` says where, and why.")
    TOO_LARGE = _Kind("too-large", 413, "The request is too large", "Bodies have at most one mebibyte.")
    NOT_READY = _Kind(
        "not-ready", 503, "The service is not ready", "The database, the log or the predictor is away. Try again later."
    )
    INTERNAL = _Kind("internal", 500, "Something went wrong here", "It is in the service's log, and not your fault.")
    BAD_REQUEST = _Kind("bad-request", 400, "The request cannot be read", "It is not whole, or not HTTP as expected.")
    TOO_MANY_REQUESTS = _Kind(
        "too-many-requests", 429, "Too many requests", "`Retry-After` says how many seconds to wait."
    )
    UNAUTHENTICATED = _Kind(
        "unauthenticated", 401, "Who asks is not known", "Send `Authorization: Bearer` with an API key or a token."
    )
    FORBIDDEN = _Kind("forbidden", 403, "Not allowed with this key or token", "It lacks the scope that this needs.")
    CONFLICT = _Kind(
        "conflict", 409, "Not possible now", "The request's state, or this service's policy, does not allow it."
    )
    KEY_REUSED = _Kind(
        "idempotency-key-reused", 422, "The Idempotency-Key was used before", "It was used for another request."
    )
    UNACCEPTABLE = _Kind(
        "unacceptable", 422, "The request cannot be taken", "It is well-formed; `detail` says why not."
    )
    TOO_SLOW = _Kind("too-slow", 408, "The request came too slowly", "Bodies have half a minute.")

    @property
    def path(self) -> str:
        """The ``type`` of its documents."""
        return f"/problems/{self.value.name}"


class ProblemError(HTTPException):
    """A problem that is found in a route, or before it. FastAPI lets it through even where it reads a body."""

    def __init__(
        self, kind: Kind, detail: str, *, remedy: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(kind.value.status, detail, headers)
        self.kind, self.remedy = kind, remedy

    def document(self) -> dict[str, Any]:
        """The problem document."""
        return _document(self.kind, self.detail, remedy=self.remedy)


def respond(kind: Kind, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> Response:
    """A problem document as a response; members without a value are left out."""
    return JSONResponse(_document(kind, detail, **more), kind.value.status, headers, MEDIA_TYPE)


def _document(kind: Kind, detail: str, **more: Any) -> dict[str, Any]:
    known = {"type": kind.path, "title": kind.value.title, "status": kind.value.status, "detail": detail}
    return known | {name: value for name, value in more.items() if value is not None}


def documented(*kinds: Kind) -> dict[int | str, dict[str, Any]]:
    """What a route's description says of the problems that it can answer with."""
    return {
        kind.value.status: {"description": kind.value.title, "content": {MEDIA_TYPE: {"schema": _SCHEMA}}}
        for kind in kinds
    }


def install(app: FastAPI) -> None:
    """Every error of the application becomes a problem document, and every kind has a page.

    One that nobody expects is left to `api.observing`.
    """

    @app.exception_handler(ProblemError)
    def found(_request: Request, error: ProblemError) -> Response:
        return respond(error.kind, error.detail, headers=error.headers, remedy=error.remedy)

    @app.exception_handler(RequestValidationError)
    def invalid(_request: Request, error: RequestValidationError) -> Response:
        errors = [{"where": list(map(str, each["loc"])), "what": each["msg"]} for each in error.errors()]
        return respond(Kind.INVALID_REQUEST, "See `errors`.", errors=errors)

    @app.exception_handler(AnyHTTPException)
    def refused(_request: Request, error: AnyHTTPException) -> Response:
        kinds = {kind.value.status: kind for kind in Kind}
        kind = kinds.get(error.status_code, Kind.BAD_REQUEST)
        return respond(kind, kind.value.meaning, headers=error.headers)

    @app.exception_handler(TransitionError)
    @app.exception_handler(DecisionError)
    def conflicting(_request: Request, error: Exception) -> Response:
        assert isinstance(error, MbdError), "both are"
        return respond(Kind.CONFLICT, error.message, remedy=error.remedy)

    @app.exception_handler(CallbackError)
    @app.exception_handler(FilingError)
    @app.exception_handler(IdentityError)
    @app.exception_handler(PredictionError)
    def unacceptable(_request: Request, error: Exception) -> Response:
        assert isinstance(error, MbdError), "all of them are"
        return respond(Kind.UNACCEPTABLE, error.message, remedy=error.remedy)

    @app.exception_handler(RecordsError)
    @app.exception_handler(DBAPIError)
    def away(_request: Request, error: Exception) -> Response:
        _log.error("not ready", error=error)
        return respond(Kind.NOT_READY, Kind.NOT_READY.value.meaning, headers={"retry-after": "10"})

    @app.exception_handler(PredictorError)
    def unanswered(_request: Request, error: PredictorError) -> Response:
        return respond(Kind.NOT_READY, error.message, headers={"retry-after": "10"}, remedy=error.remedy)

    @app.get(
        "/problems/{name}",
        tags=["service"],
        summary="What a kind of problem means",
        responses=documented(Kind.NOT_FOUND, Kind.INVALID_REQUEST),
    )
    def explain(name: str) -> dict[str, Any]:
        kind = next((kind for kind in Kind if kind.value.name == name), None)
        if kind is None:
            raise ProblemError(Kind.NOT_FOUND, "There is no problem of that name.")
        return {
            "type": kind.path,
            "title": kind.value.title,
            "status": kind.value.status,
            "meaning": kind.value.meaning,
        }
