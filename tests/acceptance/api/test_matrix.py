"""Role x route x owner: nobody sees or does what is not theirs."""

import uuid
from itertools import product

import pytest

from mbd.cli.api_keys import ROLES

NOBODY, PERSON, OTHER = "nobody", "person", "other person"
CALLERS = (NOBODY, PERSON, OTHER, *ROLES)

# Of each route, who may call it about a request that an agent has filed for a person: everybody else is refused.
PUBLIC = frozenset(CALLERS)
MINE = frozenset({PERSON, "agent"})  # the agent filed it for the person
SEERS = MINE | {"officer", "auditor", "engineer"}
OFFICERS = frozenset({"officer"})
FILERS = frozenset({PERSON, OTHER, "agent", "officer"})
MODELS = frozenset({"officer", "auditor", "engineer"})

ALLOWED = {
    ("GET", "/healthz"): PUBLIC,
    ("GET", "/readyz"): PUBLIC,
    ("GET", "/metrics"): frozenset({"monitor"}),
    ("GET", "/problems/{name}"): PUBLIC,
    ("GET", "/checkpoint"): PUBLIC,
    ("GET", "/tile/{path}"): PUBLIC,
    ("GET", "/.well-known/trusted_root.json"): PUBLIC,
    ("POST", "/v1/certificates/verify"): PUBLIC,
    ("GET", "/v1/certificates/{certificate_id}"): PUBLIC,
    ("GET", "/v1/certificates/{certificate_id}/statement"): PUBLIC,
    ("GET", "/v1/certificates/{certificate_id}/tlog-proof"): PUBLIC,
    ("POST", "/v1/revocations"): FILERS,
    ("GET", "/v1/revocations"): FILERS | SEERS,
    ("GET", "/v1/revocations/{revocation_id}"): SEERS,
    ("GET", "/v1/revocations/{revocation_id}/events"): SEERS,
    ("POST", "/v1/revocations/{revocation_id}/verify-identity"): MINE | OFFICERS,
    ("POST", "/v1/revocations/{revocation_id}/send-code"): MINE | OFFICERS,
    ("POST", "/v1/revocations/{revocation_id}/approve"): OFFICERS,
    ("POST", "/v1/revocations/{revocation_id}/deny"): OFFICERS,
    ("POST", "/v1/revocations/{revocation_id}/extend"): OFFICERS,
    ("POST", "/v1/revocations/{revocation_id}/cancel"): MINE,
    ("POST", "/v1/revocations/{revocation_id}/retry"): OFFICERS,
    ("POST", "/v1/revocations/decisions"): OFFICERS,
    ("GET", "/v1/models"): MODELS,
    ("GET", "/v1/models/{line}/versions"): MODELS,
    ("GET", "/v1/models/{line}/versions/{number}"): MODELS,
    ("GET", "/v1/models/{line}/versions/{number}/destruction"): MODELS,
    ("GET", "/v1/models/{line}/steps"): MODELS,
    ("GET", "/v1/lineage"): MODELS,
    ("POST", "/v1/predictions"): frozenset({"engineer"}),
    ("POST", "/v1/callbacks"): MINE | OFFICERS,
    ("GET", "/v1/callbacks"): FILERS,
    ("GET", "/v1/callbacks/key"): PUBLIC,
    ("POST", "/v1/callbacks/{callback_id}/disable"): frozenset({"agent"}),  # who registered it
    ("GET", "/opendsr/v2/discovery"): PUBLIC,
    ("GET", "/opendsr/v2/certificate"): PUBLIC,
    ("POST", "/opendsr/v2/requests"): FILERS,
    ("GET", "/opendsr/v2/requests/{subject_request_id}"): frozenset({"agent"}),  # the controller who filed it
    ("DELETE", "/opendsr/v2/requests/{subject_request_id}"): frozenset({"agent"}),
}

QUERY = {
    "/v1/lineage": {"subject": "somebody", "modality": "audio"},
    "/v1/models/{line}/steps": {"before": 1, "after": 2},
}

REFUSED = {401, 403, 404}
"""Not known, not allowed, or not there for whoever asks."""


