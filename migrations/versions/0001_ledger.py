"""The ledger, and the triggers that keep it append-only, because a log that can be rewritten proves nothing.

Every table may grow by its next row and by no other. The triggers hold against: UPDATE and DELETE; SQLite's REPLACE,
which skips DELETE triggers unless `recursive_triggers` is on (so the check stands before the INSERT); PostgreSQL's
TRUNCATE, which skips row triggers (a statement trigger), ``session_replication_role = replica``, which skips ordinary
ones (``ENABLE ALWAYS``), and a temporary table that hides the real one (names are qualified by the trigger's schema).
They cannot hold against the owner of the database: that is what checkpoints kept elsewhere are for.
"""

import hashlib

import sqlalchemy as sa
from alembic import op

from mbd.errors import LedgerError

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# What must hold of a new row; `{schema}` is empty on SQLite, whose triggers see only their own database.
_NEXT_ROW = {
    "leaf": "NEW.idx = (SELECT coalesce(max(idx) + 1, 0) FROM {schema}leaf)",
    "node": "NEW.idx = (SELECT coalesce(max(idx) + 1, 0) FROM {schema}node WHERE level = NEW.level)",
    "head": "NEW.size > (SELECT max(size) FROM {schema}head) AND NEW.size = (SELECT max(idx) + 1 FROM {schema}leaf)",
    "checkpoint": "NEW.size > (SELECT coalesce(max(size), -1) FROM {schema}checkpoint)",
}

_ONLY_GROWS = "the ledger is append-only: {table} takes its next row and no other"

_POSTGRESQL_REFUSE = """
CREATE FUNCTION ledger_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only: % of % is refused', TG_OP, TG_TABLE_NAME;
END $$
"""

_POSTGRESQL_NEXT_ROW = """
CREATE FUNCTION ledger_next_{table}() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE is_next boolean;
BEGIN
    EXECUTE replace('SELECT {condition}', '@', quote_ident(TG_TABLE_SCHEMA) || '.') INTO is_next USING NEW;
    IF is_next IS NOT TRUE THEN
        RAISE EXCEPTION '{message}';
    END IF;
    RETURN NEW;
END $$
"""


def upgrade() -> None:
    int64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "leaf",
        sa.Column("idx", int64, autoincrement=False, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("idx >= 0", name=op.f("ck_leaf_idx")),
        sa.CheckConstraint("length(hash) = 32", name=op.f("ck_leaf_hash")),
        sa.PrimaryKeyConstraint("idx", name=op.f("pk_leaf")),
    )
    op.create_table(
        "node",
        sa.Column("level", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("idx", int64, autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("level >= 3 AND idx >= 0", name=op.f("ck_node_place")),
        sa.CheckConstraint("length(hash) = 32", name=op.f("ck_node_hash")),
        sa.PrimaryKeyConstraint("level", "idx", name=op.f("pk_node")),
        sqlite_with_rowid=False,
    )
    head = op.create_table(
        "head",
        sa.Column("size", int64, autoincrement=False, nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("size >= 0", name=op.f("ck_head_size")),
        sa.CheckConstraint("length(root) = 32", name=op.f("ck_head_root")),
        sa.PrimaryKeyConstraint("size", name=op.f("pk_head")),
    )
    op.create_table(
        "checkpoint",
        sa.Column("size", int64, autoincrement=False, nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.CheckConstraint("length(root) = 32", name=op.f("ck_checkpoint_root")),
        sa.ForeignKeyConstraint(["size"], ["head.size"], name=op.f("fk_checkpoint_size")),
        sa.PrimaryKeyConstraint("size", name=op.f("pk_checkpoint")),
    )
    op.bulk_insert(head, [{"size": 0, "root": hashlib.sha256(b"").digest()}])
    if op.get_bind().dialect.name == "sqlite":
        _guard_sqlite()
    else:
        _guard_postgresql()


def _guard_sqlite() -> None:
    for table, condition in _NEXT_ROW.items():
        message = _ONLY_GROWS.format(table=table)
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table}"
                f" BEGIN SELECT RAISE(ABORT, '{message}'); END"
            )
        op.execute(
            f"CREATE TRIGGER {table}_next_row BEFORE INSERT ON {table}"
            f" WHEN ({condition.format(schema='')}) IS NOT TRUE"
            f" BEGIN SELECT RAISE(ABORT, '{message}'); END"
        )


def _guard_postgresql() -> None:
    op.execute(_POSTGRESQL_REFUSE)
    for table, condition in _NEXT_ROW.items():
        # EXECUTE passes the row as $1; '@' stands for the schema of the table that the trigger guards.
        dynamic = condition.format(schema="@").replace("NEW.", "($1).")
        message = _ONLY_GROWS.format(table=table)
        op.execute(_POSTGRESQL_NEXT_ROW.format(table=table, condition=dynamic, message=message))
        triggers = {
            f"{table}_no_change": "BEFORE UPDATE OR DELETE ON {0} FOR EACH ROW EXECUTE FUNCTION ledger_refuse()",
            f"{table}_no_truncate": "BEFORE TRUNCATE ON {0} FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse()",
            f"{table}_next_row": "BEFORE INSERT ON {0} FOR EACH ROW EXECUTE FUNCTION ledger_next_{0}()",
        }
        for name, definition in triggers.items():
            op.execute(f"CREATE TRIGGER {name} {definition.format(table)}")
            op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}")


def downgrade() -> None:
    raise LedgerError(
        "An append-only ledger is not downgraded: its leaves would be lost.",
        remedy="keep the database, and restore a backup beside it if an older program must run",
    )
