"""Approved requests get jobs, dead workers' jobs go to living ones, and what failed for an outage is tried again.

An approval is committed in the records and nowhere else, so that nothing can be lost between two databases; what is
done here may be done by several workers at once, and again. It knows no model.
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from sqlalchemy import Engine

from mbd.errors import TimeStampError, WitnessError
from mbd.records import requests, workers
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.lifecycle import Action, State
from mbd.records.requests import WORKER
from mbd.records.workers import Worker
from mbd.telemetry.logs import logger
from mbd.workflow.jobs.engine import JobEngine, JobState

GIVEN_UP = "WorkersDied"
"""The reason of a request that failed because one worker after another died over it."""

_OUTAGES = (TimeStampError.__name__, WitnessError.__name__)
"""Reasons that pass by themselves: somebody outside could not be reached, and nothing here is wrong."""

_FIRST_WAIT, _LONGEST_WAIT = timedelta(minutes=1), timedelta(hours=6)
_MOST_AT_ONCE = 100  # the first job to run takes all other requests along: those behind it may need none by then
_FORGOTTEN_AFTER = timedelta(days=7)
_log = logger("mbd.jobs")


def sweep(engine: Engine, jobs: JobEngine, clock: Callable[[], datetime]) -> None:
    """Enqueue a job for every request that waits for work and has none; fail one whose job was given up.

    Crash point: whatever was not enqueued is found by the next sweep. Between a failure and the end of its job, the
    request's next try fails at once, and the one after that does not.
    """
    with begin_snapshot(engine) as connection:
        waiting = [each.id for each in requests.in_states(connection, {State.APPROVED, State.IN_PROGRESS})]
    states = jobs.states(waiting)
    for request in [each for each in waiting if states[each] is JobState.GIVEN_UP]:
        with begin_locked(engine) as connection:
            if requests.get(connection, request).state in (State.APPROVED, State.IN_PROGRESS):
                requests.act(connection, request, Action.FAIL, by=WORKER, at=clock(), reason=GIVEN_UP)
        jobs.cancel(request)
        _log.error("given up", revocation=request)
    for request in [each for each in waiting if states[each] in (JobState.ABSENT, JobState.ENDED)][:_MOST_AT_ONCE]:
        jobs.enqueue(request)


def try_again(engine: Engine, clock: Callable[[], datetime]) -> None:
    """Let what failed for want of a time stamp or a witness be tried again: after a minute, then after twice as long.

    Its certificates are signed and logged; what is tried again is to complete them.
    """
    now = clock()
    with begin_snapshot(engine) as connection:
        due = [each for each in requests.failed_for(connection, _OUTAGES) if each.at + _wait(each.times) <= now]
    if not due:
        return
    with begin_locked(engine) as connection:
        for failure in due:
            if requests.get(connection, failure.request_id).state is State.FAILED:  # nobody was quicker
                requests.act(connection, failure.request_id, Action.RETRY, by=WORKER, at=now)
                _log.info("tried again", revocation=failure.request_id)


def _wait(times: int) -> timedelta:
    return min(_FIRST_WAIT * (1 << min(times - 1, 10)), _LONGEST_WAIT)


class Reaper:
    """Finds workers that are dead: they said so, or have given no new sign of life for a while.

    How long is measured by this process's own clock, so that the clocks of other machines do not matter.
    """

    def __init__(self, worker_id: str, *, silence: float, seconds: Callable[[], float]) -> None:
        """Remember nobody yet.

        Args:
            worker_id: of this process, which lives.
            silence: after so many seconds without a sign of life a worker is taken for dead.
            seconds: a clock that only goes forward.
        """
        self._own = worker_id
        self._silence = silence
        self._seconds = seconds
        self._last: dict[str, tuple[datetime, float]] = {}

    def reap(self, engine: Engine, jobs: JobEngine, clock: Callable[[], datetime]) -> None:
        """Let the jobs of dead workers wait again.

        The lock keeps a second reaper from taking a job away from the worker to which the first one gave it. Crash
        point: a dead worker whose jobs were taken over is still remembered; the next call finds no job of its.
        """
        with begin_snapshot(engine) as connection:
            dead = self.dead(workers.known(connection), jobs.owners())
        for worker_id in sorted(dead):
            with begin_locked(engine) as connection:
                for request in jobs.take_over(worker_id, died=True):
                    _log.warning("taken over from a worker that is silent", revocation=request)
                workers.stop(connection, worker_id, at=clock())
                workers.forget(connection, stopped_before=clock() - _FORGOTTEN_AFTER)

    def dead(self, known: Iterable[Worker], owners: Iterable[str]) -> set[str]:
        """Those that have jobs, and are dead."""
        by_id = {worker.id: worker for worker in known}
        now = self._seconds()
        dead = set()
        for owner in set(owners) - {self._own}:
            worker = by_id.get(owner)
            if worker is None or worker.stopped_at is not None:
                dead.add(owner)
                continue
            seen_at, since = self._last.get(owner, (None, now))
            if seen_at != worker.seen_at:
                since = now
            self._last[owner] = (worker.seen_at, since)
            if now - since >= self._silence:
                dead.add(owner)
        return dead
