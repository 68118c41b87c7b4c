"""Tells how far the work on a batch of requests is: which step, what share of the whole, and a guess at its end.

It knows the order of the steps and a rough share of each; it measures nothing, and the work does not depend on it.
"""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy.exc import DBAPIError

from mbd.errors import RecordsError
from mbd.records import progress
from mbd.records.database import begin_locked
from mbd.records.progress import Progress
from mbd.workflow.office import Office

_LINES = 0.9  # of the whole, all model lines together
_WITHIN_A_LINE = {
    "deleting": (0.0, 0.7),
    "training again": (0.0, 0.7),
    "attacking the deletion": (0.7, 0.1),
    "writing the new version": (0.8, 0.1),
    "signing and logging": (0.9, 0.1),
}
_AFTER_THE_LINES = {"publishing the certificate": (0.9, 0.09), "destroying the retired version": (0.99, 0.01)}
_LEAST = 0.05  # below it a guess at the end says nothing


class Reporter:
    """Writes progress down for all requests of a batch, at most once a second for each step."""

    def __init__(self, office: Office, revocation_ids: Collection[str], lines: Collection[str]) -> None:
        self._office = office
        self._ids = tuple(revocation_ids)
        self._lines = tuple(lines)
        self._line: str | None = None
        self._fraction = 0.0
        self._started = office.clock()
        self._said: tuple[str, datetime] | None = None

    def begin_line(self, line: str | None) -> None:
        """What is told from now on is about a model line; None: about all of them."""
        self._line = line

    def __call__(self, step: str, done: float = 0.0, /) -> None:
        """Write it down. Where the database is away, nothing is written, and the work finds that out by itself."""
        now = self._office.clock()
        words = step if self._line is None else f"{self._line}: {step}"
        self._fraction = max(self._fraction, min(1.0, self._share(step, done)))
        if self._ids and self._said != (words, now):
            self._said = (words, now)
            entry = Progress(words, self._fraction, self._started, now, self._guess(now))
            try:
                with begin_locked(self._office.engine) as connection:
                    progress.put(connection, self._ids, entry)
            except (DBAPIError, RecordsError):
                return

    def _share(self, step: str, done: float) -> float:
        kind = step.partition(",")[0]
        if self._line is None:
            start, length = _AFTER_THE_LINES.get(kind, (0.0, 0.0))
            return start + length * done
        start, length = _WITHIN_A_LINE.get(kind, (0.0, 0.0))
        return _LINES * (self._lines.index(self._line) + start + length * done) / len(self._lines)

    def _guess(self, now: datetime) -> datetime | None:
        if self._fraction < _LEAST or now <= self._started:
            return None
        return (self._started + (now - self._started) / self._fraction).replace(microsecond=0)
