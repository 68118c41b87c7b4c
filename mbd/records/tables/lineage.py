"""What came from what, and who was in it."""

from sqlalchemy import JSON, CheckConstraint, Column, ForeignKey, Index, Table, Text

from mbd.records.tables.schema import Int64, UtcDateTime, metadata

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
    Column("rows", Int64, nullable=False),
    CheckConstraint("rows >= 0", name="rows"),
    Index("ix_exposure_channel", "subject_key", "modality"),
)
