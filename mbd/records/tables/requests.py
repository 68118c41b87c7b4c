"""What was asked, what is refused since, and what is said to people."""

from sqlalchemy import JSON, Boolean, Column, Date, ForeignKey, Index, Integer, LargeBinary, Table, Text, text

from mbd.records.tables.schema import UtcDateTime, metadata

OPEN = text("state NOT IN ('completed', 'denied', 'cancelled', 'duplicate')")
"""Of a request that waits for somebody."""

# What was asked to be withdrawn, how far it has come and until when it must; `scope` is a list of
# {subject_key, modality}. `filed_by` is the id of who filed it, who may follow it: a key or a token, never a name.
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
    Column("filed_by", Text, nullable=False),
    Column("subject_key", Text),  # of a request about one person
    Index("ix_revocation_state", "state", "due"),
    Index("ix_revocation_due", "due", "id", sqlite_where=OPEN, postgresql_where=OPEN),
    Index("ix_revocation_requested_at", "requested_at", "id"),
    Index("ix_revocation_filed_by", "filed_by", "requested_at", "id"),
    Index("ix_revocation_subject_key", "subject_key", "requested_at", "id"),
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

# How to reach the person of a request, encrypted, and how often a wrong code was given for it. Mutable on purpose: it
# is emptied when the request has ended.
contact = Table(
    "contact",
    metadata,
    Column("revocation_id", Text, ForeignKey("revocation.id"), primary_key=True),
    Column("sealed", LargeBinary),
    Column("wrong_codes", Integer, nullable=False),
)

# What is to be said to the person, and whether it was: an outbox, so that no message is lost with a process.
message = Table(
    "message",
    metadata,
    Column("revocation_id", Text, ForeignKey("revocation.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("next_at", UtcDateTime, index=True),  # none when it was sent, or given up
    Column("sent_at", UtcDateTime),
)
