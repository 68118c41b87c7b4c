"""Who is taken for dead: by what this process's own clock has seen, whatever other clocks say."""

from datetime import UTC, datetime, timedelta

import pytest

from mbd.records.workers import Worker
from mbd.workflow.jobs.outbox import Reaper

NOON = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


class Seconds:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def seconds():
    return Seconds()


@pytest.fixture
def reaper(seconds):
    return Reaper("me", silence=60, seconds=seconds)


def alive(worker_id, seen_at=NOON):
    return Worker(worker_id, NOON, seen_at)


def test_a_worker_is_dead_after_a_silence_and_not_before(reaper, seconds):
    assert reaper.dead([alive("other")], ["other"]) == set()
    seconds.now = 59.9
    assert reaper.dead([alive("other")], ["other"]) == set()
    seconds.now = 60.0
    assert reaper.dead([alive("other")], ["other"]) == {"other"}


def test_each_sign_of_life_begins_the_silence_anew_even_from_a_clock_that_is_wrong(reaper, seconds):
    for n in range(10):
        seconds.now = 50.0 * n
        assert reaper.dead([alive("other", NOON - timedelta(days=n))], ["other"]) == set()


def test_a_worker_that_stopped_and_one_that_nobody_knows_are_dead_at_once(reaper):
    stopped = Worker("stopped", NOON, NOON, stopped_at=NOON)
    assert reaper.dead([stopped], ["stopped", "unknown"]) == {"stopped", "unknown"}


def test_nobody_is_looked_at_who_has_no_job_and_nobody_takes_itself_for_dead(reaper, seconds):
    for _ in range(2):
        assert reaper.dead([alive("idle"), alive("me")], ["me"]) == set()
        seconds.now += 1000
