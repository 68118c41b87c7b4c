"""Two kinds of commitment: of a certificate to its people (destroyable), and of the operator to its noise (logged).

It makes no key and no noise, and knows nobody's name. A certificate's key is the openings of its people, one after the
other. Writers pass a connection from `database.begin_locked`.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from mbd.errors import RecordsError
from mbd.hashing import sha256_hex
from mbd.records import tables

OPENING_BYTES = 32

_AT_ONCE = 500  # ids in one query: SQLite and PostgreSQL both bound its parameters


@dataclass(frozen=True)
class NoiseCommitment:
    """What the operator committed to (hex) before it knew the request, and the leaf that says so."""

    commitment: str
    leaf_index: int
    created_at: datetime


def opening_id(opening: bytes) -> str:
    """How an opening is named once it is gone: SHA-256 (hex). It has 256 random bits, so that this tells nothing."""
    return sha256_hex(opening)


def keep_key(connection: Connection, certificate_id: str, key: bytes) -> None:
    """Keep the openings of a certificate's people, in the transaction that issues the certificate."""
    connection.execute(insert(tables.commitment_key).values(certificate_id=certificate_id, key=key))


def key_of(connection: Connection, certificate_id: str) -> bytes | None:
    """The openings of a certificate that are still there, one after the other; None once all were destroyed.

    Raises:
        RecordsError: the certificate has never had one.
    """
    at = tables.commitment_key.c
    row = connection.execute(select(at.key).where(at.certificate_id == certificate_id)).one_or_none()
    if row is None:
        raise RecordsError(f"The certificate '{certificate_id}' has no key.", remedy="check the certificate's id")
    return None if row.key is None else bytes(row.key)


def openings_of(connection: Connection, certificate_ids: Iterable[str]) -> dict[str, tuple[bytes, ...]]:
    """The openings that are still there, 32 bytes each, by certificate; certificates without any are left out."""
    at, wanted = tables.commitment_key.c, list(certificate_ids)
    found: dict[str, tuple[bytes, ...]] = {}
    for start in range(0, len(wanted), _AT_ONCE):
        some = wanted[start : start + _AT_ONCE]
        query = select(at.certificate_id, at.key).where(at.certificate_id.in_(some), at.key.is_not(None))
        found |= {row.certificate_id: _openings(row.key) for row in connection.execute(query)}
    return {certificate: openings for certificate, openings in found.items() if openings}


def openings_of_version(connection: Connection, line: str, version: int) -> dict[str, tuple[bytes, ...]]:
    """`openings_of` all certificates about one version: two that are about one person have one opening."""
    at = tables.certificate.c
    return openings_of(
        connection, connection.scalars(select(at.id).where(at.model_line == line, at.version == version))
    )


def destroy_openings(connection: Connection, certificate_id: str, ids: Collection[str], *, at: datetime) -> int:
    """Unlink a certificate from people: overwrite those of its openings that have these ids (`opening_id`).

    The row keeps the others. When none is left it says since when; that date stays. What the database itself keeps of
    the old row is for `mbd.records.scrubbing`; backups keep what they had.

    Returns:
        How many went.
    """
    openings = openings_of(connection, [certificate_id]).get(certificate_id, ())
    left = [opening for opening in openings if opening_id(opening) not in ids]
    if len(left) < len(openings):
        values = {"key": b"".join(left)} if left else {"key": None, "destroyed_at": at}
        row = tables.commitment_key.c.certificate_id == certificate_id
        connection.execute(update(tables.commitment_key).where(row).values(values))
    return len(openings) - len(left)


def record_noise_commitment(connection: Connection, commitment: NoiseCommitment) -> None:
    """Keep a commitment in the transaction that appends its leaf."""
    connection.execute(
        insert(tables.noise_commitment).values(
            commitment=commitment.commitment,
            leaf_index=commitment.leaf_index,
            created_at=commitment.created_at,
        )
    )


def noise_commitment(connection: Connection) -> NoiseCommitment | None:
    """The latest commitment, which is the one in force, or None."""
    query = select(tables.noise_commitment).order_by(tables.noise_commitment.c.leaf_index.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else NoiseCommitment(row.commitment, row.leaf_index, row.created_at)


def _openings(key: bytes) -> tuple[bytes, ...]:
    return tuple(bytes(key[start : start + OPENING_BYTES]) for start in range(0, len(key), OPENING_BYTES))
