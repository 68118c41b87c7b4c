"""What cannot be taken, field by field: a clear problem, nothing changed, and nothing of it said back."""

import json

import pytest

from api.problems import Kind
from mbd.records import requests
from mbd.records.lifecycle import State

LONG = "x" * 5_000
MARK = "mark-that-must-not-come-back"
NAMES = [
    "",
    " ",
    " p07",
    "p07 ",
    "p\u200b07",  # a space that is not seen
    "p\u202e07",  # text that runs the other way
    "e\u0301",  # not in Unicode form NFC
    "p\x00",
    "p\n07",
    "*",
    "x" * 201,
    "\ud800",
]

BODIES = {
    "/v1/revocations": [
        *[({"subject": name, "modalities": ["audio"]}, None) for name in NAMES],
        ({"modalities": ["audio"]}, Kind.UNACCEPTABLE),  # a key that is nobody's person
        ({"subject": MARK}, Kind.INVALID_REQUEST),
        ({"subject": MARK, "modalities": []}, Kind.INVALID_REQUEST),
        ({"subject": MARK, "modalities": ["smell"]}, Kind.INVALID_REQUEST),
        ({"subject": MARK, "modalities": ["Audio"]}, Kind.INVALID_REQUEST),
        ({"subject": MARK, "modalities": "audio"}, Kind.INVALID_REQUEST),
        ({"subject": MARK, "modalities": ["audio"] * 4}, Kind.INVALID_REQUEST),
        ({"subject": [MARK], "modalities": ["audio"]}, Kind.INVALID_REQUEST),
        ({"subject": 7, "modalities": ["audio"]}, Kind.INVALID_REQUEST),
        ({"subject": MARK, "modalities": ["audio"], "regime": ""}, Kind.INVALID_REQUEST),
        ({"subject": MARK, "modalities": ["audio"], "regime": "a b"}, Kind.UNACCEPTABLE),
        ({"subject": MARK, "modalities": ["audio"], "regime": LONG}, Kind.INVALID_REQUEST),
        ({"subject": MARK, "modalities": ["audio"], "contact": "me@example.org"}, Kind.UNACCEPTABLE),  # no notifier
        ({"subject": MARK, "modalities": ["audio"], "contact": 7}, Kind.INVALID_REQUEST),
        ({"subject": MARK, "modalities": ["audio"], "admin": True}, Kind.INVALID_REQUEST),
        ([], Kind.INVALID_REQUEST),
        (None, Kind.INVALID_REQUEST),
        ("x", Kind.INVALID_REQUEST),
    ],
    "/v1/revocations/{id}/verify-identity": [
        ({"code": "1234"}, Kind.INVALID_REQUEST),
        ({"code": 12345678}, Kind.INVALID_REQUEST),
        ({"code": "１２３４５６７８"}, Kind.INVALID_REQUEST),
        ({"code": "12345678"}, Kind.UNACCEPTABLE),  # none was sent
        ({"word": MARK}, Kind.INVALID_REQUEST),
        ([], Kind.INVALID_REQUEST),
    ],
    "/v1/revocations/{id}/deny": [
        ({}, Kind.INVALID_REQUEST),
        ({"reason": MARK}, Kind.INVALID_REQUEST),
        ({"reason": None}, Kind.INVALID_REQUEST),
        ({"reason": ["no_match"]}, Kind.INVALID_REQUEST),
    ],
    "/v1/revocations/{id}/extend": [
        ({}, Kind.INVALID_REQUEST),
        ({"reason": ""}, Kind.INVALID_REQUEST),
        ({"reason": "  "}, Kind.INVALID_REQUEST),
        ({"reason": LONG}, Kind.INVALID_REQUEST),
        ({"reason": 7}, Kind.INVALID_REQUEST),
    ],
    "/v1/revocations/{id}/approve": [(None, Kind.CONFLICT)],  # nobody's identity was verified
    "/v1/revocations/{id}/retry": [(None, Kind.CONFLICT)],  # nothing has failed
    "/v1/revocations/{id}/send-code": [(None, Kind.UNACCEPTABLE)],  # there is no contact
    "/v1/revocations/decisions": [
        ({"ids": [], "decision": "approve"}, Kind.INVALID_REQUEST),
        ({"ids": ["rev-1"], "decision": "approve"}, Kind.INVALID_REQUEST),
        ({"ids": [f"rev-{'0' * 16}"] * 1001, "decision": "approve"}, Kind.INVALID_REQUEST),
        ({"ids": [f"rev-{'0' * 16}"], "decision": "delete"}, Kind.INVALID_REQUEST),
        ({"ids": [f"rev-{'0' * 16}"], "decision": "deny"}, Kind.UNACCEPTABLE),
        ({"ids": [f"rev-{'0' * 16}"], "decision": "deny", "reason": MARK}, Kind.UNACCEPTABLE),
        ({"ids": [f"rev-{'0' * 16}"], "decision": "extend"}, Kind.UNACCEPTABLE),
    ],
}


