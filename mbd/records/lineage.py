"""What came from what, and who was in it. It knows no file and no tensor, only digests.

Whether a model saw a channel follows from three roles of edges:

- `COMPUTED_FROM`: the parent's content flowed into the child. Statistics and backbones are computed from cohorts,
  model versions from statistics and backbones.
- `SUCCEEDS`: the child took the parent's place. A cohort keeps its predecessor's channels but those recorded as
  dropped; everything else was computed anew, and owes the predecessor nothing.
- `ABOUT`: the child speaks of the parent, as deletions, certificates and ledger entries do. No content flows.

A backbone that was trained on the public rows alone is computed from a node of their own, a `PUBLIC_COHORT`: whose
channels a node contains is a property of nodes (`mbd.records.exposure` asks about it), and what everyone withdraws
does not reach rows that nobody can revoke. Writers pass a connection from `database.begin_locked`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, Select, insert, select

from mbd.errors import RecordsError
from mbd.records import tables


class Kind(StrEnum):
    """What a node stands for."""

    COHORT = "cohort"
    PUBLIC_COHORT = "public_cohort"
    STATISTICS = "statistics"
    BACKBONE = "backbone"
    MODEL_VERSION = "model_version"
    DELETION = "deletion"
    CERTIFICATE = "certificate"
    LEDGER_ENTRY = "ledger_entry"


class Role(StrEnum):
    """Why a child has a parent; the module's docstring says what each means."""

    COMPUTED_FROM = "computed_from"
    SUCCEEDS = "succeeds"
    ABOUT = "about"


@dataclass(frozen=True)
class Node:
    """A thing in the lineage.

    Attributes:
        key: what names it among its kind. For a cohort, statistics and a backbone that is the digest: equal content
            is one node. Whatever happens once has a name of its own (`model_key`, a revocation's id, a leaf's index),
            because two versions of a model may be equal bit for bit and still have different origins.
        digest: of its content.
        name: for people.
    """

    kind: Kind
    key: str
    digest: str
    name: str
    created_at: datetime
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The node's id, as edges name it."""
        return node_id(self.kind, self.key)


@dataclass(frozen=True)
class Edge:
    """A child's reason to have a parent; both are node ids."""

    child: str
    parent: str
    role: Role


@dataclass(frozen=True)
class Graph:
    """Nodes, sorted by id, and the edges between them."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


def node_id(kind: Kind, key: str) -> str:
    """``kind:key``."""
    return f"{kind}:{key}"


def model_key(line: str, version: int) -> str:
    """What names a model version among its kind: ``line/version``."""
    return f"{line}/{version}"


def add_node(connection: Connection, node: Node) -> str:
    """Add a node and return its id. One that is there already stays as it is.

    Raises:
        RecordsError: it is there already, with another digest.
    """
    stored = connection.scalar(select(tables.lineage_node.c.digest).where(tables.lineage_node.c.id == node.id))
    if stored is None:
        connection.execute(
            insert(tables.lineage_node).values(
                id=node.id,
                kind=node.kind.value,
                digest=node.digest,
                name=node.name,
                created_at=node.created_at,
                attributes=dict(node.attributes),
            )
        )
    elif stored != node.digest:
        raise RecordsError(
            f"The lineage has '{node.id}' with digest {stored}, not {node.digest}.",
            remedy="give the new content a key of its own",
        )
    return node.id


def add_edge(connection: Connection, child: str, parent: str, role: Role) -> None:
    """Join two nodes by their ids. An edge that is there already stays as it is.

    Raises:
        RecordsError: one of the nodes is not there.
    """
    at, ids = tables.lineage_edge.c, tables.lineage_node.c.id
    for end in (child, parent):
        if connection.scalar(select(ids).where(ids == end)) is None:
            raise RecordsError(f"The lineage has no '{end}'.", remedy="add the node before its edges")
    same = select(at.child).where(at.child == child, at.parent == parent, at.role == role.value)
    if connection.scalar(same) is None:
        connection.execute(insert(tables.lineage_edge).values(child=child, parent=parent, role=role.value))


def ancestry(connection: Connection, node: str) -> Graph:
    """Where a node comes from, by its id: itself, and everything it came from or speaks of.

    Raises:
        RecordsError: there is no such node.
    """
    edge = tables.lineage_edge
    found = select(tables.lineage_node.c.id).where(tables.lineage_node.c.id == node).cte("found", recursive=True)
    found = found.union(select(edge.c.parent).join(found, edge.c.child == found.c.id))
    ids = select(found.c.id)
    result = _graph(connection, ids)
    if not result.nodes:
        raise RecordsError(f"The lineage has no '{node}'.", remedy="list the model versions with mbd lineage")
    return result


def whole(connection: Connection) -> Graph:
    """Everything that the lineage has."""
    return _graph(connection, select(tables.lineage_node.c.id))


def _graph(connection: Connection, ids: Select[tuple[str]]) -> Graph:
    at, edge = tables.lineage_node.c, tables.lineage_edge
    nodes = connection.execute(select(tables.lineage_node).where(at.id.in_(ids)).order_by(at.id))
    edges = connection.execute(
        select(edge).where(edge.c.child.in_(ids)).order_by(edge.c.child, edge.c.parent, edge.c.role)
    )
    return Graph(
        tuple(_node(row) for row in nodes),
        tuple(Edge(row.child, row.parent, Role(row.role)) for row in edges),
    )


def _node(row: Row[Any]) -> Node:
    kind = Kind(row.kind)
    return Node(kind, row.id.removeprefix(f"{kind}:"), row.digest, row.name, row.created_at, row.attributes)
