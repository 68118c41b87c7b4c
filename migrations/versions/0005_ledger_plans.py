"""The ledger's next-row triggers on PostgreSQL, with plans that are kept: the same conditions as in 0001.

Those of 0001 built their query anew for each row (EXECUTE), so that PostgreSQL parsed and planned it each time: more
than half of what an append cost. Now the schema's name stands in the function's text, and PL/pgSQL keeps one plan a
session. The name is still qualified, so a temporary table does not hide the log. If the schema is renamed, appends fail
until the functions name it again: they refuse, they do not let pass. SQLite's triggers have always been planned with
their statement and stay as they are.
"""

import sqlalchemy as sa
from alembic import op

from mbd.errors import LedgerError

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_NEXT_ROW = {
    "leaf": "NEW.idx = (SELECT coalesce(max(idx) + 1, 0) FROM {schema}.leaf)",
    "node": "NEW.idx = (SELECT coalesce(max(idx) + 1, 0) FROM {schema}.node WHERE level = NEW.level)",
    "head": "NEW.size > (SELECT max(size) FROM {schema}.head) AND NEW.size = (SELECT max(idx) + 1 FROM {schema}.leaf)",
    "checkpoint": "NEW.size > (SELECT coalesce(max(size), -1) FROM {schema}.checkpoint)",
}

# The triggers name the functions, so they need no change.
_FUNCTION = """
CREATE OR REPLACE FUNCTION ledger_next_{table}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF ({condition}) IS NOT TRUE THEN
        RAISE EXCEPTION 'the ledger is append-only: {table} takes its next row and no other';
    END IF;
    RETURN NEW;
END $$
"""


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        schema = connection.scalar(sa.text("SELECT quote_ident(current_schema())"))
        for table, condition in _NEXT_ROW.items():
            op.execute(_FUNCTION.format(table=table, condition=condition.format(schema=schema)))


def downgrade() -> None:
    raise LedgerError(
        "The ledger's triggers are not downgraded: those before are only slower.",
        remedy="keep the database, and restore a backup beside it if an older program must run",
    )
