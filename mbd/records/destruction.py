"""Signed statements that the files of retired versions were destroyed: at most one for each version, kept for good.

It knows no file and checks no signature. Writers pass a connection from `database.begin_locked`.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, insert, select

from mbd.errors import RecordsError
from mbd.records import models, tables
from mbd.records.models import ModelVersion, VersionState


@dataclass(frozen=True)
class Destruction:
    """One statement.

    Attributes:
        destroyed_at: when, as the statement says it.
        dsse_digest: SHA-256 (hex) of what the envelope's signature is over.
        envelope: the signed DSSE envelope (JSON).
    """

    line: str
    version: int
    destroyed_at: datetime
    dsse_digest: str
    envelope: str


def owed(connection: Connection) -> tuple[ModelVersion, ...]:
    """The retired versions of which nothing is stated yet, by line and number."""
    at, version = tables.destruction.c, tables.model_version.c
    query = (
        select(version.line, version.version)
        .outerjoin(tables.destruction, and_(at.line == version.line, at.version == version.version))
        .where(version.state == VersionState.RETIRED.value, at.line.is_(None))
        .order_by(version.line, version.version)
    )
    return tuple(models.get(connection, row.line, row.version) for row in connection.execute(query).all())


def record(connection: Connection, destruction: Destruction) -> None:
    """Keep a statement.

    Raises:
        RecordsError: the version is not retired, or there is a statement of it already.
    """
    line, number = destruction.line, destruction.version
    if models.get(connection, line, number).state is not VersionState.RETIRED:
        raise RecordsError(
            f"{line} version {number} is not retired.", remedy="take it out of service with `mbd lineage retire` first"
        )
    if find(connection, line, number) is not None:
        raise RecordsError(
            f"It is stated already that {line} version {number} was destroyed.",
            remedy="use the statement that is there",
        )
    connection.execute(
        insert(tables.destruction).values(
            line=line,
            version=number,
            destroyed_at=destruction.destroyed_at,
            dsse_digest=destruction.dsse_digest,
            envelope=destruction.envelope,
        )
    )


def find(connection: Connection, line: str, version: int) -> Destruction | None:
    """The statement about a version, or None."""
    at = tables.destruction.c
    row = connection.execute(select(tables.destruction).where(at.line == line, at.version == version)).one_or_none()
    return None if row is None else _destruction(row)


def every(connection: Connection, line: str | None = None) -> tuple[Destruction, ...]:
    """All statements, or those about one line, by line and version."""
    at = tables.destruction.c
    query = select(tables.destruction).order_by(at.line, at.version)
    if line is not None:
        query = query.where(at.line == line)
    return tuple(_destruction(row) for row in connection.execute(query))


def _destruction(row: Row[Any]) -> Destruction:
    return Destruction(row.line, row.version, row.destroyed_at, row.dsse_digest, row.envelope)
