"""Real worker processes: they stop in order, take over from the dead, and survive a full disk or a lost database."""

import shutil
import signal
import threading
import time

import psycopg
import pytest
from sqlalchemy import make_url

from mbd.cohort.modality import Modality
from mbd.errors import TransitionError
from mbd.records import certificates, models, requests, workers
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.lifecycle import Action, State
from mbd.workflow import decisions
from mbd.workflow.jobs.dbos_engine import DbosJobs
from mbd.workflow.steps import READY, Work

STEPS = "mbd.workflow.steps"
DELETING = "mbd.workflow.deleting"
WORKER = "mbd.workflow.jobs.worker"


def versions(site):
    with site.open() as system, begin_snapshot(system.engine) as connection:
        return {line: models.live(connection, line).version for line in ("main", "second")}


def test_all_that_waits_is_worked_off_with_one_solve_for_each_line(site, people):
    site.approve(*people[:5])
    site.finish()
    site.check_whole(done=True)
    assert versions(site) == {"main": 2, "second": 2}


def test_a_worker_that_is_told_to_stop_leaves_its_job_to_the_next(site, people):
    site.approve(people[0])
    worker = site.start(DELETING, "_unlearn", "before", 1, signal.SIGTERM)
    assert worker.wait() == 0, worker.said.read_text()
    assert site.state(site.requests[0]) is State.IN_PROGRESS
    with site.open() as system, begin_snapshot(system.engine) as connection:
        assert [each.stopped_at is not None for each in workers.known(connection) if each.id == worker.id] == [True]
    site.finish()
    site.check_whole(done=True)


def test_on_sqlite_a_second_worker_is_told_at_once(sqlite_site):
    first = sqlite_site.start()
    sqlite_site.until(lambda: "Worker: " in first.said.read_text())
    second = sqlite_site.start()
    assert second.wait() == 1
    assert "Another worker serves" in second.said.read_text()
    first.signal(signal.SIGTERM)
    assert first.wait() == 0


