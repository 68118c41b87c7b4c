"""What witnesses said of the log's checkpoints, append-only like these: a cosignature is evidence."""

import sqlalchemy as sa
from alembic import op

from mbd.errors import LedgerError

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# A second line of one witness under one checkpoint would let REPLACE change the first one; see revision 0001.
_NEW = "NOT EXISTS (SELECT 1 FROM {schema}cosignature WHERE size = {row}size AND witness = {row}witness)"
_MESSAGE = "the ledger is append-only: cosignature takes one row of each witness for a checkpoint"

_POSTGRESQL_NEXT_ROW = """
CREATE FUNCTION ledger_next_cosignature() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE is_new boolean;
BEGIN
    EXECUTE replace('SELECT {condition}', '@', quote_ident(TG_TABLE_SCHEMA) || '.') INTO is_new USING NEW;
    IF is_new IS NOT TRUE THEN
        RAISE EXCEPTION '{message}';
    END IF;
    RETURN NEW;
END $$
"""

_POSTGRESQL_TRIGGERS = {
    "cosignature_no_change": "BEFORE UPDATE OR DELETE ON cosignature FOR EACH ROW EXECUTE FUNCTION ledger_refuse()",
    "cosignature_no_truncate": "BEFORE TRUNCATE ON cosignature FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse()",
    "cosignature_next_row": "BEFORE INSERT ON cosignature FOR EACH ROW EXECUTE FUNCTION ledger_next_cosignature()",
}


def upgrade() -> None:
    int64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "cosignature",
        sa.Column("size", int64, autoincrement=False, nullable=False),
        sa.Column("witness", sa.Text(), nullable=False),
        sa.Column("line", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["size"], ["checkpoint.size"], name=op.f("fk_cosignature_size")),
        sa.PrimaryKeyConstraint("size", "witness", name=op.f("pk_cosignature")),
    )
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER cosignature_no_{verb.lower()} BEFORE {verb} ON cosignature"
                f" BEGIN SELECT RAISE(ABORT, '{_MESSAGE}'); END"
            )
        op.execute(
            f"CREATE TRIGGER cosignature_next_row BEFORE INSERT ON cosignature"
            f" WHEN ({_NEW.format(schema='', row='NEW.')}) IS NOT TRUE"
            f" BEGIN SELECT RAISE(ABORT, '{_MESSAGE}'); END"
        )
    else:
        # EXECUTE passes the row as $1; '@' stands for the schema of the table that the trigger guards.
        condition = _NEW.format(schema="@", row="($1).")
        op.execute(_POSTGRESQL_NEXT_ROW.format(condition=condition, message=_MESSAGE))
        for name, definition in _POSTGRESQL_TRIGGERS.items():
            op.execute(f"CREATE TRIGGER {name} {definition}")
            op.execute(f"ALTER TABLE cosignature ENABLE ALWAYS TRIGGER {name}")


def downgrade() -> None:
    raise LedgerError(
        "Cosignatures are evidence that witnesses may not give again, so this revision is not downgraded.",
        remedy="keep the database, and restore a backup beside it if an older program must run",
    )
