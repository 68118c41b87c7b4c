"""Endpoints for call-backs over the API: who may register one, what it is told, and that its secret is shown once."""

import json

import pytest
from sqlalchemy import select
from standardwebhooks import Webhook as Verifier

from api.problems import Kind
from api.routers.callbacks import MOST_ENDPOINTS
from mbd.records import tables
from mbd.records.database import begin_locked
from mbd.workflow.callbacks.opening import open_sender
from mbd.workflow.callbacks.standard import StandardWebhooks

CALLBACKS = "/v1/callbacks"


@pytest.fixture
def hooked(serve, receiver):
    """``with hooked() as api`` serves the deployment and may call the receiver."""
    return lambda: serve(callback_allow=frozenset({receiver.host}))


@pytest.fixture
def api(hooked):
    with hooked() as served:
        yield served


def file(caller, person):
    return caller.post("/v1/revocations", {"subject": person, "modalities": ["audio"]}).json()["id"]


def refused(answer, problem):
    return answer.status_code, problem(answer)


def test_an_officer_is_told_of_every_request_over_a_restart(hooked, receiver, people):
    with hooked() as api:
        officer = api.caller("officer")
        registered = officer.post(CALLBACKS, {"url": receiver.url})
        assert registered.status_code == 201, registered.text
        made = registered.json()
        assert (made["url"], made["revocation_id"], made["disabled_at"]) == (receiver.url, None, None)
        listed = officer.get(CALLBACKS).json()
        assert listed == [{name: value for name, value in made.items() if name != "secret"}]
        filed = file(api.caller("agent"), people[0])
        key = api.get(f"{CALLBACKS}/key").json()["key"]
    with hooked() as api:
        api.caller("officer").post(f"/v1/revocations/{filed}/verify-identity", {})
        assert open_sender(api.office).send_due(limit=10) == 2
        assert api.get(f"{CALLBACKS}/key").json()["key"] == key == StandardWebhooks(api.office.identities).public_key
    for headers, body in receiver.got:
        Verifier(made["secret"]).verify(body, headers)
        assert people[0] not in body.decode()
    states = {json.loads(body)["data"]["event"]: json.loads(body)["data"]["state"] for _, body in receiver.got}
    assert states == {0: "filed", 1: "pending_review"}


def test_who_filed_a_request_is_told_of_it_and_of_no_other(api, receiver, people, problem):
    agent, other = api.caller("agent"), api.caller("agent")
    mine, theirs = file(agent, people[0]), file(other, people[1])
    assert refused(agent.post(CALLBACKS, {"url": receiver.url}), problem) == (403, Kind.FORBIDDEN)
    for unknown in (theirs, "rev-0123456789abcdef"):
        answer = agent.post(CALLBACKS, {"url": receiver.url, "revocation_id": unknown})
        assert refused(answer, problem) == (404, Kind.NOT_FOUND)
    assert agent.post(CALLBACKS, {"url": receiver.url, "revocation_id": mine}).status_code == 201
    person = api.caller("agent", subject=people[1])  # whom a request is about may listen to it too
    assert person.post(CALLBACKS, {"url": receiver.url, "revocation_id": theirs}).status_code == 201
    officer = api.caller("officer")
    officer.post(f"/v1/revocations/{mine}/deny", {"reason": "no_match"})
    open_sender(api.office).send_due(limit=10)
    ((_, body),) = receiver.got
    assert (json.loads(body)["data"]["id"], json.loads(body)["data"]["state"]) == (mine, "denied")


@pytest.mark.parametrize("role", ["auditor", "engineer", None])
def test_others_register_nothing(api, receiver, role, problem):
    caller = api.nobody if role is None else api.caller(role)
    kind = Kind.UNAUTHENTICATED if role is None else Kind.FORBIDDEN
    assert problem(caller.post(CALLBACKS, {"url": receiver.url})) is kind
    assert problem(caller.get(CALLBACKS)) is kind


def test_a_secret_is_shown_once_and_kept_nowhere_in_plain_text(api, receiver):
    officer = api.caller("officer")
    first, again = (officer.post(CALLBACKS, {"url": receiver.url}, key="k") for _ in range(2))
    secret = first.json()["secret"]
    assert secret.startswith("whsec_")
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == first.json() | {"secret": None}
    assert len(officer.get(CALLBACKS).json()) == 1
    with api.reading() as connection:
        for table in (tables.idempotency, tables.webhook, tables.delivery):
            assert secret not in str(connection.execute(select(table)).all())


@pytest.mark.parametrize(
    "url",
    [
        "https://10.0.0.1/the-secret",
        "http://hooks.example.org/the-secret",
        "https://user:the-secret@hooks.example.org/",
        "https://localhost/the-secret",
        "ftp://the-secret",
    ],
)
def test_a_url_that_is_not_called_is_refused_and_not_repeated(api, url, problem):
    answer = api.caller("officer").post(CALLBACKS, {"url": url}, key="k")
    assert refused(answer, problem) == (422, Kind.UNACCEPTABLE)
    assert "the-secret" not in answer.text


def test_an_endpoint_is_ended_by_its_owner_alone(api, receiver, people, problem):
    officer = api.caller("officer")
    made = officer.post(CALLBACKS, {"url": receiver.url}).json()
    file(api.caller("agent"), people[0])
    path = f"{CALLBACKS}/{made['id']}/disable"
    assert refused(api.caller("officer").post(path), problem) == (404, Kind.NOT_FOUND)
    assert refused(officer.post(f"{CALLBACKS}/wh_{'0' * 32}/disable"), problem) == (404, Kind.NOT_FOUND)
    ended = officer.post(path).json()
    assert ended["disabled_because"] == "disabled by its owner"
    assert officer.post(path).json() == ended
    file(api.caller("agent"), people[1])
    assert open_sender(api.office).send_due(limit=10) == 0
    assert receiver.got == []


def test_nobody_has_more_endpoints_than_that(api, receiver, problem):
    officer = api.caller("officer")
    first = officer.post(CALLBACKS, {"url": receiver.url}).json()
    with begin_locked(api.office.engine) as connection:
        row = connection.execute(select(tables.webhook)).one()._asdict()
        for number in range(MOST_ENDPOINTS):  # the last one in another format, which does not count
            form = row["format"] if number < MOST_ENDPOINTS - 1 else "opendsr"
            connection.execute(tables.webhook.insert().values(row | {"id": f"wh_{number:032}", "format": form}))
    assert refused(officer.post(CALLBACKS, {"url": receiver.url}), problem) == (409, Kind.CONFLICT)
    officer.post(f"{CALLBACKS}/{first['id']}/disable")
    assert officer.post(CALLBACKS, {"url": receiver.url}).status_code == 201
    assert len(officer.get(CALLBACKS).json()) == MOST_ENDPOINTS + 1
    assert api.caller("officer").get(CALLBACKS).json() == []
