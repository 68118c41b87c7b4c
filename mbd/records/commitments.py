"""Two kinds of commitment: of a certificate to its subject (destroyable), and of the operator to its noise (logged).

It makes no key and no noise. Writers pass a connection from `database.begin_locked`.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from mbd.errors import RecordsError
from mbd.records import tables


@dataclass(frozen=True)
class NoiseCommitment:
    """What the operator committed to (hex) before it knew the request, and the leaf that says so."""

    commitment: str
    leaf_index: int
    created_at: datetime


def keep_key(connection: Connection, certificate_id: str, key: bytes) -> None:
    """Keep the key under which a certificate names its subject, in the transaction that issues the certificate."""
    connection.execute(insert(tables.commitment_key).values(certificate_id=certificate_id, key=key))


def key_of(connection: Connection, certificate_id: str) -> bytes | None:
    """The key of a certificate's subject commitment; None once it was destroyed.

    Raises:
        RecordsError: the certificate has never had one.
    """
    at = tables.commitment_key.c
    row = connection.execute(select(at.key).where(at.certificate_id == certificate_id)).one_or_none()
    if row is None:
        raise RecordsError(f"The certificate '{certificate_id}' has no key.", remedy="check the certificate's id")
    return None if row.key is None else bytes(row.key)


def destroy_key(connection: Connection, certificate_id: str, *, at: datetime) -> None:
    """Unlink a certificate from its subject. Destroying it again keeps the first date.

    The live version's cohort folder can still make the opening, until the next deletion destroys that folder.

    The row then holds no key. A SQLite file holds none either once it is closed (`secure_delete`); PostgreSQL keeps
    the dead row until VACUUM, and backups keep what they had.
    """
    column = tables.commitment_key.c
    connection.execute(
        update(tables.commitment_key)
        .where(column.certificate_id == certificate_id, column.key.is_not(None))
        .values(key=None, destroyed_at=at)
    )


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
