"""What is told of every request: one log line and one observation, by its route's template, with an id that links them.

Neither has anything of what the client sent but the method, if it is one of HTTP's. An error that nobody has caught
ends here: it is a line and an answer.
"""

import re
import time
import uuid
from collections.abc import Callable

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import Kind, respond
from mbd.telemetry import logs
from mbd.telemetry.metrics import Metrics

REQUEST_ID = "x-request-id"
"""The header, of requests and of answers."""

NO_ROUTE = "none"
"""The route of a request that found none."""

_ID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}|[0-7][0-9A-HJKMNP-TV-Z]{25}")  # UUID, ULID
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_ABORTED = 499
"""As in the logs of proxies: the client went away before there was an answer."""

_log = logs.logger("mbd.api")


class Observe:
    """Stands before everything else, so that nothing is answered without a line.

    Args:
        app: what answers.
        metrics: what counts.
        clock: seconds that never go back.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, clock: Callable[[], float] = time.perf_counter) -> None:
        self._app, self._metrics, self._clock = app, metrics, clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and tell how it ended."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, request_id = self._clock(), _ABORTED, _request_id(scope)

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, noted)
            except ClientDisconnect:
                pass  # the line says so
            except Exception as error:  # noqa: BLE001 - what is raised above here would be printed with its message
                _log.error("internal error", error=error)
                if status == _ABORTED:
                    await respond(Kind.INTERNAL, Kind.INTERNAL.value.meaning)(scope, receive, noted)
            finally:
                route = getattr(scope.get("route"), "path_format", NO_ROUTE)
                method = scope["method"] if scope["method"] in _METHODS else "other"
                seconds = self._clock() - began
                self._metrics.observe(route=route, method=method, status=status, seconds=seconds)
                _log.info("request", method=method, route=route, status=status, seconds=round(seconds, 6))


def _request_id(scope: Scope) -> str:
    """The client's, if it is nothing but an id; else a new one."""
    given = Headers(scope=scope).get(REQUEST_ID, "")
    return given if _ID.fullmatch(given) else str(uuid.uuid4())
