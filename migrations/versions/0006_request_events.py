"""Every step of a request, append-only: what an officer decided, and when, is evidence that nobody may rewrite."""

import sqlalchemy as sa
from alembic import op

from mbd.errors import RecordsError

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# A request takes its next step and no other, so that REPLACE changes none; see revision 0001.
_NEXT = (
    "NEW.number = (SELECT coalesce(max(number) + 1, 0) FROM {schema}revocation_event"
    " WHERE revocation_id = NEW.revocation_id)"
)
_MESSAGE = "a request's steps are append-only: it takes its next one and no other"

_POSTGRESQL_FUNCTIONS = (
    """
CREATE FUNCTION revocation_event_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '{message}';
END $$
""",
    """
CREATE FUNCTION revocation_event_next() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF ({condition}) IS NOT TRUE THEN
        RAISE EXCEPTION '{message}';
    END IF;
    RETURN NEW;
END $$
""",
)

_POSTGRESQL_TRIGGERS = {
    "revocation_event_no_change": "BEFORE UPDATE OR DELETE ON {0} FOR EACH ROW EXECUTE FUNCTION {0}_refuse()",
    "revocation_event_no_truncate": "BEFORE TRUNCATE ON {0} FOR EACH STATEMENT EXECUTE FUNCTION {0}_refuse()",
    "revocation_event_next_row": "BEFORE INSERT ON {0} FOR EACH ROW EXECUTE FUNCTION {0}_next()",
}


def upgrade() -> None:
    op.create_table(
        "revocation_event",
        sa.Column("revocation_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["revocation_id"], ["revocation.id"], name=op.f("fk_revocation_event_revocation_id")),
        sa.PrimaryKeyConstraint("revocation_id", "number", name=op.f("pk_revocation_event")),
    )
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER revocation_event_no_{verb.lower()} BEFORE {verb} ON revocation_event"
                f" BEGIN SELECT RAISE(ABORT, '{_quoted(_MESSAGE)}'); END"
            )
        op.execute(
            f"CREATE TRIGGER revocation_event_next_row BEFORE INSERT ON revocation_event"
            f" WHEN ({_NEXT.format(schema='')}) IS NOT TRUE"
            f" BEGIN SELECT RAISE(ABORT, '{_quoted(_MESSAGE)}'); END"
        )
    else:
        # The schema's name stands in the text, so that a temporary table does not hide the real one; see 0005.
        schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
        for function in _POSTGRESQL_FUNCTIONS:
            op.execute(function.format(condition=_NEXT.format(schema=f"{schema}."), message=_quoted(_MESSAGE)))
        for name, definition in _POSTGRESQL_TRIGGERS.items():
            op.execute(f"CREATE TRIGGER {name} {definition.format('revocation_event')}")
            op.execute(f"ALTER TABLE revocation_event ENABLE ALWAYS TRIGGER {name}")


def _quoted(text: str) -> str:
    return text.replace("'", "''")


def downgrade() -> None:
    raise RecordsError(
        "The steps of requests are evidence, so this revision is not downgraded: they would be lost.",
        remedy="keep the database, and restore a backup beside it if an older program must run",
    )
