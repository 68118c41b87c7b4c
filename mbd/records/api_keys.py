"""Local keys of the API: who may call it without an identity provider. It knows digests of keys, and no key.

A key has 256 random bits, so that its plain SHA-256 can be stored: there is nothing to guess. Writers pass a connection
from `database.begin_locked`.
"""

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from mbd.errors import RecordsError
from mbd.records import tables

PREFIX = "mbdk_"
"""How every key begins, so that scanners find one that leaked."""

_ID_CHARACTERS = 12
_BY_DIGEST = select(tables.api_key).where(tables.api_key.c.digest == bindparam("value"))


@dataclass(frozen=True)
class ApiKey:
    """A key as it is kept.

    Attributes:
        id: names it in lists and in the events of requests; a part of its digest.
        label: what it is for, in the words of who made it.
        subject_key: of the one person whom it belongs to, if it belongs to a person.
    """

    id: str
    label: str
    scopes: frozenset[str]
    subject_key: str | None
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def state(self, at: datetime) -> str:
        """Whether it opens anything at that time: ``valid``, ``expired`` or ``revoked``."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= at else "valid"


def create(
    connection: Connection,
    *,
    label: str,
    scopes: Iterable[str],
    at: datetime,
    subject_key: str | None = None,
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """Make a key. The second value is the key itself, which is nowhere kept: show it once."""
    token = PREFIX + secrets.token_urlsafe(32)
    digest = _digest(token)
    key = ApiKey(f"key-{digest.hex()[:_ID_CHARACTERS]}", label, frozenset(scopes), subject_key, at, expires_at)
    connection.execute(
        insert(tables.api_key).values(
            id=key.id,
            digest=digest,
            label=label,
            scopes=sorted(key.scopes),
            subject_key=subject_key,
            created_at=at,
            expires_at=expires_at,
        )
    )
    return key, token


def find(connection: Connection, token: str, *, at: datetime) -> ApiKey | None:
    """The key that a caller shows, if there is one that is neither revoked nor expired."""
    row = connection.execute(_BY_DIGEST, {"value": _digest(token)}).one_or_none()
    if row is None:
        return None
    key = _key(row)
    return key if key.state(at) == "valid" else None


def every(connection: Connection) -> tuple[ApiKey, ...]:
    """All keys that were ever made, the oldest first."""
    at = tables.api_key.c
    return tuple(_key(row) for row in connection.execute(select(tables.api_key).order_by(at.created_at, at.id)))


def revoke(connection: Connection, key_id: str, *, at: datetime) -> ApiKey:
    """Let a key open nothing from now on. Revoking it again changes nothing.

    Raises:
        RecordsError: there is no such key.
    """
    mine = tables.api_key.c.id == key_id
    connection.execute(update(tables.api_key).where(mine, tables.api_key.c.revoked_at.is_(None)).values(revoked_at=at))
    row = connection.execute(select(tables.api_key).where(mine)).one_or_none()
    if row is None:
        raise RecordsError(f"There is no API key '{key_id}'.", remedy="use an id that `mbd api-keys list` shows")
    return _key(row)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        row.id,
        row.label,
        frozenset(row.scopes),
        row.subject_key,
        row.created_at,
        row.expires_at,
        row.revoked_at,
    )
