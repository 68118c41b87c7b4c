"""An index of the log's notices: which entry says something about a certificate or a key.

It reads none of them. Writers pass a connection from `database.begin_locked`: notice and leaf are one transaction.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select

from mbd.records import tables


@dataclass(frozen=True)
class Notice:
    """Where a notice stands.

    Attributes:
        leaf_index: its entry.
        kind: what it says, by its name in the notice.
        about: the leaf hash of a certificate, the digest of a key or of a checkpoint (hex).
    """

    leaf_index: int
    kind: str
    about: str
    issued_at: datetime


def record(connection: Connection, notice: Notice) -> None:
    """Keep a notice, in the transaction that appends its leaf."""
    connection.execute(
        insert(tables.notice).values(
            leaf_index=notice.leaf_index, kind=notice.kind, about=notice.about, issued_at=notice.issued_at
        )
    )


def about(connection: Connection, digest: str) -> tuple[Notice, ...]:
    """All notices about a certificate, a key or a checkpoint, in the log's order."""
    query = select(tables.notice).where(tables.notice.c.about == digest).order_by(tables.notice.c.leaf_index)
    return tuple(Notice(row.leaf_index, row.kind, row.about, row.issued_at) for row in connection.execute(query))


def all_notices(connection: Connection) -> tuple[Notice, ...]:
    """Every notice, in the log's order."""
    query = select(tables.notice).order_by(tables.notice.c.leaf_index)
    return tuple(Notice(row.leaf_index, row.kind, row.about, row.issued_at) for row in connection.execute(query))
