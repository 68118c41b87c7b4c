"""Asks a deployment's predictor over its Unix socket. It loads no science and keeps nothing of what it asks."""

import socket
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import BoundedSemaphore
from typing import NoReturn

from pydantic import TypeAdapter, ValidationError

from mbd.errors import PredictionError, PredictorError
from mbd.settings import Settings
from mbd.telemetry.logs import logger
from mbd.workflow.predicting.exchange import Answer, Question, Refusal, socket_of

_AT_ONCE = 8  # no more threads of a service than that wait for a predictor that is stuck
_QUEUE_SECONDS = 5
_SILENT_SECONDS = 10
_START = "start `mbd predictor`"
_RETRY = "ask again in a few seconds; if that does not help, the log of `mbd predictor` says why"
_REPLY: TypeAdapter[Answer | Refusal] = TypeAdapter(Answer | Refusal)
_log = logger("mbd.predicting")


class PredictorClient:
    """The way to a predictor, which need not be there yet. Threads may share it."""

    def __init__(self, settings: Settings) -> None:
        self._place = socket_of(settings)
        self._free = BoundedSemaphore(_AT_ONCE)

    def ask(self, question: Question) -> Answer:
        """The predictor's answer.

        Raises:
            PredictionError: the line cannot answer for these clips.
            PredictorError: no predictor is there, or it cannot answer now.
        """
        if not self._free.acquire(timeout=_QUEUE_SECONDS):
            _unable("The predictor has too much to do.", _RETRY)
        try:
            reply = _REPLY.validate_json(_post(self._place, question.model_dump_json(exclude_none=True).encode()))
        except (FileNotFoundError, ConnectionRefusedError) as error:
            _unable("No predictor is running.", _START, error)
        except (OSError, HTTPException, ValidationError) as error:
            _unable("The predictor does not answer now.", _RETRY, error)
        finally:
            self._free.release()
        if isinstance(reply, Refusal):
            raise PredictionError(reply.message, remedy=reply.remedy)
        return reply


class _Connection(HTTPConnection):
    """One to a Unix socket; the one of httpx leaves a socket open when nobody listens."""

    def __init__(self, place: Path) -> None:
        super().__init__("predictor", timeout=_SILENT_SECONDS)
        self._place = place

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_SILENT_SECONDS)
        self.sock.connect(str(self._place))


def _post(place: Path, body: bytes) -> bytes:
    with closing(_Connection(place)) as connection:
        connection.request("POST", "/", body, {"content-type": "application/json"})
        response = connection.getresponse()
        if response.status != HTTPStatus.OK:
            raise HTTPException("no answer")
        return response.read()


def _unable(message: str, remedy: str, error: Exception | None = None) -> NoReturn:
    _log.warning("the predictor gives no answer", error=error)
    raise PredictorError(message, remedy=remedy) from None