@pytest.fixture
def officer(api):
    return api.caller("officer")


@pytest.fixture
def filed(officer, people):
    return officer.post("/v1/revocations", {"subject": people[0], "modalities": ["audio"]}).json()["id"]


def send(caller, path, content, content_type="application/json"):
    return caller.client.post(path, content=content, headers=caller.headers | {"content-type": content_type})


def test_every_field_of_every_body_is_looked_at(api, officer, filed, problem, subtests):
    before = officer.get(f"/v1/revocations/{filed}/events").json()
    for path, bodies in BODIES.items():
        for body, expected in bodies:
            with subtests.test(f"{path}: {str(body)[:60]!r}"):
                answer = send(
                    officer,
                    path.format(id=filed),
                    content=None if body is None else json.dumps(body),
                )
                assert problem(answer) in ([expected] if expected else [Kind.UNACCEPTABLE, Kind.INVALID_REQUEST])
                document = answer.json()
                assert document["detail"]
                assert document.get("remedy") or document.get("errors") or expected is Kind.CONFLICT
                assert MARK not in answer.text
                assert LONG not in answer.text
    assert officer.get(f"/v1/revocations/{filed}/events").json() == before
    with api.reading() as connection:
        assert len(requests.in_states(connection, {State.FILED})) == 1


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b'{"subject": NaN}', b"[" * 20_000, b'{"subject": "a", "subject": "b"}', b"null"],
    ids=["empty", "half", "no UTF-8", "NaN", "deep", "twice", "null"],
)
def test_what_is_not_json_is_said_to_be(officer, problem, content):
    assert problem(send(officer, "/v1/revocations", content)) in (Kind.INVALID_REQUEST, Kind.BAD_REQUEST)


@pytest.mark.parametrize("header", ["Basic abc", "Bearer", "Bearer a b", "bearer mbdk_x", "Bearer " + "x" * 30_000])
def test_a_header_that_names_nobody_is_refused(api, problem, header):
    answer = api.client.get("/v1/revocations", headers={"authorization": header})
    assert (answer.status_code, problem(answer)) == (401, Kind.UNAUTHENTICATED)
    assert "www-authenticate" in answer.headers


@pytest.mark.parametrize("key", ["a b", "x" * 256, "ümlaut".encode()])
def test_an_idempotency_key_is_plain_text(officer, people, problem, key):
    answer = officer.client.post(
        "/v1/revocations",
        json={"subject": people[0], "modalities": ["audio"]},
        headers={**officer.headers, "idempotency-key": key},
    )
    assert problem(answer) is Kind.INVALID_REQUEST


def test_a_key_that_was_revoked_or_has_expired_opens_nothing(api, officer, problem, mbd, home):
    listed = mbd("api-keys", "list", "--home", home, "--json").json["keys"]
    assert mbd("api-keys", "revoke", listed[-1]["id"], "--home", home).code == 0
    assert problem(officer.get("/v1/revocations")) is Kind.UNAUTHENTICATED
