"""What a request may cost: how large its body may be, how long it may take to come, and how many may come a minute.

The door counts by the client's address, before anybody has looked at a request. Once it is known who asks, that counts
instead (`charge`), so that people behind one address do not use up each other's share; and failed logins count apart
(`note_failure`). All of it is kept in this process's memory, of bounded size, and written nowhere.
"""

import asyncio
import contextlib
import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from threading import Lock

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import Kind, ProblemError, respond

READ_SECONDS = 30
"""How long a client may take to send its body."""

FAILURES_PER_MINUTE = 10
"""Logins that may fail from one address."""

_TILES = "/tile/"
_FREE = frozenset({"/checkpoint", "/healthz", "/readyz"})
"""With the tiles, what monitors and probes read: a file or one row each, and the log must be readable as a whole."""

_MOST_CLIENTS = 10_000
_MINUTE = 60
_DRAIN_SECONDS = 2
_CLOSE = {"connection": "close"}


class Buckets:
    """Token buckets, one for each client: full at first, emptied by use, filled again at a steady rate.

    Above 10,000 clients it forgets the one that was idle for longest, whose bucket is then as if full. Threads may
    share it.

    Args:
        per_minute: what a bucket holds, and what it gets in a minute. 0 is no limit.
        clock: seconds that never go back.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._most, self._clock = float(per_minute), clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = Lock()

    def wait(self, client: str) -> float:
        """The seconds until the client's bucket holds a token; 0 if it does now."""
        with self._lock:
            return self._wait(self._level(client))

    def take(self, client: str) -> float:
        """Take a token and return 0; or take none, and return the seconds until there is one."""
        with self._lock:
            level = self._level(client)
            wait = self._wait(level)
            if not wait:
                self._fill(client, level - 1)
            return wait

    def give_back(self, client: str) -> None:
        """Undo a `take`."""
        with self._lock:
            self._fill(client, min(self._most, self._level(client) + 1))

    def _level(self, client: str) -> float:
        now = self._clock()
        level, then = self._levels.get(client, (self._most, now))
        return min(self._most, level + (now - then) * self._most / _MINUTE)

    def _wait(self, level: float) -> float:
        return (1 - level) * _MINUTE / self._most if self._most and level < 1 else 0

    def _fill(self, client: str, level: float) -> None:
        if not self._most:
            return
        self._levels[client] = level, self._clock()
        self._levels.move_to_end(client)
        if len(self._levels) > _MOST_CLIENTS:
            self._levels.popitem(last=False)


class Limits:
    """How many requests a client may send.

    Args:
        per_minute: of one principal, and of one address as long as no principal is known. 0 is no limit.
        clock: seconds that never go back.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._addresses = Buckets(per_minute, clock)
        self._principals = Buckets(per_minute, clock)
        self._failures = Buckets(FAILURES_PER_MINUTE if per_minute else 0, clock)

    def enter(self, address: str, *, shows_credentials: bool) -> float:
        """Let a request in and return 0, or return the seconds after which it may come again."""
        wait = self._failures.wait(address) if shows_credentials else 0
        return wait or self._addresses.take(address)

    def charge(self, request: Request, principal: str) -> None:
        """Count a request for whoever has proved to send it, and no longer for the address that it came from.

        Raises:
            ProblemError: of the kind `Kind.TOO_MANY_REQUESTS`.
        """
        self._addresses.give_back(address_of(request.scope))
        wait = self._principals.take(principal)
        if wait:
            raise _problem(Kind.TOO_MANY_REQUESTS, _retry_after(wait))

    def note_failure(self, request: Request) -> None:
        """Count a login that failed: after a few, its address may show no credentials for a while."""
        self._failures.take(address_of(request.scope))


class LimitRate:
    """Answers 429 to a client that sends too many requests, with the time after which it may come again."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app, self._limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or not."""
        if scope["type"] == "http" and scope["path"] not in _FREE and not scope["path"].startswith(_TILES):
            shown = any(name == b"authorization" for name, _ in scope["headers"])
            wait = self._limits.enter(address_of(scope), shows_credentials=shown)
            if wait:
                kind = Kind.TOO_MANY_REQUESTS
                await respond(kind, kind.value.meaning, headers=_retry_after(wait))(scope, receive, send)
                return
        await self._app(scope, receive, send)


def address_of(scope: Scope) -> str:
    """The client's address; of version 6 the network of 64 bits, which is what one customer has."""
    host = scope["client"][0] if scope.get("client") else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return str(host)
    return host if address.version == 4 else str(ipaddress.ip_network((address, 64), strict=False))


class LimitBody:
    """Answers 413 to a body of more bytes than that, whatever length it announces, and 408 to one that comes slowly.

    It keeps none of it in memory.
    """

    def __init__(self, app: ASGIApp, most: int, seconds: float = READ_SECONDS) -> None:
        self._app, self._most, self._seconds = app, most, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, counting what comes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._most:
            kind = Kind.TOO_LARGE
            await respond(kind, kind.value.meaning, headers=_CLOSE)(scope, receive, send)
            await _drain(receive)
            return
        seen, whole = 0, False
        until = asyncio.get_running_loop().time() + self._seconds

        async def counted() -> Message:
            nonlocal seen, whole
            try:
                async with asyncio.timeout_at(None if whole else until):
                    message = await receive()
            except TimeoutError:
                raise _problem(Kind.TOO_SLOW, _CLOSE) from None
            seen += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if seen > self._most:
                raise _problem(Kind.TOO_LARGE, _CLOSE)
            return message

        await self._app(scope, counted, send)


async def _drain(receive: Receive) -> None:
    """Read on for a moment: closed on a client that still sends, the connection is reset, and the answer lost."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            while (message := await receive())["type"] == "http.request" and message.get("more_body", False):
                pass


def _problem(kind: Kind, headers: Mapping[str, str]) -> ProblemError:
    return ProblemError(kind, kind.value.meaning, headers=headers)


def _retry_after(wait: float) -> Mapping[str, str]:
    return {"retry-after": str(math.ceil(wait))}
