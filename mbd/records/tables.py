"""Every SQL table on one page, each with the reason why it exists. It knows no queries.

Times are UTC with whole seconds. A person appears only as a *subject key*, a keyed hash that the caller makes:
no plain identifier is ever stored. ``'*'`` as a subject key stands for everyone.
"""

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """A time-zone-aware UTC time with whole seconds, alike on SQLite (which keeps no zone) and PostgreSQL."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a time without a zone, and cut the fraction of a second."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value.isoformat()} has no time zone")
        utc = value.astimezone(UTC).replace(microsecond=0)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The same time, in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


# SQLite makes a key its row id only when the type is spelled INTEGER; that integer has 64 bits.
_Int64 = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# --- The ledger: append-only, enforced by triggers (migrations 0001 and 0004) -----------------------------------

# What was logged, as the exact bytes that were hashed: `hash` = SHA-256(0x00 || body).
leaf = Table(
    "leaf",
    metadata,
    Column("idx", _Int64, primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    CheckConstraint("idx >= 0", name="idx"),
    CheckConstraint("length(hash) = 32", name="hash"),
)

# Roots of perfect subtrees, so that a proof costs O(log n) reads; `(level, idx)` covers leaves from idx * 2^level on.
# Those of fewer than 8 leaves are folded from the leaves (`tree.LOWEST`). The key is the row, not an index beside it.
node = Table(
    "node",
    metadata,
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("idx", _Int64, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
    CheckConstraint("level >= 3 AND idx >= 0", name="place"),
    CheckConstraint("length(hash) = 32", name="hash"),
    sqlite_with_rowid=False,
)

# The tree after each append; the largest size is the head. A row each, and not one row updated, so that the
# application needs no right to UPDATE, and a reader gets size and root from one row. Migration 0001 inserts size 0.
head = Table(
    "head",
    metadata,
    Column("size", _Int64, primary_key=True, autoincrement=False),
    Column("root", LargeBinary, nullable=False),
    CheckConstraint("size >= 0", name="size"),
    CheckConstraint("length(root) = 32", name="root"),
)

# What the log's key has signed, so that it never signs a second root for a size, nor a smaller tree.
checkpoint = Table(
    "checkpoint",
    metadata,
    Column("size", _Int64, ForeignKey("head.size"), primary_key=True, autoincrement=False),
    Column("root", LargeBinary, nullable=False),
    Column("note", Text, nullable=False),
    CheckConstraint("length(root) = 32", name="root"),
)

# What witnesses said of a checkpoint, a signature line each: without it a certificate could not be made twice alike.
cosignature = Table(
    "cosignature",
    metadata,
    Column("size", _Int64, ForeignKey("checkpoint.size"), primary_key=True, autoincrement=False),
    Column("witness", Text, primary_key=True),
    Column("line", Text, nullable=False),
)

LEDGER = (leaf, node, head, checkpoint, cosignature)

# --- Lineage ----------------------------------------------------------------------------------------------------

# A thing that a released model came from, or that says something about it; `id` is `kind:key`.
lineage_node = Table(
    "lineage_node",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("digest", Text, nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("attributes", JSON, nullable=False),
)

# Why the child is what it is; the role says whether the parent's content flowed into it.
lineage_edge = Table(
    "lineage_edge",
    metadata,
    Column("child", Text, ForeignKey("lineage_node.id"), primary_key=True),
    Column("parent", Text, ForeignKey("lineage_node.id"), primary_key=True, index=True),
    Column("role", Text, primary_key=True),
    CheckConstraint("child <> parent", name="no_loop"),
)

# Whose channels a cohort contains. A succeeding cohort inherits its predecessor's; `rows` = 0 says what it dropped,
# so that a deletion writes only what it removed.
exposure = Table(
    "exposure",
    metadata,
    Column("cohort", Text, ForeignKey("lineage_node.id"), primary_key=True),
    Column("subject_key", Text, primary_key=True),
    Column("modality", Text, primary_key=True),
    Column("rows", _Int64, nullable=False),
    CheckConstraint("rows >= 0", name="rows"),
    Index("ix_exposure_channel", "subject_key", "modality"),
)

# --- Requests and suppression -----------------------------------------------------------------------------------

# What was asked to be withdrawn, how far it has come and until when it must; `scope` is a list of
# {subject_key, modality}.
revocation = Table(
    "revocation",
    metadata,
    Column("id", Text, primary_key=True),
    Column("digest", Text, nullable=False, unique=True),
    Column("regime", Text, nullable=False),
    Column("scope", JSON, nullable=False),
    Column("requested_at", UtcDateTime, nullable=False),
    Column("due", Date, nullable=False),
    Column("state", Text, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    Column("extended", Boolean, nullable=False),
    Index("ix_revocation_state", "state", "due"),
)

# Every step of a request: who did what, when and why. Append-only (migration 0006): a decision is not rewritten.
revocation_event = Table(
    "revocation_event",
    metadata,
    Column("revocation_id", Text, ForeignKey("revocation.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("action", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("reason", Text),
)

# The channels that import, training and prediction refuse from this moment, by each request that asked for it: where
# one is cancelled before its work began, the others' stay.
suppression = Table(
    "suppression",
    metadata,
    Column("subject_key", Text, primary_key=True),
    Column("modality", Text, primary_key=True),
    Column("revocation_id", Text, ForeignKey("revocation.id"), primary_key=True),
    Column("since", UtcDateTime, nullable=False),
    Column("lifted_at", UtcDateTime),
)

# --- Models -----------------------------------------------------------------------------------------------------

# Every released version of a model line and what it was made from; one version of a line is live.
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
    CheckConstraint("state IN ('live', 'retired')", name="state"),
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

# --- Evidence ---------------------------------------------------------------------------------------------------

# The signed answer to one request on one model line: that `version` was made without the channels (a deletion), or
# that it does not hold them (an absence). The signed envelope is stored with its leaf in one transaction; the bundle
# needs a checkpoint, which is signed after that commit.
certificate = Table(
    "certificate",
    metadata,
    Column("id", Text, primary_key=True),
    Column("revocation_id", Text, ForeignKey("revocation.id"), nullable=False),
    Column("model_line", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("leaf_index", _Int64, ForeignKey("leaf.idx"), unique=True),  # none where a retired log has it
    Column("dsse_digest", Text, nullable=False, unique=True),
    Column("envelope", Text, nullable=False),
    Column("bundle", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Column("superseded_by", Text),  # no foreign key: while one takes the place of the other, only one is current
    Column("kind", Text, nullable=False, server_default="deletion"),
    CheckConstraint("kind IN ('deletion', 'absence')", name="kind"),
    CheckConstraint("superseded_by <> id", name="superseded_by"),
    Index(
        "uq_certificate_current",
        "revocation_id",
        "model_line",
        unique=True,
        sqlite_where=text("superseded_by IS NULL"),
        postgresql_where=text("superseded_by IS NULL"),
    ),
    ForeignKeyConstraint(["model_line", "version"], ["model_version.line", "model_version.version"]),
    Index("ix_certificate_model_line_version", "model_line", "version"),
)

# What the log says later about a certificate or a key; `about` is the leaf hash or key digest (hex). The log's own leaf
# is what counts; this is its index.
notice = Table(
    "notice",
    metadata,
    Column("leaf_index", _Int64, ForeignKey("leaf.idx"), primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("about", Text, nullable=False, index=True),
    Column("issued_at", UtcDateTime, nullable=False),
)

# The key that links a certificate to its subject: mutable on purpose, for destroying it unlinks them for ever.
commitment_key = Table(
    "commitment_key",
    metadata,
    Column("certificate_id", Text, ForeignKey("certificate.id"), primary_key=True),
    Column("key", LargeBinary),
    Column("destroyed_at", UtcDateTime),
    CheckConstraint("(key IS NULL) = (destroyed_at IS NOT NULL)", name="destroyed"),
)

# Which noise secret the operator had committed to, and where the log says so: before the request was known.
noise_commitment = Table(
    "noise_commitment",
    metadata,
    Column("commitment", Text, primary_key=True),
    Column("leaf_index", _Int64, ForeignKey("leaf.idx"), nullable=False, unique=True),
    Column("created_at", UtcDateTime, nullable=False),
)

APPEND_ONLY = (*LEDGER, revocation_event)
"""What the database's triggers keep from being rewritten."""
