"""Lineage, requests, models and certificates, because every released version must answer what it came from.

These tables change as a request moves on; whatever of them must never change is in the ledger.
"""

import sqlalchemy as sa
from alembic import op

from mbd.errors import RecordsError

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_INT64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    _create_lineage()
    _create_requests()
    _create_models()
    _create_evidence()


def _create_lineage() -> None:
    op.create_table(
        "lineage_node",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("attributes", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lineage_node")),
    )
    op.create_index(op.f("ix_lineage_node_digest"), "lineage_node", ["digest"])
    op.create_table(
        "lineage_edge",
        sa.Column("child", sa.Text(), nullable=False),
        sa.Column("parent", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.CheckConstraint("child <> parent", name=op.f("ck_lineage_edge_no_loop")),
        sa.ForeignKeyConstraint(["child"], ["lineage_node.id"], name=op.f("fk_lineage_edge_child")),
        sa.ForeignKeyConstraint(["parent"], ["lineage_node.id"], name=op.f("fk_lineage_edge_parent")),
        sa.PrimaryKeyConstraint("child", "parent", "role", name=op.f("pk_lineage_edge")),
    )
    op.create_index(op.f("ix_lineage_edge_parent"), "lineage_edge", ["parent"])
    op.create_table(
        "exposure",
        sa.Column("cohort", sa.Text(), nullable=False),
        sa.Column("subject_key", sa.Text(), nullable=False),
        sa.Column("modality", sa.Text(), nullable=False),
        sa.Column("rows", _INT64, nullable=False),
        sa.CheckConstraint("rows >= 0", name=op.f("ck_exposure_rows")),
        sa.ForeignKeyConstraint(["cohort"], ["lineage_node.id"], name=op.f("fk_exposure_cohort")),
        sa.PrimaryKeyConstraint("cohort", "subject_key", "modality", name=op.f("pk_exposure")),
    )
    op.create_index("ix_exposure_channel", "exposure", ["subject_key", "modality"])


def _create_requests() -> None:
    op.create_table(
        "revocation",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("regime", sa.Text(), nullable=False),
        sa.Column("scope", sa.JSON(), nullable=False),
        sa.Column("requested_at", _TIME, nullable=False),
        sa.Column("due", sa.Date(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("changed_at", _TIME, nullable=False),
        sa.Column("extended", sa.Boolean(), nullable=False),
        sa.Column("filed_by", sa.Text(), nullable=False),
        sa.Column("subject_key", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_revocation")),
        sa.UniqueConstraint("digest", name=op.f("uq_revocation_digest")),
    )
    op.create_index("ix_revocation_state", "revocation", ["state", "due"])
    waiting = sa.text("state NOT IN ('completed', 'denied', 'cancelled', 'duplicate')")
    op.create_index("ix_revocation_due", "revocation", ["due", "id"], sqlite_where=waiting, postgresql_where=waiting)
    op.create_index("ix_revocation_requested_at", "revocation", ["requested_at", "id"])
    op.create_index("ix_revocation_filed_by", "revocation", ["filed_by", "requested_at", "id"])
    op.create_index("ix_revocation_subject_key", "revocation", ["subject_key", "requested_at", "id"])
    op.create_table(
        "suppression",
        sa.Column("subject_key", sa.Text(), nullable=False),
        sa.Column("modality", sa.Text(), nullable=False),
        sa.Column("revocation_id", sa.Text(), nullable=False),
        sa.Column("since", _TIME, nullable=False),
        sa.Column("lifted_at", _TIME, nullable=True),
        sa.ForeignKeyConstraint(["revocation_id"], ["revocation.id"], name=op.f("fk_suppression_revocation_id")),
        sa.PrimaryKeyConstraint("subject_key", "modality", "revocation_id", name=op.f("pk_suppression")),
    )


def _create_models() -> None:
    op.create_table(
        "model_version",
        sa.Column("line", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("parent_version", sa.Integer(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("guarantee_class", sa.Text(), nullable=True),
        sa.Column("backbone", sa.Text(), nullable=False),
        sa.Column("statistics", sa.Text(), nullable=False),
        sa.Column("cohort", sa.Text(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.CheckConstraint("version >= 1 AND parent_version < version", name=op.f("ck_model_version_version")),
        sa.CheckConstraint("state IN ('candidate', 'live', 'retired')", name=op.f("ck_model_version_state")),
        sa.ForeignKeyConstraint(["node"], ["lineage_node.id"], name=op.f("fk_model_version_node")),
        sa.ForeignKeyConstraint(
            ["line", "parent_version"],
            ["model_version.line", "model_version.version"],
            name=op.f("fk_model_version_line_parent_version"),
        ),
        sa.PrimaryKeyConstraint("line", "version", name=op.f("pk_model_version")),
        sa.UniqueConstraint("node", name=op.f("uq_model_version_node")),
    )
    live = sa.text("state = 'live'")
    op.create_index(
        "uq_model_version_live",
        "model_version",
        ["line"],
        unique=True,
        sqlite_where=live,
        postgresql_where=live,
    )
    op.create_table(
        "release",
        sa.Column("line", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("head", sa.Text(), nullable=False),
        sa.Column("mu", sa.Double(), nullable=False),
        sa.CheckConstraint("mu >= 0", name=op.f("ck_release_mu")),
        sa.ForeignKeyConstraint(
            ["line", "version"],
            ["model_version.line", "model_version.version"],
            name=op.f("fk_release_line_version"),
        ),
        sa.PrimaryKeyConstraint("line", "version", "head", name=op.f("pk_release")),
    )


def _create_evidence() -> None:
    op.create_table(
        "certificate",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("revocation_id", sa.Text(), nullable=False),
        sa.Column("model_line", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("leaf_index", _INT64, nullable=True),
        sa.Column("dsse_digest", sa.Text(), nullable=False),
        sa.Column("envelope", sa.Text(), nullable=False),
        sa.Column("bundle", sa.Text(), nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("superseded_by", sa.Text(), nullable=True),
        sa.CheckConstraint("superseded_by <> id", name=op.f("ck_certificate_superseded_by")),
        sa.ForeignKeyConstraint(["leaf_index"], ["leaf.idx"], name=op.f("fk_certificate_leaf_index")),
        sa.ForeignKeyConstraint(["revocation_id"], ["revocation.id"], name=op.f("fk_certificate_revocation_id")),
        sa.ForeignKeyConstraint(
            ["model_line", "version"],
            ["model_version.line", "model_version.version"],
            name=op.f("fk_certificate_model_line_version"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_certificate")),
        sa.UniqueConstraint("leaf_index", name=op.f("uq_certificate_leaf_index")),
        sa.UniqueConstraint("dsse_digest", name=op.f("uq_certificate_dsse_digest")),
    )
    current = sa.text("superseded_by IS NULL")
    op.create_index(
        "uq_certificate_current",
        "certificate",
        ["revocation_id", "model_line"],
        unique=True,
        sqlite_where=current,
        postgresql_where=current,
    )
    op.create_index("ix_certificate_model_line_version", "certificate", ["model_line", "version"])
    op.create_table(
        "commitment_key",
        sa.Column("certificate_id", sa.Text(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=True),
        sa.Column("destroyed_at", _TIME, nullable=True),
        sa.CheckConstraint("(key IS NULL) = (destroyed_at IS NOT NULL)", name=op.f("ck_commitment_key_destroyed")),
        sa.ForeignKeyConstraint(["certificate_id"], ["certificate.id"], name=op.f("fk_commitment_key_certificate_id")),
        sa.PrimaryKeyConstraint("certificate_id", name=op.f("pk_commitment_key")),
    )
    op.create_table(
        "noise_commitment",
        sa.Column("commitment", sa.Text(), nullable=False),
        sa.Column("leaf_index", _INT64, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(["leaf_index"], ["leaf.idx"], name=op.f("fk_noise_commitment_leaf_index")),
        sa.PrimaryKeyConstraint("commitment", name=op.f("pk_noise_commitment")),
        sa.UniqueConstraint("leaf_index", name=op.f("uq_noise_commitment_leaf_index")),
    )
    op.create_table(
        "notice",
        sa.Column("leaf_index", _INT64, nullable=False, autoincrement=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("about", sa.Text(), nullable=False),
        sa.Column("issued_at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(["leaf_index"], ["leaf.idx"], name=op.f("fk_notice_leaf_index")),
        sa.PrimaryKeyConstraint("leaf_index", name=op.f("pk_notice")),
    )
    op.create_index(op.f("ix_notice_about"), "notice", ["about"])


def downgrade() -> None:
    raise RecordsError(
        "Certificates and lineage are not thrown away, so this revision is not downgraded.",
        remedy="keep the database, and restore a backup beside it if an older program must run",
    )
