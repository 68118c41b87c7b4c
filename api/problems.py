"""Errors over HTTP: problem documents (RFC 9457), each of a kind that has one name, one status and one meaning.

A document's ``type`` is a path of this service, where the kind is explained. No document says what a client sent, and
none of a status 5xx says what went wrong inside: that is in the log.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException

from mbd.errors import RecordsError

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

_log = logging.getLogger("mbd.api")


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
    NOT_READY = _Kind("not-ready", 503, "The service is not ready", "The database or the log is away. Try again later.")
    INTERNAL = _Kind("internal", 500, "Something went wrong here", "It is in the service's log, and not your fault.")
    BAD_REQUEST = _Kind("bad-request", 400, "The request cannot be read", "It is not whole, or not HTTP as expected.")

    @property
    def path(self) -> str:
        """The ``type`` of its documents."""
        return f"/problems/{self.value.name}"


class ProblemError(Exception):
    """A problem that a route finds."""

    def __init__(self, kind: Kind, detail: str, *, remedy: str | None = None) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.remedy = kind, detail, remedy


def respond(kind: Kind, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> Response:
    """A problem document as a response; members without a value are left out."""
    known = {"type": kind.path, "title": kind.value.title, "status": kind.value.status, "detail": detail}
    given = {name: value for name, value in more.items() if value is not None}
    return JSONResponse(known | given, kind.value.status, headers, MEDIA_TYPE)


def documented(*kinds: Kind) -> dict[int | str, dict[str, Any]]:
    """What a route's description says of the problems that it can answer with."""
    return {
        kind.value.status: {"description": kind.value.title, "content": {MEDIA_TYPE: {"schema": _SCHEMA}}}
        for kind in kinds
    }


def install(app: FastAPI) -> None:
    """Every error of the application becomes a problem document, and every kind has a page."""

    @app.exception_handler(ProblemError)
    def found(_request: Request, error: ProblemError) -> Response:
        return respond(error.kind, error.detail, remedy=error.remedy)

    @app.exception_handler(RequestValidationError)
    def invalid(_request: Request, error: RequestValidationError) -> Response:
        errors = [{"where": list(map(str, each["loc"])), "what": each["msg"]} for each in error.errors()]
        return respond(Kind.INVALID_REQUEST, "See `errors`.", errors=errors)

    @app.exception_handler(HTTPException)
    def refused(_request: Request, error: HTTPException) -> Response:
        kinds = {kind.value.status: kind for kind in Kind}
        kind = kinds.get(error.status_code, Kind.BAD_REQUEST)
        return respond(kind, kind.value.meaning, headers=error.headers)

    @app.exception_handler(RecordsError)
    @app.exception_handler(DBAPIError)
    def away(_request: Request, error: Exception) -> Response:
        _log.error(json.dumps({"event": "not ready", "error": type(error).__name__}))
        return respond(Kind.NOT_READY, Kind.NOT_READY.value.meaning, headers={"retry-after": "10"})

    @app.exception_handler(Exception)
    def broken(_request: Request, error: Exception) -> Response:
        _log.error(json.dumps({"event": "internal error", "error": type(error).__name__}))
        return respond(Kind.INTERNAL, Kind.INTERNAL.value.meaning)

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
