"""One line fails: the others keep what they have, and a second try does what is missing and nothing else."""

import pytest

from mbd.deletion import engine
from mbd.errors import DeletionError
from mbd.records import certificates, models, progress, requests
from mbd.records.database import begin_snapshot
from mbd.records.lifecycle import State
from mbd.workflow.progress import Reporter
from mbd.workflow.revocation import retry
from mbd.workflow.steps import READY, Work


@pytest.fixture
def system(sqlite_site):
    with sqlite_site.open() as opened:
        yield opened


@pytest.fixture
def fails(monkeypatch):
    """``fails(line, person)``: the mechanism fails there for that person, and returns what it was asked for."""

    def breaking(line, person):
        honest, asked = engine.delete, []

        def broken(model, cohort, revocation, *, occasion, **kwargs):
            asked.append((occasion, len(revocation.pairs)))
            if occasion.startswith(line) and any(name == person for name, _ in revocation.pairs):
                raise DeletionError("planted", remedy="none")
            return honest(model, cohort, revocation, occasion=occasion, **kwargs)

        monkeypatch.setattr(engine, "delete", broken)
        return asked

    return breaking


def states(system, ids):
    with begin_snapshot(system.engine) as connection:
        return [requests.get(connection, each).state for each in ids]


def test_one_line_fails_and_the_others_keep_their_certificates(sqlite_site, system, people, fails, monkeypatch):
    ids = sqlite_site.approve(people[0], people[1])
    fails("main", people[0])
    work = Work(system, READY, lambda step: None)
    work.carry_out()
    assert states(system, ids) == [State.FAILED, State.COMPLETED]
    assert set(work.errors) == {ids[0]}
    assert [result.line for result in work.results[ids[0]]] == ["second"]
    assert all(result.bundle.exists() for results in work.results.values() for result in results)
    with begin_snapshot(system.engine) as connection:
        assert requests.events(connection, ids[0])[-1].reason == "DeletionError"
        before = [certificates.find(connection, ids[0], line) for line in ("main", "second")]
    assert (before[0], before[1].version) == (None, 2)
    monkeypatch.undo()
    asked = fails("nowhere", "nobody")
    results = retry(system, ids[0])
    assert asked == [("main/3", 1)]
    assert [(result.line, result.version, result.outcome is None) for result in results] == [
        ("main", 3, False),
        ("second", 2, True),
    ]
    with begin_snapshot(system.engine) as connection:
        assert certificates.find(connection, ids[0], "second") == before[1]
        assert models.live(connection, "second").version == 2
    sqlite_site.check_whole(done=True)


def test_one_of_many_that_fails_costs_a_few_solves_and_not_one_for_each(sqlite_site, system, people, fails):
    ids = sqlite_site.approve(*people[:8])
    asked = fails("main", people[5])
    Work(system, READY, lambda step: None).carry_out()
    assert states(system, ids) == [State.FAILED if n == 5 else State.COMPLETED for n in range(8)]
    # In which half the one is depends on the ids of requests of the same second.
    assert sorted(pairs for occasion, pairs in asked if occasion.startswith("main")) == [1, 1, 2, 2, 4, 4, 8]
    assert [pairs for occasion, pairs in asked if occasion.startswith("second")] == [8]


def test_progress_is_visible_while_the_work_goes_on_and_gone_when_it_is_done(sqlite_site, system, people):
    (request,) = sqlite_site.approve(people[0])
    seen = []

    def look(step):
        with begin_snapshot(system.engine) as connection:
            seen.append(progress.get(connection, request))

    Work(system, READY, look).carry_out()
    written = [each for each in seen if each is not None]
    assert written[0].step == "main: deleting"
    assert [each.fraction for each in written] == sorted(each.fraction for each in written)
    assert written[-1].fraction >= 0.9
    with begin_snapshot(system.engine) as connection:
        assert progress.get(connection, request) is None


def test_the_guess_at_the_end_follows_from_the_share_that_is_done(sqlite_site, system, people, now):
    from dataclasses import replace
    from datetime import timedelta

    (request,) = sqlite_site.approve(people[0])
    moments = iter([now, now, now + timedelta(seconds=63), now + timedelta(seconds=64)])
    reporter = Reporter(replace(system, clock=lambda: next(moments)), [request], ["main", "second"])
    reporter.begin_line("main")
    expected = [(0.0, None), (0.1575, now + timedelta(seconds=400)), (0.405, now + timedelta(seconds=158))]
    steps = [("deleting", 0.0), ("training again, epoch 2 of at most 4", 0.5), ("signing and logging", 0.0)]
    for (step, done), (fraction, end) in zip(steps, expected, strict=True):
        reporter(step, done)
        with begin_snapshot(system.engine) as connection:
            found = progress.get(connection, request)
        assert (found.step, found.estimated_end) == (f"main: {step}", end)
        assert found.fraction == pytest.approx(fraction)
