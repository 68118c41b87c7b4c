"""A predictor's socket: HTTP/1.1 and JSON over AF_UNIX, for this user alone. It loads no science itself.

One question a connection, a few at a time; who comes then waits in the kernel's queue. Nothing of a question is logged.
"""

import fcntl
import os
import socket
import socketserver
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import BoundedSemaphore, Thread

from pydantic import ValidationError

from mbd.errors import PredictionError, SettingsError
from mbd.telemetry.logs import logger
from mbd.workflow.predicting.exchange import Answer, Question, Refusal

AnswerTo = Callable[[Question], Answer]
"""Answers a question; raises `PredictionError` where the asker has to mend it."""

_AT_ONCE = 4
_MOST_BYTES = 8 * 2**20  # the API takes a mebibyte, and its numbers may come longer than they were sent
_SILENT_SECONDS = 10
_log = logger("mbd.predicting")


@contextmanager
def only_one(place: Path) -> Iterator[None]:
    """Be the only predictor of this socket; the lock beside it ends with the process, however it ends.

    Raises:
        SettingsError: there is another one.
    """
    descriptor = os.open(place.with_name(f"{place.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(
                f"Another predictor listens on {place}.", remedy="let it work, or stop it first"
            ) from None
        yield
    finally:
        os.close(descriptor)


@contextmanager
def answering(answer_to: AnswerTo, place: Path) -> Iterator[None]:
    """Answer on a socket of mode 0600 until the block ends, then finish what has begun.

    Whoever calls is `only_one`, so a socket that is there is what a killed predictor left, and is replaced.

    Raises:
        SettingsError: the path is too long for a socket, or something else is there.
    """
    try:
        if place.exists() and not stat.S_ISSOCK(place.lstat().st_mode):
            raise SettingsError(f"{place} is no socket.", remedy="move it away, or set MBD_PREDICTOR_SOCKET")
        place.unlink(missing_ok=True)
        server = _Server(str(place), answer_to)
    except OSError as error:
        remedy = "set MBD_PREDICTOR_SOCKET to a shorter path (107 bytes at most) in a folder that you may write to"
        raise SettingsError(f"{place} cannot be listened on: {error}.", remedy=remedy) from None
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        place.unlink(missing_ok=True)


class _Server(socketserver.UnixStreamServer):
    request_queue_size = 64

    def __init__(self, place: str, answer_to: AnswerTo) -> None:
        self.answer_to = answer_to
        self._free = BoundedSemaphore(_AT_ONCE)
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="predictor")
        super().__init__(place, _Handler)

    def server_bind(self) -> None:
        before = os.umask(0o177)  # 0600 from the first moment
        try:
            super().server_bind()
        finally:
            os.umask(before)

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        self._free.acquire()  # until one is done, nobody else is let in
        self._threads.submit(self._process, request, client_address)

    def _process(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        try:
            self.finish_request(request, client_address)
        except OSError as error:  # it has gone, or was silent for too long
            _log.debug("an asker has gone", error=error)
        finally:
            self.shutdown_request(request)
            self._free.release()

    def server_close(self) -> None:
        super().server_close()
        self._threads.shutdown()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _SILENT_SECONDS
    server: _Server

    def do_POST(self) -> None:
        """Answer a question."""
        length = self.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > _MOST_BYTES:
            self.send_error(HTTPStatus.BAD_REQUEST)
            return
        reply = self._reply_to(self.rfile.read(int(length)))
        if isinstance(reply, HTTPStatus):
            self.send_error(reply)
            return
        body = reply.model_dump_json().encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _reply_to(self, asked: bytes) -> Answer | Refusal | HTTPStatus:
        try:
            return self.server.answer_to(Question.model_validate_json(asked))
        except ValidationError:
            return HTTPStatus.BAD_REQUEST
        except PredictionError as error:
            return Refusal(message=error.message, remedy=error.remedy)
        except Exception as error:  # noqa: BLE001 - whatever it is, its words stay here
            _log.error("a question was not answered", error=error)
            return HTTPStatus.SERVICE_UNAVAILABLE

    def log_message(self, *_words: object) -> None:
        """Say nothing: lines of requests are not for logs."""
