"""What the API remembers: its keys, its answers, and who is told of changes."""

from sqlalchemy import JSON, Column, ForeignKey, Index, Integer, LargeBinary, Table, Text

from mbd.records.tables.schema import UtcDateTime, metadata

# Local keys of the API. 256 random bits each, of which the SHA-256 is kept; `subject_key` binds one to a person.
api_key = Table(
    "api_key",
    metadata,
    Column("id", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("label", Text, nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("subject_key", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
)

# What was answered to a POST with an Idempotency-Key, to answer it again.
idempotency = Table(
    "idempotency",
    metadata,
    Column("principal", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("answer", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False, index=True),
)

# Who is told of changes, and where: of all requests, or of one. The secret that signs is encrypted.
webhook = Table(
    "webhook",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("format", Text, nullable=False),
    Column("sealed_secret", LargeBinary),
    Column("revocation_id", Text, ForeignKey("revocation.id")),
    Column("created_at", UtcDateTime, nullable=False),
    Column("disabled_at", UtcDateTime),
    Column("disabled_because", Text),
    Index("ix_webhook_revocation_id", "revocation_id"),
)

# What they are told, and whether it arrived: written with the change that it tells of, in one transaction.
delivery = Table(
    "delivery",
    metadata,
    Column("id", Text, primary_key=True),
    Column("webhook_id", Text, ForeignKey("webhook.id"), nullable=False),
    Column("body", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("next_at", UtcDateTime, index=True),  # none when it arrived, or was given up
    Column("delivered_at", UtcDateTime),
    Column("last_problem", Text),
    Index("ix_delivery_webhook_id", "webhook_id", "created_at"),
)

# A request that came by OpenDSR, under the name that its controller gave it.
opendsr_request = Table(
    "opendsr_request",
    metadata,
    Column("controller_id", Text, primary_key=True),
    Column("subject_request_id", Text, primary_key=True),
    Column("revocation_id", Text, ForeignKey("revocation.id"), nullable=False, unique=True),
    Column("digest", Text, nullable=False),
    Column("submitted_at", UtcDateTime, nullable=False),
)
