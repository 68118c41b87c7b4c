"""Alembic's entry point: runs the revisions in the transaction that `mbd.records.database.upgrade` opened.

It reads no ini file and opens no database of its own, so there is one way to upgrade.
"""

from alembic import context

from mbd.records.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
