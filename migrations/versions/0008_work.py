"""How far work has come, and who does it, so that people see it and a dead worker's job is taken over."""

import sqlalchemy as sa
from alembic import op

from mbd.errors import RecordsError

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "progress",
        sa.Column("revocation_id", sa.Text(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("fraction", sa.Double(), nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("estimated_end", _TIME, nullable=True),
        sa.CheckConstraint("fraction >= 0 AND fraction <= 1", name=op.f("ck_progress_fraction")),
        sa.ForeignKeyConstraint(["revocation_id"], ["revocation.id"], name=op.f("fk_progress_revocation_id")),
        sa.PrimaryKeyConstraint("revocation_id", name=op.f("pk_progress")),
    )
    op.create_table(
        "worker",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("seen_at", _TIME, nullable=False),
        sa.Column("stopped_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_worker")),
    )


def downgrade() -> None:
    raise RecordsError(
        "A worker may be at work, so this revision is not downgraded.",
        remedy="keep the database, and restore a backup beside it if an older program must run",
    )
