"""Which kind of finding a certificate is, because one of absence is about a version that it did not make."""

from alembic import op

from mbd.errors import RecordsError

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # In words, because SQLite adds a constraint only together with its column. All there is so far are deletions.
    op.execute(
        "ALTER TABLE certificate ADD COLUMN kind TEXT DEFAULT 'deletion' NOT NULL"
        " CONSTRAINT ck_certificate_kind CHECK (kind IN ('deletion', 'absence'))"
    )


def downgrade() -> None:
    raise RecordsError(
        "Certificates of absence are not thrown away, so this revision is not downgraded.",
        remedy="keep the database, and restore a backup beside it if an older program must run",
    )
