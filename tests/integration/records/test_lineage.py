from datetime import datetime

import pytest
from sqlalchemy import Connection, Engine

from mbd.errors import RecordsError
from mbd.records import lineage, models
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.lineage import Edge, Kind, Node, Role, node_id
from mbd.records.models import ModelVersion


def node(kind: Kind, key: str, at: datetime, **attributes: object) -> Node:
    return Node(kind, key, f"digest of {key}", f"the {key}", at, attributes)


def test_a_node_comes_back_as_it_was_added(engine: Engine, now: datetime) -> None:
    added = node(Kind.COHORT, "mosi", now, rows=2199, modalities=["text", "audio"])
    with begin_locked(engine) as connection:
        assert lineage.add_node(connection, added) == "cohort:mosi"
        lineage.add_node(connection, added)
    with begin_snapshot(engine) as connection:
        assert lineage.ancestry(connection, "cohort:mosi").nodes == (added,)


def test_a_node_is_not_given_another_content(engine: Engine, now: datetime) -> None:
    with begin_locked(engine) as connection:
        lineage.add_node(connection, node(Kind.COHORT, "mosi", now))
        with pytest.raises(RecordsError, match="digest"):
            lineage.add_node(connection, Node(Kind.COHORT, "mosi", "another", "", now))


def test_an_edge_needs_its_nodes(engine: Engine, now: datetime) -> None:
    with begin_locked(engine) as connection:
        lineage.add_node(connection, node(Kind.COHORT, "mosi", now))
        with pytest.raises(RecordsError, match="no 'statistics:s'"):
            lineage.add_edge(connection, "statistics:s", "cohort:mosi", Role.COMPUTED_FROM)


def test_ancestry_is_everything_that_led_to_a_node_and_nothing_else(engine: Engine, now: datetime) -> None:
    with begin_locked(engine) as connection:
        for kind in Kind:
            lineage.add_node(connection, node(kind, "x", now))
        edges = (
            Edge("backbone:x", "public_cohort:x", Role.COMPUTED_FROM),
            Edge("certificate:x", "deletion:x", Role.ABOUT),
            Edge("deletion:x", "model_version:x", Role.ABOUT),
            Edge("model_version:x", "backbone:x", Role.COMPUTED_FROM),
            Edge("model_version:x", "statistics:x", Role.COMPUTED_FROM),
            Edge("statistics:x", "cohort:x", Role.COMPUTED_FROM),
        )
        for edge in (*edges, Edge("ledger_entry:x", "certificate:x", Role.ABOUT), edges[0]):
            lineage.add_edge(connection, edge.child, edge.parent, edge.role)
    with begin_snapshot(engine) as connection:
        found = lineage.ancestry(connection, "certificate:x")
        assert found.edges == edges
        assert {found.id for found in found.nodes} == {f"{kind}:x" for kind in Kind if kind is not Kind.LEDGER_ENTRY}


def test_nobody_has_no_ancestry(engine: Engine) -> None:
    with begin_snapshot(engine) as connection, pytest.raises(RecordsError, match="no 'cohort:x'"):
        lineage.ancestry(connection, "cohort:x")


def ingredients(connection: Connection, name: str, at: datetime) -> dict[str, str]:
    """Backbone, statistics and cohort of a version, as nodes."""
    for kind in (Kind.BACKBONE, Kind.STATISTICS, Kind.COHORT):
        lineage.add_node(connection, node(kind, name, at))
    return {"backbone": name, "statistics": name, "cohort": name}


def version(number: int, parent: int | None, made_of: dict[str, str], at: datetime, digest: str = "d") -> ModelVersion:
    return ModelVersion("mosi", number, digest, parent, None, created_at=at, **made_of)


