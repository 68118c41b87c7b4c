"""How to reach a person, encrypted, and an outbox of what is to be said: neither is lost with a process."""

import sqlalchemy as sa
from alembic import op

from mbd.errors import RecordsError

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "contact",
        sa.Column("revocation_id", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("wrong_codes", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["revocation_id"], ["revocation.id"], name=op.f("fk_contact_revocation_id")),
        sa.PrimaryKeyConstraint("revocation_id", name=op.f("pk_contact")),
    )
    op.create_table(
        "message",
        sa.Column("revocation_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_at", _TIME, nullable=True),
        sa.Column("sent_at", _TIME, nullable=True),
        sa.ForeignKeyConstraint(["revocation_id"], ["revocation.id"], name=op.f("fk_message_revocation_id")),
        sa.PrimaryKeyConstraint("revocation_id", "number", name=op.f("pk_message")),
    )
    op.create_index(op.f("ix_message_next_at"), "message", ["next_at"])


def downgrade() -> None:
    raise RecordsError(
        "Messages to people may wait to be sent, so this revision is not downgraded.",
        remedy="keep the database, and restore a backup beside it if an older program must run",
    )
