"""OpenDSR as a controller meets it: requests, signatures that openssl verifies, call-backs over a restart."""

import base64
import json
import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from sqlalchemy import func, select

from mbd.records import contacts, requests, tables
from mbd.records.database import begin_locked
from mbd.records.lifecycle import Action, Denial, State
from mbd.records.requests import WORKER
from mbd.workflow import decisions
from mbd.workflow.callbacks.opening import open_sender

DOMAIN = "opendsr.example.org"
REQUESTS = "/opendsr/v2/requests"


@pytest.fixture
def opendsr(serve):
    """``with opendsr() as api`` serves the deployment as a processor."""
    return lambda **more: serve(opendsr_domain=DOMAIN, **more)


@pytest.fixture
def api(opendsr):
    with opendsr() as served:
        yield served


def identity(value, kind="controller_customer_id", form="raw"):
    return {"identity_type": kind, "identity_value": value, "identity_format": form}


def asking(person, *modalities, **more):
    asked = {
        "subject_request_id": str(uuid.uuid4()),
        "subject_request_type": "erasure",
        "regulation": "ccpa",
        "submitted_time": "2026-03-01T17:00:00.5+05:00",
        "subject_identities": [identity(person)],
        "api_version": "2.0",
        "extensions": {"other.example.com": {"id": 2**64}},
    }
    if modalities:
        asked["extensions"][DOMAIN] = {"modalities": list(modalities)}
    return asked | more


def verify(headers, body, certificate):
    assert headers["x-opendsr-processor-domain"] == DOMAIN
    key = x509.load_pem_x509_certificate(certificate).public_key()
    key.verify(base64.b64decode(headers["x-opendsr-signature"]), body, PKCS1v15(), SHA256())
    return json.loads(body)


def openssl_verifies(run, folder, headers, body, certificate):
    (folder / "certificate.pem").write_bytes(certificate)
    (folder / "body").write_bytes(body)
    (folder / "signature").write_bytes(base64.b64decode(headers["x-opendsr-signature"]))
    key = run("openssl", "x509", "-in", "certificate.pem", "-pubkey", "-noout", cwd=folder)
    (folder / "key.pem").write_text(key.out)
    done = run("openssl", "dgst", "-sha256", "-verify", "key.pem", "-signature", "signature", "body", cwd=folder)
    return done.code == 0


def certificate_of(api):
    answer = api.get("/opendsr/v2/certificate")
    assert answer.status_code == 200
    return answer.content


def signed(api, answer, status):
    assert answer.status_code == status, answer.text
    return verify(answer.headers, answer.content, certificate_of(api))