def test_a_version_goes_live_and_its_parent_retires(engine: Engine, now: datetime) -> None:
    with begin_locked(engine) as connection:
        made_of = ingredients(connection, "a", now)
        assert models.live(connection, "mosi") is None
        first = models.register(connection, version(1, None, made_of, now))
        assert models.live(connection, "mosi") == first == version(1, None, made_of, now)
        # Equal bit for bit, and yet a version of its own.
        second = models.register(connection, version(2, 1, made_of, now))
        assert models.live(connection, "mosi") == second
        assert [found.state for found in models.versions(connection, "mosi")] == ["retired", "live"]
        assert models.live_versions(connection) == (second,)
        assert Edge(second.node, first.node, Role.SUCCEEDS) in lineage.ancestry(connection, second.node).edges
        assert Edge(second.node, node_id(Kind.COHORT, "a"), Role.COMPUTED_FROM) in (
            lineage.ancestry(connection, second.node).edges
        )


def test_registering_again_changes_nothing_even_after_a_successor(engine: Engine, now: datetime) -> None:
    with begin_locked(engine) as connection:
        made_of = ingredients(connection, "a", now)
        models.register(connection, version(1, None, made_of, now))
        models.register(connection, version(2, 1, made_of, now))
        later = now.replace(year=now.year + 1)
        again = models.register(connection, version(1, None, made_of, later))
        assert (again.state, again.created_at) == ("retired", now)
        assert len(models.versions(connection, "mosi")) == 2


def test_a_number_is_not_given_to_other_content(engine: Engine, now: datetime) -> None:
    with begin_locked(engine) as connection:
        made_of = ingredients(connection, "a", now)
        models.register(connection, version(1, None, made_of, now))
        with pytest.raises(RecordsError, match="other content"):
            models.register(connection, version(1, None, made_of, now, digest="another"))


@pytest.mark.parametrize("parent", [None, 1])
def test_a_version_made_from_a_retired_one_would_undo_a_deletion(
    engine: Engine, now: datetime, parent: int | None
) -> None:
    with begin_locked(engine) as connection:
        made_of = ingredients(connection, "a", now)
        models.register(connection, version(1, None, made_of, now))
        models.register(connection, version(2, 1, made_of, now))
        with pytest.raises(RecordsError, match="version 2 is live"):
            models.register(connection, version(3, parent, made_of, now))


def test_a_version_without_its_lineage_is_refused(engine: Engine, now: datetime) -> None:
    with pytest.raises(RecordsError, match="no 'cohort:missing'"), begin_locked(engine) as connection:
        made_of = ingredients(connection, "a", now) | {"cohort": "missing"}
        models.register(connection, version(1, None, made_of, now))
    with begin_snapshot(engine) as connection:
        assert models.versions(connection, "mosi") == ()


def test_an_unknown_version_is_an_error(engine: Engine) -> None:
    with begin_snapshot(engine) as connection:
        assert models.find(connection, "mosi", 1) is None
        with pytest.raises(RecordsError, match="no mosi version 1"):
            models.get(connection, "mosi", 1)


def test_releases_are_charged_once_and_listed_in_order(engine: Engine, now: datetime) -> None:
    with begin_locked(engine) as connection:
        made_of = ingredients(connection, "a", now)
        models.register(connection, version(1, None, made_of, now))
        models.register(connection, version(2, 1, made_of, now))
        models.record_releases(connection, "mosi", 2, {"ta": 0.1 + 0.2, "a": 1e-9})
        models.record_releases(connection, "mosi", 1, {"t": 0.25})
        models.record_releases(connection, "mosi", 1, {"t": 0.25})
        models.record_releases(connection, "mosi", 1, {"t": 0.25})
        series = models.mu_series(connection, "mosi")
    assert [(found.version, found.head, found.mu) for found in series] == [
        (1, "t", 0.25),
        (2, "a", 1e-9),
        (2, "ta", 0.1 + 0.2),  # every bit of it
    ]


@pytest.mark.parametrize("again", [{"t": 0.1}, {"t": 0.25, "a": 0.1}, {}])
def test_a_release_is_not_charged_less_or_twice(engine: Engine, now: datetime, again: dict[str, float]) -> None:
    with begin_locked(engine) as connection:
        models.register(connection, version(1, None, ingredients(connection, "a", now), now))
        models.record_releases(connection, "mosi", 1, {"t": 0.25})
        with pytest.raises(RecordsError, match="already released"):
            models.record_releases(connection, "mosi", 1, again)
