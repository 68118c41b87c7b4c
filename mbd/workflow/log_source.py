"""Where a log's static files come from: a folder, or a server that speaks HTTP. It checks sizes, and nothing else.

Each source has ``fetch(path)``, which gives the file at a path below the log's prefix, or None where there is none.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from certs.tiles import parse_path
from mbd.errors import UnreachableLogError

CHECKPOINT = "checkpoint"
_CHECKPOINT_BYTES = 1 << 17
_SILENT_SECONDS = 15.0
"""How long a server may say nothing."""
_FILE_SECONDS = 120.0
"""How long one file may take, however slowly a server drips it."""
_NOT_THERE = {403, 404, 410}
"""What servers answer for a file that they do not have; object stores say 403 to whoever may not list them."""


class Source(Protocol):
    """A log's files."""

    def fetch(self, path: str) -> bytes | None:
        """The file at a path below the log's prefix, or None where there is none.

        Raises:
            UnreachableLogError: it cannot be had, or it is larger than it may be.
        """


class FolderSource:
    """Files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def fetch(self, path: str) -> bytes | None:
        """See `Source`."""
        limit = _limit(path)
        try:
            with (self._folder / path).open("rb") as file:
                data = file.read(limit + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _unreachable(f"{self._folder / path} cannot be read: {error.strerror}") from error
        return _within(data, limit, path)


class HttpSource:
    """Files below a URL. No redirect is followed: a log's address is part of what its reader was told to trust.

    Args:
        prefix: with its scheme, for example ``https://log.example.org/main``.
    """

    def __init__(self, prefix: str) -> None:
        import httpx  # noqa: PLC0415 - a folder can be read without it

        self._prefix = prefix.rstrip("/")
        self._client = httpx.Client(
            timeout=_SILENT_SECONDS,
            follow_redirects=False,
            headers={"accept-encoding": "gzip, identity", "user-agent": "missing-by-design-monitor"},
        )

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections."""
        self._client.close()

    def fetch(self, path: str) -> bytes | None:
        """See `Source`."""
        import httpx  # noqa: PLC0415 - a folder can be read without it

        limit, url = _limit(path), f"{self._prefix}/{path}"
        deadline = time.monotonic() + _FILE_SECONDS
        data = bytearray()
        try:
            with self._client.stream("GET", url) as response:
                if response.status_code in _NOT_THERE:
                    return None
                if response.has_redirect_location:
                    raise _unreachable(f"{url} redirects to {response.headers['location']!r}, which is not followed")
                if response.status_code != httpx.codes.OK:
                    raise _unreachable(f"{url} answers {response.status_code}")
                for chunk in response.iter_bytes():
                    data += chunk
                    if time.monotonic() > deadline:
                        raise _unreachable(f"{url} takes longer than {_FILE_SECONDS:.0f} seconds")
                    if len(data) > limit:
                        break
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _unreachable(f"{url}: {str(error) or type(error).__name__}") from error
        return _within(bytes(data), limit, url)


@contextmanager
def open_source(place: str) -> Iterator[Source]:
    """The source that a URL or the path of a folder names."""
    if place.startswith(("http://", "https://")):
        with HttpSource(place) as source:
            yield source
    else:
        yield FolderSource(Path(place))


def _limit(path: str) -> int:
    return _CHECKPOINT_BYTES if path == CHECKPOINT else parse_path(path).max_bytes


def _within(data: bytes, limit: int, name: str) -> bytes:
    if len(data) > limit:
        raise _unreachable(f"{name} has more than the {limit} bytes that it can have")
    return data


def _unreachable(message: str) -> UnreachableLogError:
    return UnreachableLogError(f"{message}.", remedy="check the log's address, and try again later")
