"""What witnesses said of the log's checkpoints: one signature line of each witness for each size, append-only.

It reads no line. A witness is named as its caller names it, always alike.
"""

from collections.abc import Mapping

from sqlalchemy import Connection, func, insert, select

from mbd.errors import LedgerError
from mbd.records import tables
from mbd.records.database import is_locked


def keep_cosignatures(connection: Connection, size: int, lines: Mapping[str, str]) -> None:
    """Keep the lines of witnesses, by their names, for the checkpoint of a size. The first line of each stays.

    Raises:
        LedgerError: the connection does not hold the lock: two processes could keep a line at once.
    """
    if not is_locked(connection):
        raise LedgerError("Cosignatures are kept under the lock.", remedy="open the transaction with begin_locked")
    new = lines.keys() - cosignatures(connection, size).keys()
    if new:
        rows = [{"size": size, "witness": witness, "line": lines[witness]} for witness in sorted(new)]
        connection.execute(insert(tables.cosignature), rows)


def cosignatures(connection: Connection, size: int) -> dict[str, str]:
    """The lines for the checkpoint of a size, by witness."""
    at = tables.cosignature.c
    rows = connection.execute(select(at.witness, at.line).where(at.size == size).order_by(at.witness))
    return {row.witness: row.line for row in rows}


def cosigned_sizes(connection: Connection) -> dict[str, int]:
    """The largest size that each witness is known to have cosigned."""
    at = tables.cosignature.c
    rows = connection.execute(select(at.witness, func.max(at.size).label("size")).group_by(at.witness))
    return {row.witness: row.size for row in rows}
