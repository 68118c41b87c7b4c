"""What the service needs of a job engine, as a contract; and one in memory that keeps it.

A job's id is the id of the request that it is about, and that is all an engine ever learns of it. It knows no model.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any, Protocol, TypeVar

_T = TypeVar("_T")

MOST_DEATHS = 10
"""A job that so many workers have died over is given up, so that it ends and stops no other."""


class JobState(StrEnum):
    """What becomes of a job."""

    ABSENT = "absent"
    WAITING = "waiting"
    RUNNING = "running"
    """A worker has taken it; perhaps one that is dead by now."""

    ENDED = "ended"
    GIVEN_UP = "given up"
    """Too many workers have died over it."""


class LeavingError(BaseException):
    """Raised within a job by a worker that stops: what its steps returned is kept for whoever takes the job over."""


class RunStep(Protocol):
    """Runs a step, or gives what it returned when it ran before.

    A step that was interrupted runs again, so that it may run several times: it reads first what is done already. What
    it returns is plain JSON.
    """

    def __call__(self, name: str, step: Callable[[], _T], /) -> _T:
        """Names come in the same order whenever the same job is taken up again."""


def at_once(_name: str, step: Callable[[], _T]) -> _T:
    """Run a step here and now, and keep nothing."""
    return step()


Job = Callable[[str, RunStep], None]
"""Carries out the request of an id, step by step. It raises nothing but `LeavingError`: failing is a result."""


class JobEngine(Protocol):
    """Keeps jobs and runs them. What it has accepted is durable when the call returns."""

    def enqueue(self, request_id: str) -> None:
        """See to it that the job will run: once it returns, a job that is not running waits for its turn.

        One that waits or runs already stays as it is; one that has ended runs again, from its first step.
        """

    def cancel(self, request_id: str) -> None:
        """End a job that waits or was given up. One that runs goes on: whether it may is for its first step to say."""

    def states(self, request_ids: Collection[str]) -> Mapping[str, JobState]:
        """What has become of each of these jobs."""

    def owners(self) -> frozenset[str]:
        """The ids of the workers that have taken a job and not ended it."""

    def take_over(self, worker_id: str, *, died: bool) -> tuple[str, ...]:
        """Let the jobs of a worker wait again, for another one; their finished steps stay finished.

        Safe to repeat. A worker that lives after all loses its job: what it still does counts once, because every step
        reads first what is done already, and the engine keeps nothing that it returns.

        Args:
            worker_id: who must not take a job any more.
            died: it did not hand its jobs back, so that they may have been what killed it (`MOST_DEATHS`).

        Returns:
            The ids of these jobs.
        """

    def running(self, worker_id: str, job: Job) -> AbstractContextManager[None]:
        """While the block runs, this process takes one waiting job after another, in the order of their enqueueing.

        It is left when no job runs any more in this process: the worker sees to that, by `LeavingError`.
        """


@dataclass
class _Entry:
    state: JobState = JobState.WAITING
    owner: str | None = None
    deaths: int = 0
    returned: dict[str, Any] = field(default_factory=dict)


class MemoryJobs:
    """A `JobEngine` in the memory of one process, for tests and for reading: it is durable as long as that lives."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, _Entry] = OrderedDict()
        self._changed = threading.Condition()

    def enqueue(self, request_id: str) -> None:
        """See `JobEngine`."""
        with self._changed:
            entry = self._jobs.get(request_id)
            if entry is None or entry.state in (JobState.ENDED, JobState.GIVEN_UP):
                self._jobs[request_id] = _Entry()
                self._jobs.move_to_end(request_id)
                self._changed.notify_all()

    def cancel(self, request_id: str) -> None:
        """See `JobEngine`."""
        with self._changed:
            entry = self._jobs.get(request_id)
            if entry is not None and entry.state in (JobState.WAITING, JobState.GIVEN_UP):
                entry.state = JobState.ENDED

    def states(self, request_ids: Collection[str]) -> Mapping[str, JobState]:
        """See `JobEngine`."""
        with self._changed:
            return {each: self._jobs[each].state if each in self._jobs else JobState.ABSENT for each in request_ids}

    def owners(self) -> frozenset[str]:
        """See `JobEngine`."""
        with self._changed:
            return frozenset(entry.owner for entry in self._jobs.values() if entry.owner is not None)

    def take_over(self, worker_id: str, *, died: bool) -> tuple[str, ...]:
        """See `JobEngine`."""
        with self._changed:
            theirs = {each: entry for each, entry in self._jobs.items() if entry.owner == worker_id}
            for entry in theirs.values():
                entry.owner, entry.deaths = None, entry.deaths + died
                entry.state = JobState.GIVEN_UP if entry.deaths >= MOST_DEATHS else JobState.WAITING
            self._changed.notify_all()
        return tuple(theirs)

    @contextmanager
    def running(self, worker_id: str, job: Job) -> Iterator[None]:
        """See `JobEngine`."""
        stopping = threading.Event()
        thread = threading.Thread(target=self._work, args=(worker_id, job, stopping), name=f"jobs of {worker_id}")
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            with self._changed:
                self._changed.notify_all()
            thread.join()

    def _work(self, worker_id: str, job: Job, stopping: threading.Event) -> None:
        while (taken := self._take(worker_id, stopping)) is not None:
            request_id, entry = taken
            try:
                job(request_id, partial(self._run, worker_id, entry))
            except LeavingError:
                continue
            with self._changed:
                if entry.owner == worker_id:
                    entry.state, entry.owner = JobState.ENDED, None

    def _take(self, worker_id: str, stopping: threading.Event) -> tuple[str, _Entry] | None:
        with self._changed:
            while not stopping.is_set():
                for request_id, entry in self._jobs.items():
                    if entry.state is JobState.WAITING:
                        entry.state, entry.owner = JobState.RUNNING, worker_id
                        return request_id, entry
                self._changed.wait()
        return None

    def _run(self, worker_id: str, entry: _Entry, name: str, step: Callable[[], _T]) -> _T:
        with self._changed:
            if name in entry.returned:
                kept: _T = entry.returned[name]
                return kept
        returned = step()
        with self._changed:
            if entry.owner != worker_id:
                raise LeavingError
            entry.returned[name] = returned
        return returned
