"""A worker: takes jobs, carries requests out step by step, gives signs of life, and looks after the outbox.

It may be killed at any moment: the next one goes on with the step at which it was. It stops between two steps.
"""

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import NoReturn, TypeVar

from mbd.errors import SettingsError
from mbd.records import requests, workers
from mbd.records.database import begin_locked, begin_snapshot, is_unreachable
from mbd.telemetry.logs import logger
from mbd.workflow.jobs.engine import JobEngine, LeavingError, RunStep
from mbd.workflow.jobs.outbox import Reaper, sweep, try_again
from mbd.workflow.steps import READY, Work
from mbd.workflow.system import System

_T = TypeVar("_T")

_ROUND_SECONDS = 0.5
_BEATS_IN_A_SILENCE = 4
_GRACE_SECONDS = 20  # until the next moment at which a step can be left; container platforms kill after 30
_log = logger("mbd.worker")


class Worker:
    """One worker process.

    Attributes:
        id: new with each start.
        stopping: set by whoever wants it to end.
    """

    def __init__(self, system: System, jobs: JobEngine, worker_id: str, stopping: threading.Event) -> None:
        self.id = worker_id
        self.stopping = stopping
        self._system = system
        self._jobs = jobs
        self._fatal: Exception | None = None
        self._at_work = 0
        self._changed = threading.Condition()
        self._seen: float | None = None

    def run(self, on_ready: Callable[[], None] = lambda: None) -> bool:
        """Work until `stopping` is set.

        Returns:
            Whether a job has come to a place where it can be left. If not, end the process at once: the job is then
            taken over like that of a worker which died.

        Raises:
            SettingsError: on SQLite another worker runs.
            Exception: what stopped a job and is no request's fault: a restored backup, a missing folder.
        """
        settings = self._system.settings
        alone = self._system.engine.dialect.name == "sqlite"
        reaper = Reaper(self.id, silence=settings.worker_silence, seconds=time.monotonic)
        with _only_worker(self._system.home) if alone else nullcontext():
            self._beat()
            with self._jobs.running(self.id, self._job):
                for dead in self._jobs.owners() - {self.id} if alone else ():
                    self._jobs.take_over(dead, died=True)
                on_ready()
                _log.info("ready")
                while not self.stopping.wait(_ROUND_SECONDS):
                    self._look_after(reaper)
                with self._changed:
                    left = self._changed.wait_for(lambda: self._at_work == 0, timeout=_GRACE_SECONDS)
            if not left:
                return False
            self._hand_back()
        if self._fatal is not None:
            raise self._fatal
        return True

    def _look_after(self, reaper: Reaper) -> None:
        """One round: a sign of life, the outbox, the dead. A database that is away is asked again in the next."""
        engine, clock = self._system.engine, self._system.clock
        try:
            self._beat()
            try_again(engine, clock)
            sweep(engine, self._jobs, clock)
            reaper.reap(engine, self._jobs, clock)
        except Exception as error:  # noqa: BLE001 - the job that runs meanwhile is left in order, and then it is raised
            if is_unreachable(error):
                _log.warning("the database is away", error=error)
                return
            self._fatal = error
            self.stopping.set()

    def _beat(self) -> None:
        now = time.monotonic()
        if self._seen is None or now - self._seen >= self._system.settings.worker_silence / _BEATS_IN_A_SILENCE:
            with begin_locked(self._system.engine) as connection:
                workers.beat(connection, self.id, at=self._system.clock())
            self._seen = now

    def _hand_back(self) -> None:
        self._jobs.take_over(self.id, died=self._fatal is not None)
        with begin_locked(self._system.engine) as connection:
            workers.stop(connection, self.id, at=self._system.clock())

    def _job(self, request_id: str, run_step: RunStep) -> None:
        """Carry out a request, and with it all others that wait: each model line is solved once for all of them."""
        with self._changed:
            self._at_work += 1
        try:
            if self._patiently(self._anything_waits):
                _log.info("begins", revocation=request_id)
                with self._exclusive():
                    system = self._patiently(self._system.with_current_keys)
                    work = Work(system, READY, self._on_step)
                    work.carry_out(lambda name, step: run_step(name, lambda: self._patiently(step)))
                _tell(work)
        finally:
            with self._changed:
                self._at_work -= 1
                self._changed.notify_all()

    def _anything_waits(self) -> bool:
        with begin_snapshot(self._system.engine) as connection:
            return bool(requests.in_states(connection, READY))

    def _patiently(self, step: Callable[[], _T]) -> _T:
        """Take a step; again while the database is away. No error gets out: an engine would keep its words."""
        while True:
            self._leave_if_stopping()
            try:
                return step()
            except Exception as error:  # noqa: BLE001 - whatever it is, its words stay here
                if not is_unreachable(error):
                    self._stop_because(error)
                _log.warning("the database is away", error=error)
            self.stopping.wait(_ROUND_SECONDS)

    def _stop_because(self, error: Exception) -> NoReturn:
        self._fatal = error
        self.stopping.set()
        raise LeavingError from None

    def _on_step(self, step: str) -> None:
        self._leave_if_stopping()
        _log.debug("next", step=step)

    def _leave_if_stopping(self) -> None:
        if self.stopping.is_set():
            raise LeavingError

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """The deployment to oneself, as soon as whoever has it now lets go: a command, or another worker."""
        with ExitStack() as held:
            while True:
                self._leave_if_stopping()
                try:
                    held.enter_context(self._system.exclusive())
                    break
                except SettingsError:
                    self.stopping.wait(_ROUND_SECONDS)
                except OSError as error:
                    self._stop_because(error)
            yield


def _tell(work: Work) -> None:
    for request, error in work.errors.items():
        _log.error("failed", revocation=request, error=error)
    if work.leaks is not None and work.leaks.verdict == "broken":
        _log.critical("withdrawn values are still in the deployment")


@contextmanager
def _only_worker(home: Path) -> Iterator[None]:
    """A lock that ends with the process, however it ends."""
    descriptor = os.open(home / "worker.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(
                f"Another worker serves {home}, and on SQLite there is one.",
                remedy="let it work, or stop it first; for several workers use PostgreSQL (MBD_DATABASE_URL)",
            ) from None
        yield
    finally:
        os.close(descriptor)
