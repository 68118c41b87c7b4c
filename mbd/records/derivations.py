"""Which channels of a line fall with which others, as its cohort's node says: approvals need it, and open no cohort."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, select

from mbd.errors import RecordsError
from mbd.records import models, tables
from mbd.records.lineage import Kind, node_id

_FOLLOWS = "follows"


def attribute(follows: Mapping[str, Collection[str]]) -> dict[str, Any]:
    """What a cohort's node keeps of it."""
    return {_FOLLOWS: {channel: sorted(sources) for channel, sources in sorted(follows.items())}}


def of_cohort(connection: Connection, root: str) -> dict[str, list[str]]:
    """Of each channel of a cohort, by its root, the channels with which it falls.

    Raises:
        RecordsError: the lineage does not know it.
    """
    at = tables.lineage_node.c
    attributes = connection.scalar(select(at.attributes).where(at.id == node_id(Kind.COHORT, root)))
    if attributes is None or _FOLLOWS not in attributes:
        raise RecordsError(
            f"The lineage does not say which channels of the cohort {root[:16]} fall with which.",
            remedy="restore the database; every cohort that was trained on has it there",
        )
    found: dict[str, list[str]] = attributes[_FOLLOWS]
    return found


def of_live_lines(connection: Connection) -> tuple[dict[str, list[str]], ...]:
    """The same for the cohort of every live version, by line."""
    return tuple(of_cohort(connection, version.cohort) for version in models.live_versions(connection))
