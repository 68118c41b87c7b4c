from datetime import UTC, date, datetime

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from mbd.records import opendsr, requests
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.lifecycle import Role
from mbd.records.opendsr import Submission
from mbd.records.requests import Actor, Revocation
from mbd.records.suppression import Channel

ASKED = datetime(2026, 2, 27, 9, tzinfo=UTC)


def test_a_request_is_found_by_both_its_names_and_has_one_controller(engine: Engine, now: datetime) -> None:
    with begin_locked(engine) as connection:
        for name in ("r1", "r2"):
            asked = Revocation(name, f"d{name}", "gdpr", (Channel("anna-key", "audio"),), now, date(2026, 4, 1))
            requests.file(connection, asked, by=Actor(Role.SUBJECT, "key-1"))
        kept = [Submission(f"key-{number}", "uuid-1", f"r{number}", "digest", ASKED) for number in (1, 2)]
        for each in kept:
            opendsr.keep(connection, each)
    with begin_snapshot(engine) as connection:
        assert [opendsr.find(connection, each.controller_id, "uuid-1") for each in kept] == kept
        assert [opendsr.of_revocation(connection, each.revocation_id) for each in kept] == kept
        assert opendsr.find(connection, "key-1", "uuid-2") is None
        assert opendsr.of_revocation(connection, "r3") is None
    for again in (
        Submission("key-1", "uuid-1", "r2", "digest", ASKED),
        Submission("key-3", "uuid-1", "r1", "digest", ASKED),
    ):
        with pytest.raises(IntegrityError), begin_locked(engine) as connection:
            opendsr.keep(connection, again)