def error(answer, status):
    """The error object, which says its own status."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json"), answer.text
    found = answer.json()["error"]
    assert found["code"] == status
    assert found["message"]
    assert all(each.keys() == {"domain", "reason", "message"} for each in found["errors"])
    return found


def delete(caller, asked):
    return caller.client.delete(f"{REQUESTS}/{asked['subject_request_id']}", headers=caller.headers)


def status_of(api, caller, asked):
    return signed(api, caller.get(f"{REQUESTS}/{asked['subject_request_id']}"), 200)


def filed(api):
    """All requests that were filed by OpenDSR, in order."""
    with api.reading() as connection:
        ids = connection.scalars(select(tables.opendsr_request.c.revocation_id)).all()
        found = [requests.get(connection, each) for each in ids]
    return sorted(found, key=lambda each: (each.requested_at, each.id))


def test_discovery_says_what_is_supported(api, home):
    found = api.get("/opendsr/v2/discovery").json()
    assert found == {
        "api_version": "2.0",
        "supported_identities": [{"identity_type": "controller_customer_id", "identity_format": "raw"}],
        "supported_subject_request_types": ["erasure"],
        "processor_certificate": f"https://{DOMAIN}/opendsr/v2/certificate",
    }
    certificate = x509.load_pem_x509_certificate(certificate_of(api))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [DOMAIN]
    assert certificate.public_key().key_size == 3072
    assert (home / "keys" / "opendsr.pem").stat().st_mode & 0o777 == 0o600


def test_without_a_domain_there_is_no_processor(serve, home):
    with serve() as api:
        for path in ("discovery", "certificate", f"requests/{uuid.uuid4()}"):
            assert "not configured" in error(api.get(f"/opendsr/v2/{path}"), 404)["message"]
    assert not (home / "keys" / "opendsr.pem").exists()


def test_a_receipt_is_signed_and_given_again(api, people, run, tmp_path):
    controller, asked = api.caller("agent"), asking(people[0], "audio", "text")
    answer = controller.post(REQUESTS, asked)
    receipt = signed(api, answer, 201)
    assert openssl_verifies(run, tmp_path, answer.headers, answer.content, certificate_of(api))
    assert not openssl_verifies(run, tmp_path, answer.headers, answer.content + b" ", certificate_of(api))
    with pytest.raises(InvalidSignature):
        verify(answer.headers, answer.content + b" ", certificate_of(api))
    assert base64.b64decode(receipt["encoded_request"]) == answer.request.content
    assert receipt["subject_request_id"] == asked["subject_request_id"]
    (revocation,) = filed(api)
    assert (revocation.state, revocation.regime) == (State.FILED, "ccpa")
    assert {channel.modality for channel in revocation.scope} == {"audio", "text"}
    assert revocation.subject_key == api.office.identities.subject_key(people[0])
    assert receipt["received_time"] == f"{revocation.requested_at:%Y-%m-%dT%H:%M:%SZ}"
    assert receipt["expected_completion_time"] == f"{revocation.due}T23:59:59Z"
    assert receipt["controller_id"] == revocation.filed_by
    assert controller.post(REQUESTS, asked).content == answer.content  # RSA PKCS#1 v1.5 has no chance in it
    with api.reading() as connection:
        row = connection.execute(select(tables.opendsr_request)).one()
    assert row.submitted_at.isoformat() == "2026-03-01T12:00:00+00:00"
    assert people[0] not in str(row)


def test_an_id_is_one_request_of_one_controller(api, people):
    one, other = api.caller("agent"), api.caller("agent")
    asked = asking(people[0])
    signed(api, one.post(REQUESTS, asked), 201)
    assert "used for another" in error(one.post(REQUESTS, asked | {"regulation": "gdpr"}), 400)["message"]
    error(other.get(f"{REQUESTS}/{asked['subject_request_id']}"), 404)
    error(delete(other, asked), 404)
    error(api.caller("officer").get(f"{REQUESTS}/{asked['subject_request_id']}"), 404)
    signed(api, other.post(REQUESTS, asked), 201)
    assert len(filed(api)) == 2
    assert {len(each.scope) for each in filed(api)} == {3}  # without an extension all that there is


def test_one_that_is_sent_many_times_at_once_is_filed_once(api, people):
    controller, asked = api.caller("agent"), asking(people[0])
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: controller.post(REQUESTS, asked), range(4)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == len(filed(api)) == 1


def test_every_change_is_called_back_over_a_restart(opendsr, receiver, people, run, tmp_path):
    more = {"callback_allow": frozenset({receiver.host}), "public_url": "https://mbd.example.org/"}
    with opendsr(**more) as api:
        controller, officer = api.caller("agent"), api.caller("officer")
        asked = asking(people[0], "audio", status_callback_urls=[receiver.url] * 2)
        signed(api, controller.post(REQUESTS, asked), 201)
        certificate = certificate_of(api)
        (revocation,) = filed(api)
        officer.post(f"/v1/revocations/{revocation.id}/verify-identity", {})
    with opendsr(**more) as api:
        sender = open_sender(api.office)
        assert sender.send_due(limit=10) == 1
        officer = api.caller("officer")
        assert officer.post(f"/v1/revocations/{revocation.id}/approve").status_code == 200
        assert sender.send_due(limit=10) == 1
        for action in (Action.START, Action.COMPLETE):
            with begin_locked(api.office.engine) as connection:
                requests.act(connection, revocation.id, action, by=WORKER, at=api.office.clock())
        assert sender.send_due(limit=10) == 2
        assert certificate_of(api) == certificate
    said = [verify(headers, body, certificate) for headers, body in receiver.got]
    # What is late says how things are: both of the last ones were sent after the end.
    assert [each["request_status"] for each in said] == ["pending", "in_progress", "completed", "completed"]
    assert said[-1] == {
        "api_version": "2.0",
        "controller_id": revocation.filed_by,
        "expected_completion_time": f"{revocation.due}T23:59:59Z",
        "request_status": "completed",
        "results_url": f"https://mbd.example.org/v1/revocations/{revocation.id}",
        "status_callback_url": receiver.url,
        "subject_request_id": asked["subject_request_id"],
    }
    assert "results_url" not in said[0]
    headers, body = receiver.got[0]
    assert headers["content-type"] == "application/json"
    assert openssl_verifies(run, tmp_path, headers, body, certificate)


def test_a_controllers_word_counts_where_that_is_set(opendsr, receiver, people):
    with opendsr(opendsr_vouched=True, callback_allow=frozenset({receiver.host})) as api:
        controller = api.caller("agent")
        first, again = (asking(people[0], "audio", status_callback_urls=[receiver.url]) for _ in range(2))
        signed(api, controller.post(REQUESTS, first), 201)
        with api.reading() as connection:
            (only,) = filed(api)
            step = requests.events(connection, only.id)[-1]
        assert (step.state, step.reason) == (State.PENDING_REVIEW, "the controller's word (OpenDSR)")
        signed(api, controller.post(REQUESTS, again), 201)
        assert [status_of(api, controller, each)["request_status"] for each in (first, again)] == [
            "pending",
            "cancelled",
        ]
        sent = open_sender(api.office).send_due(limit=10)
        assert sent == len(receiver.got) == 3
        told = {
            (each["subject_request_id"], each["request_status"])
            for _, body in receiver.got
            if (each := json.loads(body))
        }
        assert told == {(first["subject_request_id"], "pending"), (again["subject_request_id"], "cancelled")}


def test_a_request_is_taken_back_while_it_is_pending(api, people):
    controller, officer = api.caller("agent"), api.caller("officer")
    early, late = asking(people[0], "text"), asking(people[1], "text")
    for asked in (early, late):
        signed(api, controller.post(REQUESTS, asked), 201)
    answer = delete(controller, early)
    cancelled = signed(api, answer, 202)
    assert cancelled.keys() == {"controller_id", "subject_request_id", "received_time", "api_version"}
    assert cancelled["subject_request_id"] == early["subject_request_id"]
    assert status_of(api, controller, early)["request_status"] == "cancelled"
    assert delete(controller, early).content == answer.content
    (revocation,) = (each for each in filed(api) if each.state is State.FILED)
    for action in ("verify-identity", "approve"):
        body = {} if action == "verify-identity" else None
        assert officer.post(f"/v1/revocations/{revocation.id}/{action}", body).status_code == 200
    assert status_of(api, controller, late)["request_status"] == "in_progress"
    assert error(delete(controller, late), 409)["message"] == "The request is not pending any more."


def test_a_denial_reads_as_cancelled_and_says_where_the_reason_is(opendsr, people):
    with opendsr(public_url="https://mbd.example.org") as api:
        controller, asked = api.caller("agent"), asking(people[0])
        signed(api, controller.post(REQUESTS, asked), 201)
        (revocation,) = filed(api)
        by = decisions.COMMAND_LINE
        with begin_locked(api.office.engine) as connection:
            decisions.deny(api.office, connection, revocation.id, by=by, reason=Denial.SUSPECTED_FRAUD)
        found = status_of(api, controller, asked)
        assert found["request_status"] == "cancelled"
        path = found["results_url"].removeprefix("https://mbd.example.org")
        assert controller.get(path).json()["state"] == "denied"


def test_an_address_is_taken_where_messages_can_be_sent(opendsr, people, tmp_path):
    (tmp_path / "out").mkdir(mode=0o700)
    with opendsr(notifier=f"folder:{tmp_path / 'out'}") as api:
        found = api.get("/opendsr/v2/discovery").json()["supported_identities"]
        assert [each["identity_type"] for each in found] == ["controller_customer_id", "email"]
        identities = [identity("ann@example.org", "email"), identity(people[0])]
        signed(api, api.caller("agent").post(REQUESTS, asking(people[0], subject_identities=identities)), 201)
        (revocation,) = filed(api)
        assert revocation.state is State.IDENTITY_UNVERIFIED
        with api.reading() as connection:
            contact = contacts.get(connection, revocation.id)
        assert api.office.identities.open(contact.sealed, revocation.id) == b"ann@example.org"


WRONG = {
    "no regulation": {"regulation": None},
    "another regulation": {"regulation": "secret-lgpd"},
    "access": {"subject_request_type": "access"},
    "an id that is no UUID": {"subject_request_id": "secret-1"},
    "an id in capitals": {"subject_request_id": str(uuid.uuid4()).upper()},
    "an old version": {"api_version": "1.0"},
    "no identity": {"subject_identities": []},
    "nobody's name": {"subject_identities": [identity(" secret ")]},
    "two people": {"subject_identities": [identity("secret-1"), identity("secret-2")]},
    "an address alone": {"subject_identities": [identity("secret@example.org", "email")]},
    "an address where nothing is sent": {
        "subject_identities": [identity("s"), identity("secret@example.org", "email")]
    },
    "a hash": {"subject_identities": [identity("secret", form="sha256")]},
    "an advertising id": {"subject_identities": [identity("s"), identity("secret", "android_id")]},
    "a time without a zone": {"submitted_time": "2026-03-01T12:00:00"},
    "a time as a number": {"submitted_time": 1772366400},
    "a time that is not yet": {"submitted_time": "2999-01-01T00:00:00Z"},
    "a time that UTC has not": {"submitted_time": "0001-01-01T00:00:00+14:00"},
    "no modality": {"extensions": {DOMAIN: {"modalities": []}}},
    "an unknown modality": {"extensions": {DOMAIN: {"modalities": ["secret"]}}},
    "more in our extension": {"extensions": {DOMAIN: {"modalities": ["audio"], "secret": 1}}},
    "a private address": {"status_callback_urls": ["https://10.0.0.1/?secret"]},
    "a plain URL": {"status_callback_urls": ["http://hooks.example.org/?secret"]},
    "many URLs": {"status_callback_urls": ["https://hooks.example.org/?secret"] * 11},
}


def test_what_cannot_be_done_is_refused_in_their_words_and_not_repeated(api, people, subtests):
    controller = api.caller("agent")
    for name, change in WRONG.items():
        with subtests.test(name):
            answer = controller.post(REQUESTS, asking(people[0]) | change)
            error(answer, 400)
            assert "secret" not in answer.text
    for raw in (b"", b"{", b'"\xff"', b"[" * 10_000):
        answer = api.client.post(
            REQUESTS, content=raw, headers=controller.headers | {"content-type": "application/json"}
        )
        error(answer, 400)
    large = api.client.post(REQUESTS, content=iter([bytes(1 << 16)] * 17), headers=controller.headers)
    error(large, 413)
    assert filed(api) == []
    with api.reading() as connection:
        assert connection.scalar(select(func.count()).select_from(tables.webhook)) == 0


def test_whoever_may_not_is_told_so_in_their_words(api, people):
    answer = api.nobody.post(REQUESTS, asking(people[0]))
    error(answer, 401)
    assert answer.headers["www-authenticate"] == "Bearer"
    error(api.with_token("mbdk_unknown").get(f"{REQUESTS}/{uuid.uuid4()}"), 401)
    error(api.caller("auditor").post(REQUESTS, asking(people[0])), 403)
    error(api.caller("agent").get(f"{REQUESTS}/{uuid.uuid4()}"), 404)
    error(api.caller("agent").get(f"{REQUESTS}/1"), 400)


def test_a_database_that_is_away_is_said_in_their_words(api, home):
    controller = api.caller("agent")
    api.office.engine.dispose()
    for file in home.glob("mbd.sqlite3*"):
        file.unlink()
    answer = controller.get(f"{REQUESTS}/{uuid.uuid4()}")
    assert "sqlite" not in answer.text
    error(answer, 503)
    assert answer.headers["retry-after"]


def test_the_manuals_controller_runs(opendsr, receiver, people):
    page = Path(__file__).resolve().parents[3] / "docs" / "opendsr.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    example = {}
    exec(compile(code, str(page), "exec"), example)  # noqa: S102 - our own page
    with opendsr(opendsr_vouched=True, callback_allow=frozenset({receiver.host})) as api:
        api.client.headers.update(api.caller("agent").headers)
        status = example["withdraw_voice"](api.client, DOMAIN, people[0], receiver.url)
        assert status.json()["request_status"] == "pending"
        open_sender(api.office).send_due(limit=10)
        ((headers, body),) = receiver.got
        certificate = certificate_of(api)
        assert json.loads(example["verified"](headers, body, certificate))["request_status"] == "pending"
        with pytest.raises(InvalidSignature):
            example["verified"](headers, body + b" ", certificate)
        (revocation,) = filed(api)
        assert {channel.modality for channel in revocation.scope} == {"audio"}
