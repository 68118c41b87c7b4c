"""Certificates, and what was said or committed to beside them."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    text,
)

from mbd.records.tables.schema import Int64, UtcDateTime, metadata

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
    Column("leaf_index", Int64, ForeignKey("leaf.idx"), unique=True),  # none where a retired log has it
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
    Column("leaf_index", Int64, ForeignKey("leaf.idx"), primary_key=True, autoincrement=False),
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
    Column("leaf_index", Int64, ForeignKey("leaf.idx"), nullable=False, unique=True),
    Column("created_at", UtcDateTime, nullable=False),
)
