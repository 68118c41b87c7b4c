"""How the ledger's rows are read by place and written by the thousand: SQL as text, one journey for many rows.

Text, because building a statement from expressions costs more than running it. It knows the three tables of the tree,
and neither what belongs into them nor who may write.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain

from sqlalchemy import Connection

from mbd.records.tree import Node, Place

# Rows of one statement on SQLite. Larger ones gain nothing, and it takes no more than 32,766 values.
_ROWS = 200

_HEAD = "SELECT size, root FROM head ORDER BY size DESC LIMIT 1"

# The arrays make it one text for any number of rows, so that its plan is kept. The conditions on `leaves` and `nodes`
# run both to their ends before the head is inserted: its trigger wants to see them, and refuses otherwise.
_POSTGRESQL_APPEND = """
WITH now AS MATERIALIZED (
    SELECT size, root FROM head ORDER BY size DESC LIMIT 1
), leaves AS (
    INSERT INTO leaf (idx, body, hash) SELECT new.* FROM unnest(%b::bigint[], %b::bytea[], %b::bytea[]) AS new, now
    WHERE now.size = %b::bigint AND now.root = %b::bytea RETURNING idx
), nodes AS (
    INSERT INTO node (level, idx, hash) SELECT new.* FROM unnest(%b::int[], %b::bigint[], %b::bytea[]) AS new, now
    WHERE now.size = %b::bigint AND now.root = %b::bytea RETURNING idx
)
INSERT INTO head (size, root) SELECT %b::bigint, %b::bytea
WHERE (SELECT count(*) FROM leaves) > 0 AND (SELECT count(*) FROM nodes) >= 0
"""

# Arrays here too: a driver keeps few statements, and there are more numbers of nodes and leaves than that.
_POSTGRESQL_READ = f"""
SELECT -1, size, root FROM ({_HEAD}) AS now
UNION ALL
SELECT level, idx, hash FROM unnest(%b::int[], %b::bigint[]) AS place (level, idx) JOIN node USING (level, idx)
UNION ALL
SELECT 0, idx, hash FROM leaf WHERE idx = ANY (%b::bigint[])
"""  # noqa: S608 it is made of constants alone


Leaf = tuple[int, bytes, bytes]
"""``(idx, body, hash)``"""


def write(
    connection: Connection, before: tuple[int, bytes], leaves: Sequence[Leaf], nodes: Sequence[Node], root: bytes
) -> bool:
    """Insert the next leaves (at least one), the subtrees that they complete, and the head with that root.

    They extend the head ``before``, size and root. On PostgreSQL nothing is inserted, and False returned, when the head
    is another one; on SQLite, where to look costs nothing, the caller has looked.

    Crash points: death between these writes, or after them, leaves the transaction uncommitted, and the old head in
    force.
    """
    size = leaves[-1][0] + 1
    if connection.dialect.name == "postgresql":
        columns = [[[row[column] for row in rows] for column in range(3)] for rows in (leaves, nodes)]
        values = (*columns[0], *before, *columns[1], *before, size, root)
        return connection.exec_driver_sql(_POSTGRESQL_APPEND, values).rowcount == 1
    _insert(connection, "leaf (idx, body, hash)", leaves)
    _insert(connection, "node (level, idx, hash)", nodes)
    _insert(connection, "head (size, root)", [(size, root)])
    return True


def head(connection: Connection) -> tuple[int, bytes] | None:
    """Size and root of the tree now, or None where the log has lost its head."""
    row = connection.exec_driver_sql(_HEAD).one_or_none()
    return None if row is None else (row[0], row[1])


def read(connection: Connection, places: Sequence[Place]) -> tuple[int | None, dict[Place, bytes]]:
    """The size of the tree now (as of `head`) and the stored hashes of places, from one look.

    Places that have no row are left out.
    """
    nodes = [place for place in places if place[0] > 0]
    leaves = [idx for level, idx in places if level == 0]
    if connection.dialect.name == "postgresql":
        values = ([level for level, _ in nodes], [idx for _, idx in nodes], leaves)
        found = connection.exec_driver_sql(_POSTGRESQL_READ, values).all()
    else:
        text = _sqlite_read(len(nodes), len(leaves))
        # By the driver itself: SQLAlchemy's result costs more than so short a statement.
        cursor = connection.connection.cursor().execute(text, (*chain.from_iterable(nodes), *leaves))
        found = cursor.fetchall()
        cursor.close()
    size = next((idx for level, idx, _ in found if level < 0), None)
    return size, {(level, idx): value for level, idx, value in found}


def _insert(connection: Connection, table: str, rows: Sequence[tuple[object, ...]]) -> None:
    for first in range(0, len(rows), _ROWS):
        some = rows[first : first + _ROWS]
        marks = f"({', '.join('?' * len(some[0]))})"
        statement = f"INSERT INTO {table} VALUES {', '.join([marks] * len(some))}"  # noqa: S608 names of our own
        connection.exec_driver_sql(statement, tuple(chain.from_iterable(some)))


@lru_cache
def _sqlite_read(nodes: int, leaves: int) -> str:
    """The head as level -1, and nodes by `(level, idx)` and leaves by `idx`, each through its primary key."""
    parts = [f"SELECT -1, size, root FROM ({_HEAD}) AS now"]  # noqa: S608 it is made of constants alone
    start = ""
    if nodes:
        # Not `(level, idx) IN (...)`, for which SQLite scans the whole table; CROSS JOIN keeps it to this order.
        start = f"WITH place (level, idx) AS (VALUES {', '.join(['(?, ?)'] * nodes)}) "
        parts.append(
            "SELECT node.level, node.idx, hash FROM place CROSS JOIN node"
            " WHERE node.level = place.level AND node.idx = place.idx"
        )
    if leaves:
        parts.append(f"SELECT 0, idx, hash FROM leaf WHERE idx IN ({', '.join('?' * leaves)})")  # noqa: S608 only marks are added
    return start + " UNION ALL ".join(parts)
