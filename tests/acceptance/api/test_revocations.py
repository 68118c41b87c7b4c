"""Requests over the API: filed, verified, decided and followed."""

import json
import re
import time
from datetime import timedelta

import pytest

from api.problems import Kind
from mbd.records import contacts, requests
from mbd.records.lifecycle import Denial, State
from mbd.records.suppression import Channel, suppressions
from mbd.workflow.clerk import Clerk


@pytest.fixture
def officer(api):
    return api.caller("officer")


@pytest.fixture
def agent(api):
    return api.caller("agent")


def file(caller, subject, *modalities, **more):
    answer = caller.post("/v1/revocations", {"subject": subject, "modalities": list(modalities or ["audio"]), **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


def do(caller, request, action, body=None):
    return caller.post(f"/v1/revocations/{request['id']}/{action}", body)


def test_an_agent_files_an_officer_attests_and_approves(api, agent, officer, people):
    filed = file(agent, people[0], "audio", "text")
    assert (filed["state"], filed["modalities"], filed["certificates"]) == ("filed", ["audio", "text"], [])
    assert do(officer, filed, "verify-identity", {}).json()["state"] == "pending_review"
    seen = officer.get(f"/v1/revocations/{filed['id']}").json()
    assert (seen["lines_holding"], seen["identity"]) == (["demo"], "attested by an officer")
    assert "lines_holding" not in agent.get(f"/v1/revocations/{filed['id']}").json()
    key = api.office.identities.subject_key(people[0])
    with api.reading() as connection:
        assert not suppressions(connection).covers(Channel(key, "audio"))
    assert do(officer, filed, "approve").json()["state"] == "approved"
    with api.reading() as connection:
        assert suppressions(connection).covers(Channel(key, "audio"))
    events = agent.get(f"/v1/revocations/{filed['id']}/events").json()
    assert [step["action"] for step in events] == ["file", "verify_identity", "approve"]
    assert [step["role"] for step in events] == ["subject", "officer", "officer"]


def test_a_login_as_the_person_is_a_proof(api, officer, people):
    person = api.caller("agent", subject=people[0])
    filed = person.post("/v1/revocations", {"modalities": ["vision"]}).json()
    assert filed["state"] == "pending_review"
    assert [each["id"] for each in person.get("/v1/revocations").json()["revocations"]] == [filed["id"]]
    # what others filed in their name is theirs too, and needs the proof
    others = file(api.caller("agent"), people[0], "audio")
    assert others["state"] == "filed"
    assert do(person, others, "verify-identity", {}).json()["state"] == "pending_review"


def test_a_derived_channel_is_suppressed_with_its_source(api, officer, people):
    """The demo's cohort says which; where none falls, only what was asked is suppressed."""
    filed = file(officer, people[0])
    do(officer, filed, "verify-identity", {})
    do(officer, filed, "approve")
    with api.reading() as connection:
        listed = suppressions(connection).channels
    key = api.office.identities.subject_key(people[0])
    assert {channel.modality for channel in listed if channel.subject_key == key} == {"audio"}


def test_a_stranger_blocks_nobody(api, agent, officer, people):
    stranger, person = file(agent, people[0]), api.caller("agent", subject=people[0])
    mine = person.post("/v1/revocations", {"modalities": ["audio"]}).json()
    assert mine["state"] == "pending_review"  # not a duplicate of what nobody has verified
    assert do(officer, stranger, "verify-identity", {}).json()["state"] == "duplicate"
    events = agent.get(f"/v1/revocations/{stranger['id']}/events").json()
    assert events[-1]["reason"] == mine["id"]


def test_a_name_that_no_model_knows_is_told_to_officers_alone(agent, officer, problem):
    filed = file(agent, "nobody-of-that-name")
    assert filed["state"] == "filed"
    do(officer, filed, "verify-identity", {})
    refused = do(officer, filed, "approve")
    assert (refused.status_code, problem(refused)) == (409, Kind.CONFLICT)
    assert "no_match" in refused.json()["remedy"]
    assert do(officer, filed, "deny", {"reason": "no_match"}).json()["state"] == "denied"


@pytest.mark.parametrize("reason", list(Denial))
def test_a_denial_has_a_reason_of_the_protocol(agent, officer, people, reason):
    assert do(officer, file(agent, people[0]), "deny", {"reason": reason}).json()["state"] == "denied"


def test_an_extension_is_taken_once_with_a_reason(api, agent, officer, people, problem):
    filed = file(agent, people[0])
    extended = do(officer, filed, "extend", {"reason": "many at once"}).json()
    assert extended["extended"]
    assert extended["due"] > filed["due"]
    assert problem(do(officer, filed, "extend", {"reason": "again"})) is Kind.CONFLICT


def test_cancelling_is_for_the_person_until_the_work_begins(api, agent, officer, people, problem):
    filed = file(agent, people[0])
    assert problem(do(officer, filed, "cancel", {})) is Kind.FORBIDDEN
    do(officer, filed, "verify-identity", {})
    do(officer, filed, "approve")
    assert do(agent, filed, "cancel", {"reason": "changed my mind"}).json()["state"] == "cancelled"
    with api.reading() as connection:
        key = api.office.identities.subject_key(people[0])
        assert not suppressions(connection).covers(Channel(key, "audio"))
    assert problem(do(agent, filed, "cancel", {})) is Kind.CONFLICT


def test_who_files_does_not_approve_where_two_are_wanted(serve, people, problem):
    with serve(four_eyes=True) as api:
        officer = api.caller("officer")
        filed = file(officer, people[0])
        assert do(officer, filed, "verify-identity", {}).json()["state"] == "pending_review"
        assert problem(do(officer, filed, "approve")) is Kind.CONFLICT
        assert do(api.caller("officer"), filed, "approve").json()["state"] == "approved"


def test_many_are_decided_at_once_and_one_that_cannot_be_stops_none(agent, officer, people):
    ids = [file(agent, person)["id"] for person in people[:3]]
    for each in ids[:2]:
        officer.post(f"/v1/revocations/{each}/verify-identity", {})
    body = {"ids": [*ids, "rev-0000000000000000"], "decision": "approve"}
    decided = officer.post("/v1/revocations/decisions", body).json()["decided"]
    assert [each["state"] for each in decided] == ["approved", "approved", "filed", None]
    assert [each["problem"] is None for each in decided] == [True, True, False, False]
    body = {"ids": ids[2:], "decision": "deny", "reason": "suspected_fraud"}
    assert officer.post("/v1/revocations/decisions", body).json()["decided"][0]["state"] == "denied"


def test_a_post_sent_again_with_its_key_is_done_once(api, agent, people, problem):
    body = {"subject": people[0], "modalities": ["audio"]}
    first = agent.post("/v1/revocations", body, key="one")
    again = agent.post("/v1/revocations", body, key="one")
    assert again.status_code == 201
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    other = agent.post("/v1/revocations", body | {"modalities": ["text"]}, key="one")
    assert (other.status_code, problem(other)) == (422, Kind.KEY_REUSED)
    # a key is its caller's: another one's request with it is another request
    assert api.caller("agent").post("/v1/revocations", body, key="one").json()["id"] != first.json()["id"]
    with api.reading() as connection:
        assert len(requests.in_states(connection, {State.FILED})) == 2


def test_a_refused_request_may_be_mended_and_sent_with_the_same_key(agent, people, problem):
    refused = agent.post("/v1/revocations", {"subject": " x", "modalities": ["audio"]}, key="k")
    assert problem(refused) is Kind.UNACCEPTABLE
    assert agent.post("/v1/revocations", {"subject": people[0], "modalities": ["audio"]}, key="k").status_code == 201


def test_pages_show_every_request_once_while_others_are_filed(api, agent, officer, people, problem):
    filed = [file(agent, people[0])["id"] for _ in range(7)]
    seen, cursor = [], None
    while True:
        more = {} if cursor is None else {"cursor": cursor}
        page = agent.get("/v1/revocations", params={"limit": 2, **more}).json()
        seen += [each["id"] for each in page["revocations"]]
        file(agent, people[0])
        if (cursor := page["next"]) is None:
            break
    assert len(set(seen)) == len(seen)
    assert set(filed) <= set(seen)  # and perhaps what came within the same second
    page = agent.get("/v1/revocations", params={"limit": 2}).json()
    for wrong in (page["next"][:-2] + "AA", "x", ""):
        assert problem(agent.get("/v1/revocations", params={"cursor": wrong})) is Kind.UNACCEPTABLE
    # another caller's list is another list
    assert problem(officer.get("/v1/revocations", params={"cursor": page["next"]})) is Kind.UNACCEPTABLE


def test_the_most_urgent_come_first(api, agent, officer, people):
    later, sooner = file(agent, people[0], regime="ccpa"), file(agent, people[0], regime="gdpr")
    listed = officer.get("/v1/revocations", params={"sort": "due", "state": "filed"}).json()["revocations"]
    assert [each["id"] for each in listed] == [sooner["id"], later["id"]]
    assert later["acknowledge_by"] is not None
    assert listed[0]["days_left"] <= timedelta(days=35).days


def test_no_answer_names_a_person(api, agent, officer, people):
    filed = file(agent, people[0])
    for path in (f"/v1/revocations/{filed['id']}", f"/v1/revocations/{filed['id']}/events", "/v1/revocations"):
        for caller in (agent, officer):
            text = json.dumps(caller.get(path).json())
            assert people[0] not in text
            assert api.office.identities.subject_key(people[0]) not in text


def test_a_code_that_was_sent_proves_who_reads_it(serve, people, tmp_path, problem):
    mail = tmp_path / "mail"
    mail.mkdir()
    with serve(notifier=f"folder:{mail}") as api, Clerk(api.office):
        agent = api.caller("agent")
        filed = file(agent, people[0], contact="me@example.org")
        assert filed["state"] == "identity_unverified"
        code = None
        while code is None:
            letters = [letter.read_text() for letter in mail.iterdir() if not letter.name.startswith(".")]
            code = next((found[0] for letter in letters if (found := re.search(r"\b[0-9]{8}\b", letter))), None)
            time.sleep(0.02)
        wrong = do(agent, filed, "verify-identity", {"code": f"{(int(code) + 1) % 10**8:08}"})
        assert problem(wrong) is Kind.UNACCEPTABLE
        assert do(agent, filed, "verify-identity", {"code": code}).json()["state"] == "pending_review"
        with api.reading() as connection:
            assert contacts.get(connection, filed["id"]).wrong_codes == 1
