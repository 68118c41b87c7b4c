"""One POST to addresses that were judged before: no name is resolved here, and no proxy or redirect is followed.

httpcore and not httpx, because what matters is below a client: where the socket goes, how long all of it takes, and how
much is read. The name stays what it was in TLS (SNI and certificate) and in the Host header.
"""

import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import httpcore

from mbd.workflow.callbacks.addresses import Address
from mbd.workflow.callbacks.formats import Message
from mbd.workflow.callbacks.policy import Target

CONNECT_SECONDS = 3.0
SECONDS = 10.0
LARGEST_ANSWER = 1 << 16

_MOST_ADDRESSES = 4


class CertificateRefusedError(httpcore.ConnectError):
    """The receiver's certificate is not valid."""


@dataclass(frozen=True)
class Answer:
    """What the receiver said: its status, and its Retry-After header. The body is not read."""

    status: int
    retry_after: str | None


def post(
    target: Target, addresses: tuple[Address, ...], message: Message, *, tls: ssl.SSLContext, seconds: float
) -> Answer:
    """Send a message.

    Args:
        target: where to.
        addresses: of its host, tried in order until one can be connected to.
        message: what.
        tls: which authorities are trusted.
        seconds: how long all of it may take.

    Raises:
        httpcore.TimeoutException: it took too long.
        CertificateRefusedError: the certificate is not valid for the name, or of nobody who is trusted.
        httpcore.NetworkError: no address could be connected to, or the connection broke.
        httpcore.ProtocolError: what came back is not HTTP.
    """
    limits = _Limits(time.monotonic() + seconds, LARGEST_ANSWER)
    url = httpcore.URL(scheme=target.scheme, host=target.authority, port=target.port, target=target.path)
    with (
        httpcore.ConnectionPool(ssl_context=tls, network_backend=_Pinned(addresses, limits)) as pool,
        pool.stream(
            "POST",
            url,
            headers=[("user-agent", "missing-by-design"), *message.headers.items()],
            content=message.body,
            extensions={"sni_hostname": target.host},
        ) as response,
    ):
        waits = (value for name, value in response.headers if name.lower() == b"retry-after")
        return Answer(response.status, next((value.decode("latin-1") for value in waits), None))


@dataclass
class _Limits:
    """What is left of the time and of the bytes for one answer."""

    deadline: float
    bytes_left: int

    def seconds(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("all of it took too long")
        return left


class _Pinned(httpcore.NetworkBackend):
    """Connects to given addresses, whatever the host's name."""

    def __init__(self, addresses: tuple[Address, ...], limits: _Limits) -> None:
        self._addresses = addresses[:_MOST_ADDRESSES]
        self._limits = limits

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """To the first address that accepts."""
        problem: Exception = httpcore.ConnectError("there is no address")
        for address in self._addresses:
            seconds = min(CONNECT_SECONDS, self._limits.seconds())
            try:
                stream = httpcore.SyncBackend().connect_tcp(str(address), port, seconds, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                problem = error
            else:
                return _Bounded(stream, self._limits)
        raise problem


class _Bounded(httpcore.NetworkStream):
    """A stream that ends when the time or the bytes do, however slowly or much is sent."""

    def __init__(self, stream: httpcore.NetworkStream, limits: _Limits) -> None:
        self._stream = stream
        self._limits = limits

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._limits.bytes_left == 0:
            raise httpcore.RemoteProtocolError("the answer's head has no end")
        data = self._stream.read(min(max_bytes, self._limits.bytes_left), self._limits.seconds())
        self._limits.bytes_left -= len(data)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._limits.seconds())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        try:
            stream = self._stream.start_tls(ssl_context, server_hostname, self._limits.seconds())
        except httpcore.ConnectError as error:
            if isinstance(error.__cause__, ssl.SSLCertVerificationError):
                raise CertificateRefusedError from error
            raise
        return _Bounded(stream, self._limits)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
