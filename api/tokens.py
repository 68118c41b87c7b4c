"""Tokens of an OpenID Connect provider (RFC 9068, RFC 7519): read, and held against its keys, our name and the time."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Any

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from api.problems import Kind, ProblemError
from mbd.settings import Settings

ALGORITHMS = ("RS256", "PS256", "ES256", "Ed25519")
"""Signatures that count; above all not ``none``, and none with a shared secret."""

LEEWAY_SECONDS = 60
"""How far the provider's clock may be from ours."""

_KEPT_SECONDS = 300
_ASK_AGAIN_SECONDS = 10
_TIMEOUT_SECONDS = 5
_LONGEST_TOKEN = 16_384


class InvalidTokenError(Exception):
    """A token that does not count. It says nothing more: whoever made it up learns nothing."""


@dataclass(frozen=True)
class Claims:
    """What a token says that counts.

    Attributes:
        person: whom it logs in, as cohorts name them; None where the provider does not say.
    """

    issuer: str
    subject: str
    scopes: frozenset[str]
    person: str | None


class TokenReader:
    """Reads tokens of one provider.

    Its keys are fetched when they are needed, kept for five minutes, and asked for again when a token names one that is
    not among them. Threads may share a reader.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        assert settings.oidc_issuer is not None and settings.oidc_audience is not None, "settings check that"
        self._issuer, self._audience = settings.oidc_issuer, settings.oidc_audience
        self._jwks_url, self._person_claim = settings.oidc_jwks_url, settings.oidc_subject_claim
        self._clock, self._lock = clock, Lock()
        self._keys: KeySet | None = None
        self._fetched = float("-inf")

    def read(self, token: str, *, now: datetime) -> Claims:
        """What a token says.

        Raises:
            InvalidTokenError: it is not one, or not of this provider, not for us, or not now.
            ProblemError: the provider's keys cannot be had.
        """
        if len(token) > _LONGEST_TOKEN:
            raise InvalidTokenError
        try:
            claims = self._decode(token)
            rules = jwt.JWTClaimsRegistry(
                now=int(now.timestamp()),
                leeway=LEEWAY_SECONDS,
                iss={"essential": True, "value": self._issuer},
                aud={"essential": True, "value": self._audience},
                sub={"essential": True},
                exp={"essential": True},
            )
            rules.validate(claims)
        except (JoseError, ValueError, TypeError) as error:
            raise InvalidTokenError from error
        person, scope = claims.get(self._person_claim), claims.get("scope", "")
        if not isinstance(claims["sub"], str) or not isinstance(scope, str):
            raise InvalidTokenError
        return Claims(
            self._issuer, claims["sub"], frozenset(scope.split()), person if isinstance(person, str) else None
        )

    def _decode(self, token: str) -> dict[str, Any]:
        try:
            return jwt.decode(token, self._known(_KEPT_SECONDS), algorithms=list(ALGORITHMS)).claims
        except (JoseError, ValueError):
            # Perhaps the provider has a new key. A forged token makes us ask, though not often.
            return jwt.decode(token, self._known(_ASK_AGAIN_SECONDS), algorithms=list(ALGORITHMS)).claims

    def _known(self, seconds: float) -> KeySet:
        """The provider's keys, of at most that age."""
        with self._lock:
            if self._keys is None or self._clock() - self._fetched > seconds:
                self._keys, self._fetched = self._fetch(), self._clock()
            return self._keys

    def _fetch(self) -> KeySet:
        try:
            with httpx.Client(timeout=_TIMEOUT_SECONDS, follow_redirects=False, trust_env=False) as client:
                url = self._jwks_url or self._discover(client)
                return KeySet.import_key_set(_json(client, url))  # type: ignore[arg-type]  # it checks what it gets
        except (httpx.HTTPError, httpx.InvalidURL, JoseError, ValueError, TypeError, KeyError) as error:
            raise ProblemError(
                Kind.NOT_READY, "The identity provider cannot be asked.", headers={"retry-after": "10"}
            ) from error

    def _discover(self, client: httpx.Client) -> str:
        """OpenID Connect Discovery 1.0, section 4: the document is the issuer's own only if it says so."""
        document = _json(client, f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        if document["issuer"] != self._issuer:
            raise ValueError("the discovery document is of another issuer")
        return str(document["jwks_uri"])


def _json(client: httpx.Client, url: str) -> dict[str, Any]:
    answer = client.get(url).raise_for_status().json()
    if not isinstance(answer, dict):
        raise TypeError("not a JSON object")
    return answer
