"""The job engine in production: DBOS, in a SQLite file of its own or in the schema ``dbos`` of the same PostgreSQL.

It knows ids of requests and names of steps alone, and sends nothing anywhere.
"""

import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Self, TypeVar

from dbos import DBOS, DBOSClient, DBOSConfig, DBOSPortableJSONSerializer, WorkflowStatus, error
from sqlalchemy import make_url

from mbd.settings import Settings
from mbd.workflow.jobs.engine import MOST_DEATHS, Job, JobState, LeavingError

_T = TypeVar("_T")

_APPLICATION = "mbd"
_VERSION = "1"
"""Pinned: by itself DBOS hashes the source, and an upgrade of ours would strand every job that waits."""

_QUEUE = "revocations"
_WORKFLOW = "carry_out"
_POLL_SECONDS = 0.25
_MOST_AT_ONCE = 500  # ids in one query
_DEATHS = "deaths"
_WAITING = ("ENQUEUED", "DELAYED")
_RUNNING = "PENDING"
_CANCELLED = "CANCELLED"


class DbosJobs:
    """A `JobEngine` on DBOS. One process has at most one that is `running`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._made: DBOSClient | None = None

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Let go of the database."""
        if self._made is not None:
            self._made.destroy()
            self._made = None

    def enqueue(self, request_id: str) -> None:
        """See `JobEngine`. Crash point: each call is one transaction of DBOS, so it is done or not."""
        match self.states([request_id])[request_id]:
            case JobState.ABSENT:
                self._client.enqueue(
                    {
                        "workflow_name": _WORKFLOW,
                        "queue_name": _QUEUE,
                        "workflow_id": request_id,  # a second one of the same id is the first
                        "app_version": _VERSION,
                    },
                    request_id,
                )
            case JobState.ENDED | JobState.GIVEN_UP:
                self._client.update_workflow_attributes(request_id, None)
                try:
                    self._client.rewind_workflow(request_id, queue_name=_QUEUE, application_version=_VERSION)
                except error.DBOSException:  # somebody else was quicker, and it waits or runs
                    if self.states([request_id])[request_id] not in (JobState.WAITING, JobState.RUNNING):
                        raise

    def cancel(self, request_id: str) -> None:
        """See `JobEngine`."""
        match self.states([request_id])[request_id]:
            case JobState.WAITING:
                self._client.cancel_workflow(request_id)
            case JobState.GIVEN_UP:
                self._client.update_workflow_attributes(request_id, None)

    def states(self, request_ids: Collection[str]) -> Mapping[str, JobState]:
        """See `JobEngine`."""
        found = dict.fromkeys(request_ids, JobState.ABSENT)
        wanted = list(found)
        for start in range(0, len(wanted), _MOST_AT_ONCE):
            some = self._list(workflow_ids=wanted[start : start + _MOST_AT_ONCE])
            found |= {each.workflow_id: _state(each) for each in some}
        return found

    def owners(self) -> frozenset[str]:
        """See `JobEngine`."""
        return frozenset(each.executor_id for each in self._list(status=_RUNNING) if each.executor_id)

    def take_over(self, worker_id: str, *, died: bool) -> tuple[str, ...]:
        """See `JobEngine`. Crash point: between two jobs, the rest is taken over by whoever calls next."""
        taken = self._list(status=_RUNNING, executor_id=worker_id)
        for each in taken:
            deaths = (each.attributes or {}).get(_DEATHS, 0) + died
            self._client.update_workflow_attributes(each.workflow_id, {_DEATHS: deaths})
            if deaths >= MOST_DEATHS:
                self._client.cancel_workflow(each.workflow_id)
            else:
                self._client.resume_workflow(each.workflow_id, queue_name=_QUEUE)
        return tuple(each.workflow_id for each in taken)

    @contextmanager
    def running(self, worker_id: str, job: Job) -> Iterator[None]:
        """See `JobEngine`. Makes or upgrades DBOS' tables, for which its role needs the right."""
        _speak_through_our_log()
        DBOS(config=self._configuration(worker_id))
        DBOS.workflow(name=_WORKFLOW)(lambda request_id: job(request_id, _run_step))
        try:
            DBOS.launch()
            DBOS.register_queue(_QUEUE, worker_concurrency=1, polling_interval_sec=_POLL_SECONDS)
            yield
        finally:
            DBOS.destroy(destroy_registry=True)

    def _configuration(self, worker_id: str) -> DBOSConfig:
        return {
            "name": _APPLICATION,
            "system_database_url": self._url(),
            "sys_db_pool_size": 5,
            "application_version": _VERSION,
            "executor_id": worker_id,
            "serializer": DBOSPortableJSONSerializer(),
            "log_level": "WARNING",
            "use_listen_notify": False,  # nobody waits for messages, and a lost listener is one thing less to mend
        }

    @property
    def _client(self) -> DBOSClient:
        if self._made is None:
            self._made = DBOSClient(
                system_database_url=self._url(),
                system_database_pool_size=2,
                serializer=DBOSPortableJSONSerializer(),
                application_name=_APPLICATION,
                retry_connection_errors=False,  # its caller comes again, and has a sign of life to give meanwhile
            )
        return self._made

    def _list(
        self, *, workflow_ids: list[str] | None = None, status: str | None = None, executor_id: str | None = None
    ) -> list[WorkflowStatus]:
        return self._client.list_workflows(
            workflow_ids=workflow_ids,
            status=status,
            executor_id=executor_id,
            name=_WORKFLOW,
            load_input=False,
            load_output=False,
        )

    def _url(self) -> str:
        location = make_url(self._settings.database)
        if location.get_backend_name() != "sqlite":
            return location.set(drivername="postgresql").render_as_string(hide_password=False)
        path = self._settings.state / "jobs.sqlite3"
        os.close(os.open(path, os.O_CREAT, 0o600))  # before SQLite makes it readable for others
        return f"sqlite:///{path}"


def _run_step(name: str, step: Callable[[], _T]) -> _T:
    """A step raises nothing but `LeavingError`, which DBOS lets pass; an error it would keep, with its words."""
    try:
        return DBOS.run_step({"name": name}, step)
    except (error.DBOSWorkflowConflictIDError, error.DBOSWorkflowCancelledError):
        raise LeavingError from None  # another worker has the job now


def _state(found: WorkflowStatus) -> JobState:
    if found.status in _WAITING:
        return JobState.WAITING
    if found.status == _RUNNING:
        return JobState.RUNNING
    given_up = found.status == _CANCELLED and (found.attributes or {}).get(_DEATHS, 0) >= MOST_DEATHS
    return JobState.GIVEN_UP if given_up else JobState.ENDED


def _speak_through_our_log() -> None:
    """DBOS adds a handler of its own to its logger, unless there is one."""
    logging.getLogger("dbos").addHandler(logging.NullHandler())
