"""Copies the records into a new database whose log begins anew, when a log's origin is retired.

Everything comes along but the old log: its rows, its index of notices, and the lineage's nodes of its entries. A
certificate keeps its bundle, which is all that a verifier needs of the old log.
"""

from typing import Any

from sqlalchemy import Connection, insert, select

from mbd.records import tables
from mbd.records.lineage import Kind, node_id

_LEFT_BEHIND = {*tables.LEDGER, tables.notice, tables.noise_commitment}
_ROWS = 500


def copy_records(old: Connection, new: Connection) -> None:
    """Copy all records but the log's, in the caller's two transactions; the new database has an upgraded schema."""
    entries = node_id(Kind.LEDGER_ENTRY, "")
    for table in tables.metadata.sorted_tables:
        if table in _LEFT_BEHIND:
            continue
        result = old.execute(select(table).order_by(*table.primary_key)).mappings()
        while page := result.fetchmany(_ROWS):
            rows = [kept for row in page if (kept := _kept(table.name, dict(row), entries))]
            if rows:
                new.execute(insert(table), rows)


def _kept(table: str, row: dict[str, Any], entries: str) -> dict[str, Any] | None:
    if table == "lineage_node" and row["id"].startswith(entries):
        return None
    if table == "lineage_edge" and (row["child"].startswith(entries) or row["parent"].startswith(entries)):
        return None
    if table == "certificate":
        row["leaf_index"] = None
    return row
