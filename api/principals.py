"""Who calls: a local key or a token of an identity provider, what either may do, and whose person it is.

A principal's id stands in the events of requests, and is never a name: of a token it is a keyed hash of its subject.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.dependencies import Here
from api.problems import Kind, ProblemError
from api.tokens import InvalidTokenError, TokenReader
from mbd.records import api_keys
from mbd.records.database import begin_snapshot
from mbd.records.lifecycle import Role
from mbd.records.requests import Actor
from mbd.workflow.office import Office


class Scope(StrEnum):
    """What a principal may do. A token names them in its claim ``scope``."""

    CREATE = "revocations:create"
    """File requests, and follow and cancel one's own."""

    READ_OWN = "revocations:read:own"
    REVIEW = "revocations:review"
    """See all requests; attest identities, approve, deny, have failed ones tried again."""

    EXTEND = "revocations:extend"
    LINEAGE = "lineage:read"
    """See all requests, models and what came from what; change nothing."""

    PREDICT = "predictions:create"
    CALLBACKS = "callbacks:manage"
    METRICS = "metrics:read"


@dataclass(frozen=True)
class Principal:
    """Who calls.

    Attributes:
        id: never a name.
        scopes: what it may do.
        subject_key: of the person whom it logs in as, if it does.
    """

    id: str
    scopes: frozenset[str]
    subject_key: str | None = field(default=None, repr=False)

    def may(self, scope: Scope) -> bool:
        """Whether it has the scope."""
        return scope in self.scopes

    @property
    def sees_all(self) -> bool:
        """Whether it may see the requests of everybody."""
        return self.may(Scope.REVIEW) or self.may(Scope.LINEAGE)

    def acting_as(self, role: Role) -> Actor:
        """How the events of requests name it."""
        return Actor(role, self.id)


_bearer = HTTPBearer(
    auto_error=False, description="A local API key (`mbd api-keys create`), or a token of the OpenID Connect provider."
)
_CHALLENGE = {"www-authenticate": "Bearer"}
_INVALID = {"www-authenticate": 'Bearer error="invalid_token"'}


def identify(
    request: Request, office: Here, shown: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Principal:
    """Who calls.

    Raises:
        ProblemError: nobody was named, or the key or token is not one that counts.
    """
    if shown is None:
        raise ProblemError(
            Kind.UNAUTHENTICATED,
            "This needs a key or a token.",
            remedy="send Authorization: Bearer",
            headers=_CHALLENGE,
        )
    reader: TokenReader | None = request.app.state.tokens
    if shown.credentials.startswith(api_keys.PREFIX):
        principal = _of_key(office, shown.credentials)
    elif reader is not None:
        principal = _of_token(office, reader, shown.credentials)
    else:
        principal = None
    if principal is None:
        request.app.state.limits.note_failure(request)
        raise ProblemError(
            Kind.UNAUTHENTICATED,
            "The key or token does not count: it is unknown, expired, revoked or made for another service.",
            remedy="get a new one",
            headers=_INVALID,
        )
    request.app.state.limits.charge(request, principal.id)
    return principal


def _of_key(office: Office, token: str) -> Principal | None:
    with begin_snapshot(office.engine) as connection:
        key = api_keys.find(connection, token, at=office.clock())
    return None if key is None else Principal(key.id, key.scopes, key.subject_key)


def _of_token(office: Office, reader: TokenReader, token: str) -> Principal | None:
    try:
        claims = reader.read(token, now=office.clock())
    except InvalidTokenError:
        return None
    who = office.identities.subject_key(f"token\0{claims.issuer}\0{claims.subject}")
    person = None if claims.person is None else office.identities.subject_key(claims.person)
    return Principal(f"token-{who[:16]}", claims.scopes, person)


Anybody = Annotated[Principal, Depends(identify)]
"""Who calls, whatever they may do."""


def needs(*scopes: Scope) -> Callable[[Principal], Principal]:
    """A dependency: who calls, if they have one of the scopes."""

    def check(principal: Anybody) -> Principal:
        if not any(map(principal.may, scopes)):
            raise ProblemError(
                Kind.FORBIDDEN,
                "The key or token does not allow this.",
                remedy=f"use one with the scope {' or '.join(scopes)}",
            )
        return principal

    return check
