"""One reading of the lineage, of which every export is a rendering. It knows no person: exposure is not read at all."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from mbd.errors import RecordsError
from mbd.records import certificates, destruction, lineage, models
from mbd.records.certificates import Certificate, CertificateKind
from mbd.records.destruction import Destruction
from mbd.records.lineage import Graph, Kind, Node, Role
from mbd.records.models import ModelVersion, VersionState

COHORTS = frozenset({Kind.COHORT, Kind.PUBLIC_COHORT})
NAMESPACE = "https://missing-by-design.dev/"
"""Begins the name of whatever needs one that is unique in the world."""


@dataclass(frozen=True)
class Version:
    """A model version and what is known about it.

    Attributes:
        cohorts: those whose rows flowed into it, by way of statistics and backbones. Its parent's rows did not, unless
            the network came from there.
        predecessor: the version whose place it took.
        retired_at: when its successor took its place, or else when it was destroyed; None where neither happened.
        certificates: current ones of deletions that made it, as logged.
        absences: current ones that say what it does not hold, likewise.
        destruction: the signed statement that its files were destroyed.
    """

    record: ModelVersion
    cohorts: tuple[Node, ...]
    predecessor: int | None
    retired_at: datetime | None
    certificates: tuple[Certificate, ...]
    absences: tuple[Certificate, ...]
    destruction: Destruction | None

    @property
    def name(self) -> str:
        """``line/version``."""
        return lineage.model_key(self.record.line, self.record.version)

    @property
    def act(self) -> str:
        """What made it: ``train``, ``unlearn``, or ``renew``, which changes nobody's channels."""
        if self.record.parent_version is None:
            return "train"
        return "unlearn" if self.record.guarantee_class else "renew"


@dataclass(frozen=True)
class Reading:
    """The lineage of all lines, or of one.

    Attributes:
        origin: the name of the deployment's log, by which others know the deployment.
        graph: nodes and edges.
        versions: by line and number.
    """

    origin: str
    graph: Graph
    versions: tuple[Version, ...]

    @property
    def nodes(self) -> Mapping[str, Node]:
        """By id."""
        return {node.id: node for node in self.graph.nodes}

    @property
    def as_of(self) -> datetime | None:
        """When the latest of all this happened; None where nothing did."""
        times = [node.created_at for node in self.graph.nodes]
        return max((*times, *(v.destruction.destroyed_at for v in self.versions if v.destruction)), default=None)


def read_lineage(connection: Connection, origin: str, line: str | None = None) -> Reading:
    """Read the lineage, of one line where that is named: its versions, all that they came from, all that is about them.

    Raises:
        RecordsError: there is no such line.
    """
    if line is not None and line not in models.lines(connection):
        raise RecordsError(f"There is no model line '{line}'.", remedy="list the lines with mbd lineage")
    lines = models.lines(connection) if line is None else (line,)
    records = [record for name in lines for record in models.versions(connection, name)]
    graph = lineage.whole(connection)
    if line is not None:
        graph = _around(graph, {record.node for record in records})
    issued = defaultdict[tuple[str, int, CertificateKind], list[Certificate]](list)
    for certificate in certificates.current(connection):
        issued[certificate.model_line, certificate.version, certificate.kind].append(certificate)
    destroyed = {(each.line, each.version): each for each in destruction.every(connection, line)}
    by_node, nodes = {record.node: record for record in records}, {node.id: node for node in graph.nodes}
    flows = _steps((edge.child, edge.parent) for edge in graph.edges if edge.role is Role.COMPUTED_FROM)
    places = [(edge.parent, edge.child) for edge in graph.edges if edge.role is Role.SUCCEEDS and edge.child in by_node]
    before = {child: by_node[parent] for parent, child in places}
    after = {parent: by_node[child] for parent, child in places}
    versions = []
    for record in records:
        number = (record.line, record.version)
        successor, gone = after.get(record.node), destroyed.get(number)
        retired_at = successor.created_at if successor else gone.destroyed_at if gone else None
        came_from = [nodes[name] for name in sorted(_reached({record.node}, flows))]
        versions.append(
            Version(
                record,
                cohorts=tuple(node for node in came_from if node.kind in COHORTS),
                predecessor=before[record.node].version if record.node in before else None,
                retired_at=retired_at if record.state is VersionState.RETIRED else None,
                certificates=tuple(issued[*number, CertificateKind.DELETION]),
                absences=tuple(issued[*number, CertificateKind.ABSENCE]),
                destruction=gone,
            )
        )
    return Reading(origin, graph, tuple(versions))


def _around(graph: Graph, versions: set[str]) -> Graph:
    """What versions came from, and what is about them."""
    parents = _steps((edge.child, edge.parent) for edge in graph.edges)
    about = _steps((edge.parent, edge.child) for edge in graph.edges if edge.role is Role.ABOUT)
    kept = _reached(versions, parents) | _reached(versions, about)
    return Graph(
        tuple(node for node in graph.nodes if node.id in kept),
        tuple(edge for edge in graph.edges if edge.child in kept and edge.parent in kept),
    )


def _steps(pairs: Iterable[tuple[str, str]]) -> Mapping[str, list[str]]:
    """Where each node leads."""
    steps: dict[str, list[str]] = {}
    for start, end in pairs:
        steps.setdefault(start, []).append(end)
    return steps


def _reached(start: set[str], steps: Mapping[str, list[str]]) -> set[str]:
    """Everything that nodes lead to, and they themselves."""
    reached, waiting = set(start), list(start)
    while waiting:
        new = set(steps.get(waiting.pop(), ())) - reached
        reached |= new
        waiting += new
    return reached
