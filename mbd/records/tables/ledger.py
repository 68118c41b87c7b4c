"""The log: append-only, enforced by triggers (migrations 0001 and 0004)."""

from sqlalchemy import CheckConstraint, Column, ForeignKey, Integer, LargeBinary, Table, Text

from mbd.records.tables.schema import Int64, metadata

# What was logged, as the exact bytes that were hashed: `hash` = SHA-256(0x00 || body).
leaf = Table(
    "leaf",
    metadata,
    Column("idx", Int64, primary_key=True, autoincrement=False),
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
    Column("idx", Int64, primary_key=True, autoincrement=False),
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
    Column("size", Int64, primary_key=True, autoincrement=False),
    Column("root", LargeBinary, nullable=False),
    CheckConstraint("size >= 0", name="size"),
    CheckConstraint("length(root) = 32", name="root"),
)

# What the log's key has signed, so that it never signs a second root for a size, nor a smaller tree.
checkpoint = Table(
    "checkpoint",
    metadata,
    Column("size", Int64, ForeignKey("head.size"), primary_key=True, autoincrement=False),
    Column("root", LargeBinary, nullable=False),
    Column("note", Text, nullable=False),
    CheckConstraint("length(root) = 32", name="root"),
)

# What witnesses said of a checkpoint, a signature line each: without it a certificate could not be made twice alike.
cosignature = Table(
    "cosignature",
    metadata,
    Column("size", Int64, ForeignKey("checkpoint.size"), primary_key=True, autoincrement=False),
    Column("witness", Text, primary_key=True),
    Column("line", Text, nullable=False),
)

LEDGER = (leaf, node, head, checkpoint, cosignature)
