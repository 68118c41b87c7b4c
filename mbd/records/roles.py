"""The least that the application's PostgreSQL role needs. SQLite has no roles: there the file's mode is what counts."""

from sqlalchemy import Connection, text

from mbd.errors import RecordsError
from mbd.records import tables


def grant_application_role(connection: Connection, role: str) -> None:
    """Let a role run the service without being able to rewrite the ledger or delete a record; run it as the owner.

    What is append-only: SELECT and INSERT. The others: UPDATE too. What is of passing interest: DELETE as well. The
    schema's version: SELECT.

    Raises:
        RecordsError: the database is not PostgreSQL.
    """
    if connection.dialect.name != "postgresql":
        raise RecordsError("Only PostgreSQL has roles.", remedy="on SQLite, protect the file")
    quote = connection.dialect.identifier_preparer.quote_identifier
    for table in tables.metadata.sorted_tables:
        rights = "SELECT, INSERT" if table in tables.APPEND_ONLY else "SELECT, INSERT, UPDATE"
        rights += ", DELETE" if table in tables.PASSING else ""
        connection.execute(text(f"GRANT {rights} ON {quote(table.name)} TO {quote(role)}"))
    connection.execute(text(f"GRANT SELECT ON alembic_version TO {quote(role)}"))
