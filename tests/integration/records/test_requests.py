from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine

from mbd.errors import RecordsError
from mbd.records import requests
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.requests import Revocation, State
from mbd.records.suppression import EVERYONE, Channel, Suppressions, suppress, suppressions

ANNA = Channel("anna", "audio")


@pytest.fixture
def filed(now: datetime) -> Revocation:
    return Revocation("r1", "d1", "gdpr", (ANNA, Channel(EVERYONE, "vision")), now, State.FILED, now)


def test_a_request_comes_back_as_it_was_filed(engine: Engine, filed: Revocation) -> None:
    with begin_locked(engine) as connection:
        assert requests.add(connection, filed) == filed
    with begin_snapshot(engine) as connection:
        assert requests.get(connection, "r1") == filed


def test_a_request_is_kept_once(engine: Engine, filed: Revocation) -> None:
    with begin_locked(engine) as connection:
        requests.add(connection, filed)
        requests.advance(connection, "r1", State.APPROVED, at=filed.requested_at)
        assert requests.add(connection, replace(filed, id="r2")).id == "r1"
        assert requests.get(connection, "r1").state is State.APPROVED


def test_an_unknown_request_is_an_error(engine: Engine) -> None:
    with begin_snapshot(engine) as connection, pytest.raises(RecordsError, match="no revocation 'r1'"):
        requests.get(connection, "r1")


def test_a_request_moves_on_and_a_failed_one_can_be_resumed(engine: Engine, filed: Revocation) -> None:
    way = [State.APPROVED, State.IN_PROGRESS, State.FAILED, State.IN_PROGRESS, State.COMPLETED]
    with begin_locked(engine) as connection:
        requests.add(connection, filed)
        for hour, state in enumerate(way, start=1):
            at = filed.requested_at + timedelta(hours=hour)
            assert requests.advance(connection, "r1", state, at=at) == replace(filed, state=state, changed_at=at)
            # A retried step says it again, later: nothing changes.
            again = requests.advance(connection, "r1", state, at=at + timedelta(minutes=1))
            assert again.changed_at == at


ALLOWED = {
    (State.FILED, State.APPROVED),
    (State.APPROVED, State.IN_PROGRESS),
    (State.APPROVED, State.FAILED),
    (State.IN_PROGRESS, State.COMPLETED),
    (State.IN_PROGRESS, State.FAILED),
    (State.FAILED, State.IN_PROGRESS),
}


def test_no_other_way_is_open(engine: Engine, filed: Revocation, subtests: pytest.Subtests) -> None:
    for number, (state, following) in enumerate((a, b) for a in State for b in State if a is not b):
        with subtests.test(f"{state} -> {following}"), begin_locked(engine) as connection:
            name = f"request {number}"
            requests.add(connection, replace(filed, id=name, digest=name, state=state))
            if (state, following) in ALLOWED:
                assert requests.advance(connection, name, following, at=filed.requested_at).state is following
            else:
                with pytest.raises(RecordsError, match=f"is {state}"):
                    requests.advance(connection, name, following, at=filed.requested_at)


def test_what_a_restart_resumes_is_listed_oldest_first(engine: Engine, filed: Revocation) -> None:
    with begin_locked(engine) as connection:
        for number, state in enumerate(State):
            asked = filed.requested_at - timedelta(days=number)
            requests.add(connection, replace(filed, id=state, digest=state, state=state, requested_at=asked))
        names = [found.id for found in requests.unfinished(connection)]
    assert names == ["failed", "in_progress", "approved", "filed"]


def test_a_suppressed_channel_stays_so_from_its_first_day(engine: Engine, filed: Revocation) -> None:
    with begin_locked(engine) as connection:
        requests.add(connection, filed)
        assert suppressions(connection) == Suppressions(frozenset())
        suppress(connection, filed.scope, since=filed.requested_at, revocation_id="r1")
        suppress(connection, [ANNA, ANNA], since=filed.requested_at + timedelta(days=1), revocation_id="r1")
    with begin_snapshot(engine) as connection:
        listed = suppressions(connection)
    assert listed == Suppressions(frozenset(filed.scope))
    assert listed.covers(Channel("ben", "vision"))
