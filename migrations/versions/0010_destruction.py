"""Signed statements that weights were destroyed, because a deletion is not done while old weights lie about."""

import sqlalchemy as sa
from alembic import op

from mbd.errors import RecordsError

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "destruction",
        sa.Column("line", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("destroyed_at", _TIME, nullable=False),
        sa.Column("dsse_digest", sa.Text(), nullable=False),
        sa.Column("envelope", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["line", "version"],
            ["model_version.line", "model_version.version"],
            name=op.f("fk_destruction_line_version"),
        ),
        sa.PrimaryKeyConstraint("line", "version", name=op.f("pk_destruction")),
        sa.UniqueConstraint("dsse_digest", name=op.f("uq_destruction_dsse_digest")),
    )


def downgrade() -> None:
    raise RecordsError(
        "Statements of destruction are evidence, so this revision is not downgraded.",
        remedy="keep the database, and restore a backup beside it if an older program must run",
    )
