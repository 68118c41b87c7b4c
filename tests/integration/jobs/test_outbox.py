"""What was approved gets a job, whoever died before it was enqueued; what is not to be worked on gets none."""

from datetime import timedelta

import pytest

from mbd.records import requests, workers
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.lifecycle import Action, Role, State
from mbd.records.requests import WORKER, Actor, Revocation
from mbd.records.suppression import Channel
from mbd.workflow.jobs.engine import JobState, LeavingError, MemoryJobs
from mbd.workflow.jobs.outbox import GIVEN_UP, Reaper, sweep, try_again

OFFICER = Actor(Role.OFFICER, "test")
WAY = [
    (State.PENDING_REVIEW, Action.VERIFY_IDENTITY, OFFICER),
    (State.APPROVED, Action.APPROVE, OFFICER),
    (State.IN_PROGRESS, Action.START, WORKER),
    (State.FAILED, Action.FAIL, WORKER),
]


@pytest.fixture
def jobs():
    return MemoryJobs()


@pytest.fixture
def file(engine, now):
    """A request that has come as far as a state."""

    def filed(request_id, state):
        digest = request_id.encode().hex().ljust(64, "0")
        request = Revocation(request_id, digest, "gdpr", (Channel("a" * 64, "audio"),), now, now.date())
        with begin_locked(engine) as connection:
            requests.file(connection, request, by=OFFICER)
            for reached, action, by in WAY:
                if requests.get(connection, request_id).state is state:
                    break
                requests.act(connection, request_id, action, by=by, at=now, reason="test")
                assert requests.get(connection, request_id).state is reached
        return request_id

    return filed


def test_every_approved_request_gets_a_job_and_no_other_one(engine, jobs, file, now):
    states = (State.FILED, State.PENDING_REVIEW, State.APPROVED, State.IN_PROGRESS, State.FAILED)
    filed = {state: file(f"rev-{state}", state) for state in states}
    for _ in range(2):
        sweep(engine, jobs, lambda: now)
    found = jobs.states(filed.values())
    wanted = {filed[State.APPROVED], filed[State.IN_PROGRESS]}
    assert {request for request, state in found.items() if state is JobState.WAITING} == wanted
    assert {request for request, state in found.items() if state is JobState.ABSENT} == set(filed.values()) - wanted


def test_a_request_that_still_waits_when_its_job_has_ended_gets_it_again(engine, jobs, file, now):
    request = file("rev-1", State.APPROVED)
    jobs.enqueue(request)
    jobs.cancel(request)
    assert jobs.states([request])[request] is JobState.ENDED
    sweep(engine, jobs, lambda: now)
    assert jobs.states([request])[request] is JobState.WAITING


def test_a_request_over_which_worker_after_worker_dies_fails_and_can_be_tried_again(engine, jobs, file, now):
    request = file("rev-1", State.IN_PROGRESS)

    def die(_request, _run_step):
        raise LeavingError

    sweep(engine, jobs, lambda: now)
    while jobs.states([request])[request] is not JobState.GIVEN_UP:
        with jobs.running("w", die):
            while not jobs.owners():
                pass
        with begin_snapshot(engine) as connection:
            assert requests.get(connection, request).state is State.IN_PROGRESS
        Reaper("me", silence=60, seconds=lambda: 0.0).reap(engine, jobs, lambda: now)
    sweep(engine, jobs, lambda: now)
    with begin_locked(engine) as connection:
        assert requests.events(connection, request)[-1].reason == GIVEN_UP
        requests.act(connection, request, Action.RETRY, by=OFFICER, at=now)
    sweep(engine, jobs, lambda: now)
    assert jobs.states([request])[request] is JobState.WAITING


def test_what_failed_for_an_outage_is_tried_again_after_a_wait_that_doubles_up_to_six_hours(engine, file, now):
    request = file("rev-1", State.IN_PROGRESS)
    for minutes in (1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360):
        with begin_locked(engine) as connection:
            requests.act(connection, request, Action.FAIL, by=WORKER, at=now, reason="WitnessError")
        due = now + timedelta(minutes=minutes)
        for moment, state in ((due - timedelta(seconds=1), State.FAILED), (due, State.APPROVED), (due, State.APPROVED)):
            try_again(engine, lambda at=moment: at)
            assert state_of(engine, request) is state
        with begin_locked(engine) as connection:
            assert [each.action for each in requests.events(connection, request)[-2:]] == [Action.FAIL, Action.RETRY]
            requests.act(connection, request, Action.START, by=WORKER, at=now)


def test_what_failed_for_another_reason_waits_for_somebody(engine, file, now):
    request = file("rev-1", State.IN_PROGRESS)
    for reason in ("WitnessError", "DeletionError"):
        with begin_locked(engine) as connection:
            requests.act(connection, request, Action.FAIL, by=WORKER, at=now, reason=reason)
            if reason == "WitnessError":
                requests.act(connection, request, Action.RETRY, by=OFFICER, at=now)
                requests.act(connection, request, Action.START, by=WORKER, at=now)
    try_again(engine, lambda: now + timedelta(days=30))
    assert state_of(engine, request) is State.FAILED


def state_of(engine, request):
    with begin_snapshot(engine) as connection:
        return requests.get(connection, request).state


def test_the_jobs_of_a_silent_worker_wait_again_and_it_counts_as_stopped(engine, jobs, file, now):
    request = file("rev-1", State.APPROVED)
    seconds = [0.0]
    reaper = Reaper("me", silence=60, seconds=lambda: seconds[0])
    with begin_locked(engine) as connection:
        workers.beat(connection, "other", at=now)
    sweep(engine, jobs, lambda: now)

    def die(_request, _run_step):
        raise LeavingError

    with jobs.running("other", die):
        while not jobs.owners():
            pass
    for at, state in ((0.0, JobState.RUNNING), (59.0, JobState.RUNNING), (60.0, JobState.WAITING)):
        seconds[0] = at
        reaper.reap(engine, jobs, lambda: now)
        assert jobs.states([request])[request] is state
    with begin_snapshot(engine) as connection:
        assert workers.known(connection)[0].stopped_at == now
