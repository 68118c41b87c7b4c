"""The contract of `JobEngine`, kept by the one in memory and by DBOS on both databases."""

import threading
import uuid
from contextlib import nullcontext

import pytest
from pydantic import SecretStr

from mbd.settings import Settings
from mbd.workflow.jobs.dbos_engine import DbosJobs
from mbd.workflow.jobs.engine import MOST_DEATHS, JobState, LeavingError, MemoryJobs

SECONDS = 20


@pytest.fixture(scope="module", params=["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def jobs(request, tmp_path_factory):
    """One engine for all tests, because the first worker makes its tables; each test has jobs of its own."""
    home = tmp_path_factory.mktemp("engine")
    if request.param == "memory":
        opened = nullcontext(MemoryJobs())
    elif request.param == "sqlite":
        opened = DbosJobs(Settings(home=home))
    else:
        (url,) = request.getfixturevalue("new_postgres_urls")(1)
        opened = DbosJobs(Settings(home=home, database_url=SecretStr(url)))
    with opened as engine:
        with engine.running("first", lambda request, run_step: None):
            pass
        yield engine


@pytest.fixture
def ids():
    """Three new ids."""
    return [f"rev-{uuid.uuid4().hex}" for _ in range(3)]


class Log:
    """Remembers what ran, and lets a test wait for it."""

    def __init__(self):
        self.ran = []
        self._changed = threading.Condition()

    def add(self, what):
        with self._changed:
            self.ran.append(what)
            self._changed.notify_all()

    def wait_for(self, n):
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.ran) >= n, SECONDS), self.ran


def wait_until_ended(jobs, *ids):
    for _ in range(SECONDS * 20):
        if all(state is JobState.ENDED for state in jobs.states(ids).values()):
            return
        threading.Event().wait(0.05)
    raise AssertionError(jobs.states(ids))


def test_a_job_runs_once_however_often_it_is_enqueued_and_again_when_it_has_ended(jobs, ids):
    log, (one, two, three) = Log(), ids
    for request in (one, one, two):
        jobs.enqueue(request)
    assert jobs.states(ids) == {one: JobState.WAITING, two: JobState.WAITING, three: JobState.ABSENT}
    with jobs.running("w-1", lambda request, run_step: run_step("note", lambda: log.add(request))):
        wait_until_ended(jobs, one, two)
        assert log.ran == [one, two]
        jobs.enqueue(one)
        log.wait_for(3)
        wait_until_ended(jobs, one)
    assert log.ran == [one, two, one]
    assert jobs.owners() == frozenset()


def test_a_cancelled_job_does_not_run_until_it_is_enqueued_again(jobs, ids):
    log, (one, two, never) = Log(), ids
    jobs.enqueue(one)
    jobs.cancel(one)
    jobs.cancel(never)
    jobs.enqueue(two)
    with jobs.running("w-1", lambda request, run_step: log.add(request)):
        wait_until_ended(jobs, one, two)
        assert log.ran == [two]
        jobs.enqueue(one)
        log.wait_for(2)
        wait_until_ended(jobs, one)
    assert log.ran == [two, one]


def test_who_takes_a_job_over_goes_on_at_the_step_at_which_it_was_left(jobs, ids):
    log, (one, *_) = Log(), ids

    def step(name, leaves):
        log.add(name)
        if leaves:
            raise LeavingError
        return {"from": name}

    def leaving(request, run_step):
        assert run_step("one", lambda: step("one", False)) == {"from": "one"}
        run_step("two", lambda: step("two", True))

    def finishing(request, run_step):
        assert run_step("one", lambda: step("one", False)) == {"from": "one"}
        assert run_step("two", lambda: step("two", False)) == {"from": "two"}

    jobs.enqueue(one)
    with jobs.running("w-1", leaving):
        log.wait_for(2)
    assert jobs.states([one]) == {one: JobState.RUNNING}
    assert jobs.owners() == {"w-1"}
    assert jobs.take_over("somebody else", died=True) == ()
    assert jobs.take_over("w-1", died=False) == (one,)
    assert (jobs.states([one]), jobs.owners()) == ({one: JobState.WAITING}, frozenset())
    with jobs.running("w-2", finishing):
        wait_until_ended(jobs, one)
    assert log.ran == ["one", "two", "two"]


def test_a_worker_that_lost_its_job_adds_nothing_to_it(jobs, ids):
    log, taken_over, (one, *_) = Log(), threading.Event(), ids

    def slow(request, run_step):
        def step():
            log.add("slow")
            assert taken_over.wait(SECONDS)
            return "slow"

        run_step("one", step)
        log.add("never")

    jobs.enqueue(one)
    with jobs.running("w-1", slow):
        log.wait_for(1)
        jobs.take_over("w-1", died=True)
        taken_over.set()
    if jobs.states([one])[one] is JobState.RUNNING:  # it was quick enough to take it up a second time
        jobs.take_over("w-1", died=True)
    said = []
    with jobs.running("w-2", lambda request, run_step: said.append(run_step("one", lambda: "quick"))):
        wait_until_ended(jobs, one)
    assert said == ["quick"] or log.ran.count("slow") > 1


def test_a_job_over_which_one_worker_after_another_dies_is_given_up_and_may_be_tried_anew(jobs, ids):
    log, (one, *_) = Log(), ids

    def dying(request, run_step):
        log.add(request)
        raise LeavingError

    jobs.enqueue(one)
    with jobs.running("w-1", dying):
        for n in range(MOST_DEATHS):
            log.wait_for(n + 1)
            assert jobs.take_over("w-1", died=True) == (one,)
    assert jobs.states([one]) == {one: JobState.GIVEN_UP}
    jobs.cancel(one)
    assert jobs.states([one]) == {one: JobState.ENDED}
    jobs.enqueue(one)
    with jobs.running("w-2", lambda request, run_step: log.add(request)):
        wait_until_ended(jobs, one)
    assert len(log.ran) == MOST_DEATHS + 1


@pytest.mark.parametrize("jobs", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)
def test_a_job_whose_steps_have_changed_since_it_was_left_ends_and_begins_anew(jobs, ids):
    """As after an upgrade, which the memory of a process does not see. The sweep enqueues it again."""
    log, (one, *_) = Log(), ids

    def old(request, run_step):
        run_step("old", lambda: log.add("old"))
        raise LeavingError

    jobs.enqueue(one)
    with jobs.running("w-1", old):
        log.wait_for(1)
    jobs.take_over("w-1", died=False)
    with jobs.running("w-2", lambda request, run_step: run_step("new", lambda: log.add("new"))):
        wait_until_ended(jobs, one)
        assert log.ran == ["old"]
        jobs.enqueue(one)
        log.wait_for(2)
        wait_until_ended(jobs, one)
    assert log.ran == ["old", "new"]


def test_the_file_of_the_jobs_is_private(tmp_path):
    with DbosJobs(Settings(home=tmp_path)) as jobs, jobs.running("w", lambda request, run_step: None):
        assert (tmp_path / "jobs.sqlite3").stat().st_mode & 0o777 == 0o600
