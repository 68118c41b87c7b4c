"""Has the database overwrite what it keeps of destroyed openings in its own files. It destroys nothing itself.

SQLite: `secure_delete` overwrites in the file, and the write-ahead log keeps the old page until it is emptied.
PostgreSQL: the old row lies in the table's file until the table is written anew. A plain VACUUM is not enough: it
frees the row's space and does not overwrite it. The server's own write-ahead log is not in our hands.
"""

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from mbd.records.database import begin_nothing

_TABLE = "commitment_key"
_WAIT_MS = 5000  # for those who use the table; whoever comes after us waits as long as we do
_OTHERS = """SELECT count(*) FROM pg_stat_activity
    WHERE backend_xmin IS NOT NULL AND datname = current_database() AND pid <> pg_backend_pid()"""


def scrub(engine: Engine) -> str | None:
    """Overwrite old rows of the table of openings, after the transaction that destroyed some; safe to repeat.

    Crash point: openings that are destroyed and not scrubbed are out of every answer, and in a file until this runs
    again, SQLite's last connection closes, or PostgreSQL reuses the place.

    Returns:
        What is left to do, as a sentence for the operator; None when nothing is.
    """
    if engine.dialect.name == "sqlite":
        return _empty_write_ahead_log(engine)
    with begin_nothing(engine) as connection:
        return _write_anew(connection)


def _empty_write_ahead_log(engine: Engine) -> str | None:
    raw = engine.raw_connection()  # a checkpoint runs outside of any transaction, which SQLAlchemy would begin
    try:
        cursor = raw.cursor()
        ((usual,),) = cursor.execute("PRAGMA busy_timeout").fetchall()
        cursor.execute(f"PRAGMA busy_timeout = {_WAIT_MS}")
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        ((busy, _, _),) = cursor.fetchall()
        cursor.execute(f"PRAGMA busy_timeout = {usual}")
        cursor.close()
    finally:
        raw.close()
    if not busy:
        return None
    return "Another command reads the database, and its write-ahead log keeps old pages until that command ends."


def _write_anew(connection: Connection) -> str | None:
    """VACUUM FULL, which only warns where the role may not: the table has a new file exactly when it was done.

    It takes along what a transaction that began earlier could still ask for.
    """
    others = connection.exec_driver_sql(_OTHERS).scalar_one()
    before = _file(connection)
    connection.exec_driver_sql(f"SET lock_timeout = {_WAIT_MS}")
    try:
        connection.exec_driver_sql(f"VACUUM (FULL) {_TABLE}")
    except OperationalError:
        return f"The table {_TABLE} was in use. Run as its owner: VACUUM (FULL) {_TABLE}"
    finally:
        connection.exec_driver_sql("RESET lock_timeout")
    if _file(connection) == before:
        return f"This role may not write the table {_TABLE} anew. Run as its owner: VACUUM (FULL) {_TABLE}"
    if others:
        return f"Other transactions were open, and may have kept old rows. When they ended: VACUUM (FULL) {_TABLE}"
    return None


def _file(connection: Connection) -> int:
    return int(connection.exec_driver_sql(f"SELECT pg_relation_filenode('{_TABLE}')").scalar_one())
