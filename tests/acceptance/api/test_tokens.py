"""Tokens of an OpenID Connect provider, which is a real server with a real key set."""

import hmac
import json
import time
from base64 import b64encode, urlsafe_b64encode
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from api.limits import FAILURES_PER_MINUTE
from api.problems import Kind

AUDIENCE = "https://mbd.example.org"


class Provider:
    """An identity provider: its discovery document, and the public halves of its keys."""

    def __init__(self):
        self.keys = [ECKey.generate_key("P-256", {"kid": "one"})]
        self.asked = []
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                provider.asked.append(self.path)
                documents = {
                    "/.well-known/openid-configuration": {
                        "issuer": provider.issuer,
                        "jwks_uri": f"{provider.issuer}/keys",
                    },
                    "/keys": {"keys": [key.as_dict(private=False) for key in provider.keys]},
                }
                body = json.dumps(documents[self.path]).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"

    def token(self, *, key=None, algorithm="ES256", header=None, **claims):
        key, now = key or self.keys[-1], int(time.time())
        said = {"iss": self.issuer, "aud": AUDIENCE, "sub": "u-1", "iat": now, "exp": now + 300, "scope": ""} | claims
        said = {name: value for name, value in said.items() if value is not None}
        protected = {"alg": algorithm, "kid": key.kid} | (header or {})
        return jwt.encode(protected, said, key, algorithms=[algorithm])


@contextmanager
def running():
    provider = Provider()
    thread = Thread(target=provider.server.serve_forever)
    thread.start()
    try:
        yield provider
    finally:
        provider.server.shutdown()
        provider.server.server_close()
        thread.join()


@pytest.fixture
def provider():
    with running() as started:
        yield started


@pytest.fixture
def api(serve, provider):
    with serve(oidc_issuer=provider.issuer, oidc_audience=AUDIENCE, oidc_subject_claim="name_in_cohort") as served:
        yield served


CREATE = "revocations:create"


def status(api, token, problem):
    answer = api.with_token(token).get("/v1/revocations")
    return answer.status_code if answer.status_code == 200 else problem(answer)


def test_a_login_files_for_itself(api, provider, people):
    person = api.with_token(provider.token(scope=CREATE, name_in_cohort=people[0]))
    filed = person.post("/v1/revocations", {"modalities": ["audio"]}).json()
    assert filed["state"] == "pending_review"
    events = person.get(f"/v1/revocations/{filed['id']}/events").json()
    assert events[0]["actor"].startswith("token-")
    assert "u-1" not in json.dumps(events)
    # another login of the same person sees it, and one of another person does not
    again = api.with_token(provider.token(scope=CREATE, sub="u-1", name_in_cohort=people[0]))
    other = api.with_token(provider.token(scope=CREATE, sub="u-2", name_in_cohort=people[1]))
    assert len(again.get("/v1/revocations").json()["revocations"]) == 1
    assert other.get("/v1/revocations").json()["revocations"] == []


def test_a_login_for_somebody_else_proves_nothing(api, provider, people):
    person = api.with_token(provider.token(scope=CREATE, name_in_cohort=people[0]))
    filed = person.post("/v1/revocations", {"subject": people[1], "modalities": ["audio"]}).json()
    assert filed["state"] == "filed"


def test_a_token_that_is_not_for_us_or_not_now_opens_nothing(api, provider, problem, subtests):
    assert status(api, provider.token(scope=CREATE), problem) == 200
    for wrong in (
        {"exp": 1},
        {"exp": None},
        {"nbf": 1 << 33},
        {"aud": "https://other.example.org"},
        {"aud": None},
        {"iss": "https://other.example.org"},
        {"iss": None},
        {"sub": None},
        {"sub": 7},
        {"scope": [CREATE]},
    ):
        with subtests.test(str(wrong)):
            assert status(api, provider.token(**{"scope": CREATE} | wrong), problem) is Kind.UNAUTHENTICATED


def test_a_clock_that_is_a_little_wrong_is_forgiven(api, provider, problem):
    now = int(time.time())
    assert status(api, provider.token(scope=CREATE, exp=now - 30, nbf=now + 30), problem) == 200
    assert status(api, provider.token(scope=CREATE, exp=now - 90), problem) is Kind.UNAUTHENTICATED


def test_a_signature_of_another_key_or_of_none_opens_nothing(api, provider, problem):
    stranger = ECKey.generate_key("P-256", {"kid": "one"})
    assert status(api, provider.token(scope=CREATE, key=stranger), problem) is Kind.UNAUTHENTICATED
    right = provider.token(scope=CREATE)
    head, body, signature = right.split(".")
    for forged in (
        f"{head}.{body}.",
        f"{head}.{body}.{signature[:-4]}AAAA",
        f"eyJhbGciOiJub25lIn0.{body}.",
        "x.y.z",
        "x",
    ):
        assert status(api, forged, problem) is Kind.UNAUTHENTICATED
    # the public key as the secret of an HMAC
    head = b64encode(json.dumps({"alg": "HS256", "kid": "one"}).encode()).decode().rstrip("=")
    pem = provider.keys[0].as_pem(private=False)
    mac = urlsafe_b64encode(hmac.digest(pem, f"{head}.{body}".encode(), "sha256")).decode().rstrip("=")
    assert status(api, f"{head}.{body}.{mac}", problem) is Kind.UNAUTHENTICATED


def test_a_new_key_of_the_provider_counts_at_once(api, provider, problem, monkeypatch):
    assert status(api, provider.token(scope=CREATE), problem) == 200
    provider.keys.append(RSAKey.generate_key(2048, {"kid": "two"}))
    # asked again for an unknown key, though not for each one: ten seconds are waited, here of its clock
    reader = api.app.state.tokens
    then = reader._clock
    monkeypatch.setattr(reader, "_clock", lambda: then() + 11)
    assert status(api, provider.token(scope=CREATE, algorithm="RS256"), problem) == 200
    asked = len(provider.asked)
    for _ in range(5):
        assert (
            status(api, provider.token(key=ECKey.generate_key("P-256", {"kid": "x"})), problem) is Kind.UNAUTHENTICATED
        )
    assert len(provider.asked) == asked


def test_a_provider_that_is_away_is_said_to_be(serve, problem):
    with running() as gone:
        token = gone.token(scope=CREATE)
    with serve(oidc_issuer=gone.issuer, oidc_audience=AUDIENCE) as api:
        answer = api.with_token(token).get("/v1/revocations")
        assert (answer.status_code, problem(answer)) == (503, Kind.NOT_READY)


def test_without_a_provider_no_token_counts(serve, provider, problem):
    with serve() as api:
        assert status(api, provider.token(scope=CREATE), problem) is Kind.UNAUTHENTICATED


def test_guessing_is_slowed_down(serve, problem):
    with serve(rate_per_minute=600) as api:
        found = [status(api, "mbdk_guess", problem) for _ in range(FAILURES_PER_MINUTE + 1)]
    assert found == [Kind.UNAUTHENTICATED] * FAILURES_PER_MINUTE + [Kind.TOO_MANY_REQUESTS]