@pytest.mark.postgres
def test_a_second_worker_takes_over_from_one_that_dies(postgres_site, people):
    postgres_site.approve(*people[:2])
    first = postgres_site.start(DELETING, "_certify", "before", 1, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    postgres_site.finish()  # after a silence of two seconds
    postgres_site.check_whole(done=True)
    assert versions(postgres_site) == {"main": 2, "second": 2}


@pytest.mark.postgres
@pytest.mark.parametrize("place", [(DELETING, "_write", "after", 1), (WORKER, "Worker._anything_waits", "after", 1)])
def test_a_worker_that_was_only_stopped_adds_no_second_certificate(postgres_site, people, place):
    """In the one place it has the deployment to itself, and the other waits for it; in the other one it has not."""
    postgres_site.approve(people[0])
    asleep = postgres_site.start(*place, signal.SIGSTOP)
    with DbosJobs(postgres_site.settings) as jobs:
        postgres_site.until(asleep.sleeps)
        assert asleep.id in jobs.owners()
        awake = postgres_site.start()
        postgres_site.until(lambda: asleep.id not in jobs.owners())
        if place[0] == WORKER:
            postgres_site.until(lambda: postgres_site.state(postgres_site.requests[0]) is State.COMPLETED)
        asleep.signal(signal.SIGCONT)
        postgres_site.until(lambda: postgres_site.state(postgres_site.requests[0]) is State.COMPLETED)
        postgres_site.until(lambda: not jobs.owners())
    for worker in (asleep, awake):
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0, worker.said.read_text()
    postgres_site.check_whole(done=True)
    assert versions(postgres_site) == {"main": 2, "second": 2}


def test_a_full_disk_fails_the_request_on_that_line_alone_and_a_retry_finishes_it(site, people):
    (request,) = site.approve(people[0])
    site.finish(DELETING, "_write", "before", 1, "disk full", expected=State.FAILED)
    assert versions(site) == {"main": 1, "second": 2}
    with site.open() as system, begin_snapshot(system.engine) as connection:
        assert [each.model_line for each in certificates.current(connection)] == ["second"]
        assert requests.events(connection, request)[-1].action is Action.FAIL
        assert {path.name for path in (system.home / "lines" / "main").iterdir()} == {"1"}
    with site.open() as system, begin_locked(system.engine) as connection:
        decisions.retry(system, connection, request, by=decisions.COMMAND_LINE)
    site.finish()
    site.check_whole(done=True)
    assert versions(site) == {"main": 2, "second": 2}


@pytest.mark.postgres
def test_a_job_goes_on_when_the_database_comes_back(postgres_site, people):
    postgres_site.approve(people[0])
    worker = postgres_site.start(DELETING, "_certify", "before", 1, signal.SIGSTOP)
    postgres_site.until(worker.sleeps)
    url = make_url(postgres_site.settings.database)
    with psycopg.connect(
        url.set(drivername="postgresql", database="postgres").render_as_string(hide_password=False), autocommit=True
    ) as server:
        server.execute(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS false")
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [url.database])
        worker.signal(signal.SIGCONT)
        postgres_site.until(lambda: "the database is away" in worker.said.read_text())
        server.execute(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS true")
    postgres_site.until(lambda: postgres_site.state(postgres_site.requests[0]) is State.COMPLETED)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0, worker.said.read_text()
    postgres_site.check_whole(done=True)
    assert versions(postgres_site) == {"main": 2, "second": 2}


def test_a_worker_waits_while_a_command_has_the_deployment_to_itself(sqlite_site, people):
    with sqlite_site.open() as system, system.exclusive():
        sqlite_site.approve(people[0])
        worker = sqlite_site.start()
        with DbosJobs(sqlite_site.settings) as jobs:
            sqlite_site.until(lambda: bool(jobs.owners()))
        time.sleep(1)
        assert sqlite_site.state(sqlite_site.requests[0]) is State.APPROVED
    sqlite_site.until(lambda: sqlite_site.state(sqlite_site.requests[0]) is State.COMPLETED)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


def test_a_worker_on_a_restored_backup_stops_and_says_why(sqlite_site, people):
    home = sqlite_site.settings.state
    shutil.copy(home / "mbd.sqlite3", home / "backup")
    sqlite_site.approve(people[0])
    sqlite_site.finish()
    sqlite_site.requests.clear()
    shutil.copy(home / "backup", home / "mbd.sqlite3")
    worker = sqlite_site.start()
    assert worker.wait() == 1
    assert "an old copy has been restored" in worker.said.read_text()


def test_a_request_is_cancelled_or_begun_and_never_both(site, people):
    """Whichever transaction comes first decides; the other one is told."""
    for person in people[:4]:
        (request,) = site.approve(person)
        told, together = [], threading.Barrier(2)
        with site.open() as system:

            def cancel(system=system, request=request, told=told, together=together):
                together.wait()
                try:
                    with begin_locked(system.engine) as connection:
                        decisions.cancel(system, connection, request, by=decisions.FOR_THE_PERSON)
                except TransitionError as refused:
                    told.append(refused)

            other = threading.Thread(target=cancel)
            other.start()
            together.wait()
            begun = Work(system, READY, lambda step: None).begin()["requests"]
            other.join()
            cancelled = site.state(request) is State.CANCELLED
            assert (request in begun, len(told)) == (not cancelled, int(not cancelled))
            assert system.suppressed()(person, Modality.AUDIO) is not cancelled


def test_no_name_and_no_subject_key_is_in_what_the_job_engine_keeps(sqlite_site, people):
    sqlite_site.approve(*people[:2])
    sqlite_site.finish()
    kept = b"".join(path.read_bytes() for path in sqlite_site.settings.state.glob("jobs.sqlite3*"))
    assert sqlite_site.requests[0].encode() in kept
    with sqlite_site.open() as system:
        for person in people[:2]:
            assert person.encode() not in kept
            assert system.identities.subject_key(person).encode() not in kept
