"""Errors as OpenDSR has them. Every problem document of this service has one form there; none is thought of anew."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from api.facades.opendsr_bodies import Error, ErrorBody, ErrorDetail
from api.problems import MEDIA_TYPE
from mbd.hashing import canonical_json

_AT_THE_DOOR = {
    "model": ErrorBody,
    "description": "OpenDSR's error; a problem document where it is refused before it reaches this route",
    "content": {MEDIA_TYPE: {"schema": {"type": "object"}}},
}
DOCUMENTED: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "OpenDSR's error"},
    413: _AT_THE_DOOR,
    429: _AT_THE_DOOR,
    503: {"model": ErrorBody, "description": "Not ready: try again later"},
}
"""What the description of the facade's routes says of them."""


class TheirErrors(APIRoute):
    """A route whose errors are OpenDSR's, with the status 400 where ours have 422 (section 7.5)."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's own handler, and what translates its errors."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except Exception as error:  # what the application would answer, in their words; anything else goes on
                handlers = request.app.exception_handlers
                known = next((handlers[kind] for kind in type(error).__mro__ if kind in handlers), None)
                if known is None:
                    raise
                return _translated(known(request, error))

        return answer


def _translated(problem: Response) -> Response:
    document = json.loads(bytes(problem.body))
    status = 400 if problem.status_code == 422 else problem.status_code
    kind = document["type"].rpartition("/")[2]
    mistakes = [
        ErrorDetail(domain="Validation", reason=kind, message=f"{'.'.join(each['where'])}: {each['what']}")
        for each in document.get("errors", ())
    ]
    if not mistakes:
        remedy = document.get("remedy")
        mistakes = [ErrorDetail(domain="MissingByDesign", reason=kind, message=remedy or document["title"])]
    body = ErrorBody(error=Error(code=status, message=document["detail"], errors=mistakes))
    kept = {name: value for name, value in problem.headers.items() if not name.startswith("content-")}
    return Response(canonical_json(body.model_dump()), status, kept | {"cache-control": "no-store"}, "application/json")
