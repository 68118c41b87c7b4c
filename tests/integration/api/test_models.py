"""The questions about models over HTTP, to whoever may ask them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Connection, Engine

from api import problems
from api.principals import Principal, Scope, identify
from api.routers import models as router
from mbd.records import certificates, destruction, exposure, ledger, lineage, models, requests
from mbd.records.certificates import Certificate
from mbd.records.database import begin_locked
from mbd.records.destruction import Destruction
from mbd.records.lineage import Kind, Node, Role, node_id
from mbd.records.models import ModelVersion
from mbd.records.requests import WORKER, Revocation
from mbd.records.suppression import Channel, suppress
from mbd.settings import Settings
from mbd.workflow.identities import Identities
from mbd.workflow.office import Office

PEOPLE = Identities(b"s" * 32)
ANNA, BEN = (Channel(PEOPLE.subject_key(name), "audio") for name in ("Anna", "Ben"))


def add_version(connection: Connection, number: int, at: datetime, *who: Channel, label: str | None = None) -> None:
    for kind in (Kind.BACKBONE, Kind.STATISTICS, Kind.COHORT):
        lineage.add_node(connection, Node(kind, f"{number}", f"{number}", f"{number}", at))
    cohort = node_id(Kind.COHORT, f"{number}")
    lineage.add_edge(connection, node_id(Kind.STATISTICS, f"{number}"), cohort, Role.COMPUTED_FROM)
    exposure.record_exposure(connection, cohort, dict.fromkeys(who, 3))
    made_of = dict.fromkeys(("backbone", "statistics", "cohort"), f"{number}")
    models.register(
        connection, ModelVersion("mosi", number, f"d{number}", number - 1 or None, label, created_at=at, **made_of)
    )


def revoke(connection: Connection, channel: Channel, name: str, at: datetime) -> None:
    requests.file(connection, Revocation(name, name, "gdpr", (channel,), at, at.date()), by=WORKER)
    suppress(connection, [channel], since=at, revocation_id=name)


@dataclass(frozen=True)
class Api:
    """A client of somebody who has some scopes."""

    client: TestClient
    become: Callable[..., None]

    def get(self, path: str, status: int = 200) -> Any:
        answer = self.client.get(path)
        assert answer.status_code == status, answer.text
        return answer.json()


@pytest.fixture
def api(engine: Engine, now: datetime, tmp_path: Path) -> Iterator[Api]:
    """Version 1 of a line with Anna and Ben has retired, Anna's voice left with version 2, and Ben's is to leave."""
    with begin_locked(engine) as connection:
        add_version(connection, 1, now, ANNA, BEN)
        revoke(connection, ANNA, "rev-anna", now)
        add_version(connection, 2, now, BEN, label="certified")
        leaf = ledger.append(connection, b"leaf").leaf_index
        certificates.issue(connection, Certificate("mdc-1", "rev-anna", "mosi", 2, leaf, "digest", "{}", now))
        destruction.record(connection, Destruction("mosi", 1, now, "said", '{"payload":""}'))
        revoke(connection, BEN, "rev-ben", now)
    app = FastAPI()
    problems.install(app)
    app.include_router(router.router)
    app.state.office = Office(Settings(home=tmp_path), tmp_path, engine, PEOPLE, lambda: now)

    def become(*scopes: Scope) -> None:
        app.dependency_overrides[identify] = lambda: Principal("somebody", frozenset(scopes))

    become(Scope.LINEAGE)
    with TestClient(app) as client:
        yield Api(client, become)


def test_each_line_says_what_is_in_service_and_what_is_owed(api: Api) -> None:
    (line,) = api.get("/v1/models")["lines"]
    assert (line["line"], line["live"]["version"], line["revoked_channels"]) == ("mosi", 2, 1)


def test_versions_come_in_pages_that_nobody_can_make_up(api: Api) -> None:
    first = api.get("/v1/models/mosi/versions?limit=1")
    second = api.get(f"/v1/models/mosi/versions?limit=1&cursor={first['next']}")
    assert [page["versions"][0]["version"] for page in (first, second)] == [1, 2]
    assert [each["state"] for each in (*first["versions"], *second["versions"])] == ["retired", "live"]
    assert second["next"] is None
    assert api.get("/v1/models/mosi/versions?cursor=abc", 422)
    assert api.get("/v1/models/other/versions", 404)


def test_a_version_comes_with_its_certificates_and_its_end(api: Api) -> None:
    old, new = (api.get(f"/v1/models/mosi/versions/{number}") for number in (1, 2))
    assert (old["certificates"], old["destroyed_at"]) == ([], "2026-03-01T12:00:00Z")
    assert (new["guarantee_class"], new["parent_version"], new["destroyed_at"]) == ("certified", 1, None)
    assert new["certificates"] == [{"id": "mdc-1", "kind": "deletion", "request": "rev-anna"}]
    assert api.get("/v1/models/mosi/versions/1/destruction") == {"payload": ""}
    for path in ("versions/2/destruction", "versions/9", "versions/9/destruction"):
        assert api.get(f"/v1/models/mosi/{path}", 404)["type"] == "/problems/not-found"


def test_a_step_is_answered_for_by_its_certificate(api: Api) -> None:
    (step,) = api.get("/v1/models/mosi/steps?before=1&after=2")["steps"]
    assert (step["before"], step["after"]) == (1, 2)
    assert [each["id"] for each in step["certificates"]] == ["mdc-1"]
    assert api.get("/v1/models/mosi/steps?before=2&after=1", 404)
    assert api.get("/v1/models/mosi/steps?before=0&after=1", 422)


def test_which_models_ever_saw_a_person(api: Api) -> None:
    seen = api.get("/v1/lineage?subject=Anna&modality=audio")["exposures"]
    assert seen == [
        {
            "modality": "audio",
            "line": "mosi",
            "version": 1,
            "state": "retired",
            "ended_by_version": 2,
            "certificate": "mdc-1",
        }
    ]
    assert [each["version"] for each in api.get("/v1/lineage?subject=Ben&model=mosi")["exposures"]] == [1, 2]
    for query in ("subject=Ben&model=other", "subject=Ben&modality=text", "subject=nobody"):
        assert api.get(f"/v1/lineage?{query}") == {"exposures": [], "absences": []}
    assert api.get("/v1/lineage", 422)
    assert api.get("/v1/lineage?subject=Anna&modality=smell", 422)


@pytest.mark.parametrize(
    "path", ["models", "models/mosi/versions", "models/mosi/versions/1", "models/mosi/steps?before=1&after=2"]
)
def test_whoever_lacks_the_scope_is_told_so(api: Api, path: str) -> None:
    api.become(Scope.CREATE, Scope.READ_OWN)
    assert api.get(f"/v1/{path}", 403)["type"] == "/problems/forbidden"


def test_a_person_is_looked_for_by_auditors_alone(api: Api) -> None:
    api.become(Scope.CREATE, Scope.READ_OWN)
    assert api.get("/v1/lineage?subject=Anna", 403)["type"] == "/problems/forbidden"
