"""Model versions, the privacy that they spent, and the destruction of the retired."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    Table,
    Text,
    text,
)

from mbd.records.tables.schema import UtcDateTime, metadata

# Every version of a model line and what it was made from; one of them is live. A candidate waits for its promotion.
model_version = Table(
    "model_version",
    metadata,
    Column("line", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("node", Text, ForeignKey("lineage_node.id"), nullable=False, unique=True),
    Column("digest", Text, nullable=False),
    Column("parent_version", Integer),
    Column("state", Text, nullable=False),
    Column("guarantee_class", Text),
    Column("backbone", Text, nullable=False),
    Column("statistics", Text, nullable=False),
    Column("cohort", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    ForeignKeyConstraint(["line", "parent_version"], ["model_version.line", "model_version.version"]),
    CheckConstraint("version >= 1 AND parent_version < version", name="version"),
    CheckConstraint("state IN ('candidate', 'live', 'retired')", name="state"),
    Index(
        "uq_model_version_live",
        "line",
        unique=True,
        sqlite_where=text("state = 'live'"),
        postgresql_where=text("state = 'live'"),
    ),
)

# The privacy spent by each released head, from which the line's budget is composed.
release = Table(
    "release",
    metadata,
    Column("line", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("head", Text, primary_key=True),
    Column("mu", Double, nullable=False),
    ForeignKeyConstraint(["line", "version"], ["model_version.line", "model_version.version"]),
    CheckConstraint("mu >= 0", name="mu"),
)

# The signed statement that a retired version's files were destroyed, with the envelope's digest.
destruction = Table(
    "destruction",
    metadata,
    Column("line", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("destroyed_at", UtcDateTime, nullable=False),
    Column("dsse_digest", Text, nullable=False, unique=True),
    Column("envelope", Text, nullable=False),
    ForeignKeyConstraint(["line", "version"], ["model_version.line", "model_version.version"]),
)
