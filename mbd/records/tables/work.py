"""The work on requests: how far it is, and who does it."""

from sqlalchemy import CheckConstraint, Column, Double, ForeignKey, Table, Text

from mbd.records.tables.schema import UtcDateTime, metadata

# How far the work on a request has come, for whoever waits. Written often, and of no interest when it is done.
progress = Table(
    "progress",
    metadata,
    Column("revocation_id", Text, ForeignKey("revocation.id"), primary_key=True),
    Column("step", Text, nullable=False),
    Column("fraction", Double, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("estimated_end", UtcDateTime),
    CheckConstraint("fraction >= 0 AND fraction <= 1", name="fraction"),
)

# Which workers live, so that the job of one that died is taken over.
worker = Table(
    "worker",
    metadata,
    Column("id", Text, primary_key=True),
    Column("started_at", UtcDateTime, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
    Column("stopped_at", UtcDateTime),
)
