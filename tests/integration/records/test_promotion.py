"""Candidates, promotion and retirement: nothing that was deleted comes back by another door."""

from datetime import datetime

import pytest
from sqlalchemy import Connection, Engine

from mbd.errors import RecordsError
from mbd.records import destruction, exposure, lineage, models, promotion, requests
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.destruction import Destruction
from mbd.records.exposure import LiveExposure
from mbd.records.lineage import Edge, Kind, Node, Role, node_id
from mbd.records.models import ModelVersion, VersionState
from mbd.records.requests import WORKER, Revocation
from mbd.records.suppression import Channel, suppress

ANNA, BEN = Channel("anna", "audio"), Channel("ben", "audio")


def version(connection: Connection, number: int, parent: int | None, at: datetime, *who: Channel) -> ModelVersion:
    """A version over a cohort of its own, with what it is made of in the lineage."""
    name = f"{number} from {parent}"
    for kind in (Kind.BACKBONE, Kind.STATISTICS, Kind.COHORT):
        lineage.add_node(connection, Node(kind, name, name, name, at))
    cohort = node_id(Kind.COHORT, name)
    lineage.add_edge(connection, node_id(Kind.STATISTICS, name), cohort, Role.COMPUTED_FROM)
    exposure.record_exposure(connection, cohort, dict.fromkeys(who, 3))
    return ModelVersion("mosi", number, f"d{number}", parent, None, name, name, name, at)


def revoke(connection: Connection, channel: Channel, at: datetime) -> None:
    name = f"{channel.subject_key} {channel.modality}"
    requests.file(connection, Revocation(name, name, "gdpr", (channel,), at, at.date()), by=WORKER)
    suppress(connection, [channel], since=at, revocation_id=name)


def states(connection: Connection) -> list[str]:
    return [found.state.value for found in models.versions(connection, "mosi")]


@pytest.fixture
def waiting(engine: Engine, now: datetime) -> Engine:
    """Version 1 is live with Anna and Ben; candidates 2 and 3 were made from it, the second without Anna."""
    with begin_locked(engine) as connection:
        models.register(connection, version(connection, 1, None, now, ANNA, BEN))
        models.register(connection, version(connection, 2, 1, now, ANNA, BEN), candidate=True)
        models.register(connection, version(connection, 3, 1, now, BEN), candidate=True)
    return engine


def test_a_candidate_changes_nothing_until_it_is_promoted(waiting: Engine, now: datetime) -> None:
    with begin_locked(waiting) as connection:
        assert states(connection) == ["live", "candidate", "candidate"]
        assert [found.version for found in models.live_versions(connection)] == [1]
        assert models.next_version(connection, "mosi") == 4
        again = models.register(connection, version(connection, 2, 1, now, ANNA, BEN), candidate=True)
        assert again.state is VersionState.CANDIDATE
        second, first = promotion.promote(connection, "mosi", 2), models.get(connection, "mosi", 1)
        assert (second.state, first.state) == (VersionState.LIVE, VersionState.RETIRED)
        assert Edge(second.node, first.node, Role.SUCCEEDS) in lineage.ancestry(connection, second.node).edges
        # The other candidate was made from what is retired now: it could only undo what comes later.
        assert states(connection) == ["retired", "live", "retired"]
        assert promotion.promote(connection, "mosi", 2) == second


def test_a_first_version_can_be_a_candidate(engine: Engine, now: datetime) -> None:
    with begin_locked(engine) as connection:
        models.register(connection, version(connection, 1, None, now, ANNA), candidate=True)
        assert models.live(connection, "mosi") is None
        assert models.lines(connection) == ("mosi",)
        assert promotion.promote(connection, "mosi", 1).state is VersionState.LIVE


def test_no_promotion_undoes_a_deletion(waiting: Engine, now: datetime) -> None:
    with begin_locked(waiting) as connection:
        models.register(connection, version(connection, 4, 1, now, BEN))
        assert states(connection) == ["retired", "retired", "retired", "live"]
        with pytest.raises(RecordsError, match="version 2 is retired"):
            promotion.promote(connection, "mosi", 2)
        with pytest.raises(RecordsError, match="version 4 is live"):
            models.register(connection, version(connection, 5, 1, now, ANNA), candidate=True)


def test_a_candidate_with_a_revoked_channel_is_refused_and_discarded(waiting: Engine, now: datetime) -> None:
    with begin_locked(waiting) as connection:
        revoke(connection, ANNA, now)
        found = exposure.descendants_of_revoked(connection, VersionState.CANDIDATE)
        assert found == (LiveExposure("mosi", 2, ANNA),)
        with pytest.raises(RecordsError, match=r"contains channels that were revoked .*\(1\)"):
            promotion.promote(connection, "mosi", 2)
        assert [discarded.version for discarded in promotion.discard_revoked(connection)] == [2]
        assert promotion.discard_revoked(connection) == ()
        assert states(connection) == ["live", "retired", "candidate"]
        assert promotion.promote(connection, "mosi", 3).version == 3
        assert exposure.live_descendants_of_revoked(connection) == ()


def test_a_candidate_saw_whom_it_saw_and_ends_nothing(waiting: Engine) -> None:
    def answer(connection: Connection) -> list[tuple[int, str, int | None]]:
        found = exposure.models_exposed_to(connection, ANNA)
        return [(each.version, each.state.value, each.ended_by and each.ended_by.version) for each in found]

    with begin_locked(waiting) as connection:
        assert answer(connection) == [(1, "live", None), (2, "candidate", None)]
        promotion.retire(connection, "mosi", 2)
        assert answer(connection) == [(1, "live", None), (2, "retired", None)]
        promotion.promote(connection, "mosi", 3)
        assert answer(connection) == [(1, "retired", 3), (2, "retired", 3)]


def test_a_retired_line_answers_nothing(waiting: Engine, now: datetime) -> None:
    with begin_locked(waiting) as connection:
        assert promotion.retire(connection, "mosi", 1).state is VersionState.RETIRED
        assert promotion.retire(connection, "mosi", 1).state is VersionState.RETIRED
        assert models.live(connection, "mosi") is None
        assert states(connection) == ["retired", "retired", "retired"]
        revoke(connection, BEN, now)
        assert exposure.live_descendants_of_revoked(connection) == ()
        with pytest.raises(RecordsError, match="no version is live"):
            models.register(connection, version(connection, 4, 1, now))
        with pytest.raises(RecordsError, match="no mosi version 9"):
            promotion.retire(connection, "mosi", 9)


def test_each_retired_version_is_stated_to_be_destroyed_once(waiting: Engine, now: datetime) -> None:
    with begin_locked(waiting) as connection:
        promotion.promote(connection, "mosi", 2)
        assert [version.version for version in destruction.owed(connection)] == [1, 3]
        said = Destruction("mosi", 1, now, "digest", "{}")
        destruction.record(connection, said)
        with pytest.raises(RecordsError, match="stated already"):
            destruction.record(connection, Destruction("mosi", 1, now, "another", "{}"))
        with pytest.raises(RecordsError, match="version 2 is not retired"):
            destruction.record(connection, Destruction("mosi", 2, now, "another", "{}"))
    with begin_snapshot(waiting) as connection:
        assert [version.version for version in destruction.owed(connection)] == [3]
        assert destruction.find(connection, "mosi", 1) == said
        assert destruction.find(connection, "mosi", 2) is None
        assert destruction.every(connection) == destruction.every(connection, "mosi") == (said,)
        assert destruction.every(connection, "other") == ()
