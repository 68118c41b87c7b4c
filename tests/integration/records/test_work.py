"""Progress and signs of life, on both databases."""

from datetime import timedelta

import pytest

from mbd.records import progress, requests, workers
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.lifecycle import Role
from mbd.records.progress import Progress
from mbd.records.requests import Actor, Revocation
from mbd.records.suppression import Channel
from mbd.records.workers import Worker


@pytest.fixture
def filed(engine, now):
    with begin_locked(engine) as connection:
        for n in range(2):
            scope = (Channel("a" * 64, "audio"),)
            request = Revocation(f"rev-{n}", f"{n}" * 64, "gdpr", scope, now, now.date())
            requests.file(connection, request, by=Actor(Role.OFFICER, "test"))
    return ["rev-0", "rev-1"]


def test_progress_is_what_was_written_last_until_it_is_forgotten(engine, filed, now):
    first = Progress("deleting", 0.25, now, now, None)
    later = Progress("signing", 0.5, now, now + timedelta(seconds=5), now + timedelta(seconds=10))
    with begin_locked(engine) as connection:
        progress.put(connection, filed, first)
        progress.put(connection, filed[:1], later)
        progress.put(connection, [], later)
    with begin_snapshot(engine) as connection:
        assert [progress.get(connection, each) for each in (*filed, "rev-2")] == [later, first, None]
    with begin_locked(engine) as connection:
        progress.clear(connection, filed)
    with begin_snapshot(engine) as connection:
        assert [progress.get(connection, each) for each in filed] == [None, None]


def test_a_worker_that_was_taken_for_dead_lives_again_with_its_next_sign_of_life(engine, now):
    later = now + timedelta(seconds=30)
    with begin_locked(engine) as connection:
        workers.beat(connection, "w-1", at=now)
        workers.beat(connection, "w-2", at=now)
        workers.stop(connection, "w-1", at=later)
        workers.stop(connection, "w-1", at=later + timedelta(days=1))
    with begin_snapshot(engine) as connection:
        assert workers.known(connection) == (Worker("w-1", now, now, later), Worker("w-2", now, now))
    with begin_locked(engine) as connection:
        workers.beat(connection, "w-1", at=later)
    with begin_snapshot(engine) as connection:
        assert workers.known(connection)[0] == Worker("w-1", now, later)


def test_workers_that_stopped_long_ago_are_forgotten(engine, now):
    with begin_locked(engine) as connection:
        for name, stopped in (("old", now), ("new", now + timedelta(days=2)), ("alive", None)):
            workers.beat(connection, name, at=now)
            if stopped:
                workers.stop(connection, name, at=stopped)
        workers.forget(connection, stopped_before=now + timedelta(days=1))
        assert [worker.id for worker in workers.known(connection)] == ["alive", "new"]