@pytest.fixture
def api(serve):
    with serve(opendsr_domain="opendsr.example.org", callback_allow=["127.0.0.1:9"]) as served:
        yield served


@pytest.fixture
def callers(api, people):
    return {
        NOBODY: api.nobody,
        PERSON: api.caller("agent", subject=people[0]),
        OTHER: api.caller("agent", subject=people[1]),
        **{role: api.caller(role) for role in ROLES},
    }


def routes(api):
    found = api.client.get("/openapi.json").json()["paths"]
    return {(method.upper(), path): one for path, ways in found.items() for method, one in ways.items()}


class Things:
    """What the routes are about, made anew for whoever asks next: one call may change it."""

    def __init__(self, agent, person, certificate):
        self.agent, self.person = agent, person
        self.known = {"certificate_id": certificate, "line": "demo", "number": 1, "name": "not-found"}
        self.known |= {"path": "entries/000.p/2"}

    def filed(self):
        return self.agent.post("/v1/revocations", {"subject": self.person, "modalities": ["audio"]}).json()["id"]

    def place(self, path, filed):
        found = self.known | {"revocation_id": filed}
        if "{callback_id}" in path:
            found["callback_id"] = self.agent.post("/v1/callbacks", self.endpoint(filed)).json()["id"]
        if "{subject_request_id}" in path:
            asked = self.erasure()
            assert self.agent.post("/opendsr/v2/requests", asked).status_code == 201
            found["subject_request_id"] = asked["subject_request_id"]
        return path.format(**found)

    def endpoint(self, filed):
        return {"url": "http://127.0.0.1:9/", "revocation_id": filed}

    def erasure(self):
        who = {"identity_type": "controller_customer_id", "identity_value": self.person, "identity_format": "raw"}
        return {
            "subject_request_id": str(uuid.uuid4()),
            "subject_request_type": "erasure",
            "regulation": "ccpa",
            "submitted_time": "2026-03-01T17:00:00Z",
            "subject_identities": [who],
            "api_version": "2.0",
        }

    def body(self, path, filed):
        clip = {"subject": self.person, "channels": {"audio": [0.0]}}
        return {
            "/v1/revocations": {"subject": self.person, "modalities": ["audio"]},
            "/v1/revocations/decisions": {"ids": [filed], "decision": "deny", "reason": "other"},
            "/v1/callbacks": self.endpoint(filed),
            "/v1/predictions": {"line": "none", "clips": [clip]},
            "/opendsr/v2/requests": self.erasure(),
            "/v1/revocations/{revocation_id}/deny": {"reason": "other"},
            "/v1/revocations/{revocation_id}/extend": {"reason": "many"},
            "/v1/revocations/{revocation_id}/cancel": {},
            "/v1/revocations/{revocation_id}/verify-identity": {},
        }.get(path)


def test_nobody_does_what_is_not_theirs(api, callers, people, subtests, home):
    (certificate,) = (folder.name for folder in (home / "certificates").iterdir())
    things = Things(callers["agent"], people[0], certificate)
    assert set(routes(api)) == set(ALLOWED), "every route has a row in this matrix"
    for (method, path), caller in product(ALLOWED, CALLERS):
        filed, who = things.filed(), callers[caller]
        place, body = things.place(path, filed), things.body(path, filed)
        answer = who.client.request(method, place, json=body, headers=who.headers, params=QUERY.get(path))
        with subtests.test(f"{caller}: {method} {path}"):
            if caller in ALLOWED[method, path]:
                assert answer.status_code not in REFUSED, answer.text
            else:
                assert answer.status_code in REFUSED, answer.text
                assert people[0] not in answer.text


def test_what_one_may_not_see_and_what_there_is_not_look_alike(api, callers, people):
    filed = callers[PERSON].post("/v1/revocations", {"modalities": ["audio"]}).json()
    for action in ("", "/events"):
        hidden = callers[OTHER].get(f"/v1/revocations/{filed['id']}{action}")
        missing = callers[OTHER].get(f"/v1/revocations/rev-{'0' * 16}{action}")
        assert (hidden.status_code, hidden.content) == (missing.status_code, missing.content) == (404, missing.content)
    assert callers[OTHER].get("/v1/revocations").json()["revocations"] == []
