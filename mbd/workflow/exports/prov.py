"""The lineage as PROV-JSON (W3C member submission of 2013): entities, the activities that made them, one agent.

    wasDerivedFrom     the parent's content flowed into the child; also a cohort from the one that it is a part of
    wasGeneratedBy     a version by its making, a certificate by the deletion that it speaks of
    used               a making and the cohorts, statistics and backbones that it read
    wasInvalidatedBy   a version by its destruction
    wasInfluencedBy    a document and what else it speaks of

That a version took another's place is an attribute: nothing of the old one flowed in.
"""

import json
from collections import defaultdict
from typing import Any

from certs.wire import format_timestamp
from mbd.records.lineage import Edge, Kind, Node, Role
from mbd.workflow.exports.graph import NAMESPACE, Reading, Version

_PREFIX = {"mbd": f"{NAMESPACE}ns#", "prov": "http://www.w3.org/ns/prov#", "xsd": "http://www.w3.org/2001/XMLSchema#"}
_AGENT = "mbd:service"


def document(reading: Reading) -> dict[str, Any]:
    """The document. Its relations have ids of their own, which count them."""
    made = _Document(reading)
    for node in reading.graph.nodes:
        if node.kind is Kind.DELETION:
            made.activity(_name(node.id), node.created_at, {"prov:label": node.name})
        elif node.kind is not Kind.MODEL_VERSION:
            made.entity(node)
    for version in reading.versions:
        made.version(version)
    for edge in reading.graph.edges:
        made.edge(edge)
    return {"prefix": _PREFIX, **{name: entries for name, entries in made.parts.items() if entries}}


def to_bytes(reading: Reading) -> bytes:
    """The document as a file."""
    return (json.dumps(document(reading), indent=2, ensure_ascii=False) + "\n").encode()


class _Document:
    """A document as it grows.

    Attributes:
        parts: entities, activities, the agent, and each kind of relation, by id.
    """

    def __init__(self, reading: Reading) -> None:
        self.parts: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        self._nodes = reading.nodes
        agent = {"prov:type": {"$": "prov:SoftwareAgent", "type": "xsd:QName"}, "prov:label": reading.origin}
        self.parts["agent"][_AGENT] = agent

    def entity(self, node: Node, **more: Any) -> None:
        about = {"prov:label": node.name, "mbd:kind": node.kind.value, "mbd:sha256": node.digest}
        self.parts["entity"][_name(node.id)] = about | more

    def activity(self, name: str, at: Any, about: dict[str, Any]) -> None:
        time = format_timestamp(at)
        self.parts["activity"][name] = {"prov:startTime": time, "prov:endTime": time} | about
        self._relate("wasAssociatedWith", {"prov:activity": name, "prov:agent": _AGENT})

    def version(self, version: Version) -> None:
        """The version, how it was made, and how it was destroyed."""
        record, name = version.record, _name(version.record.node)
        more: dict[str, Any] = {"mbd:state": record.state.value}
        if version.predecessor is not None:
            more["mbd:takesThePlaceOfVersion"] = version.predecessor
        if record.guarantee_class is not None:
            more["mbd:guarantee"] = record.guarantee_class
        self.entity(self._nodes[record.node], **more)
        making = f"mbd:making/{version.name}"
        self.activity(making, record.created_at, {"prov:label": f"{version.act} {record.line}"})
        time = format_timestamp(record.created_at)
        self._relate("wasGeneratedBy", {"prov:entity": name, "prov:activity": making, "prov:time": time})
        if version.destruction is not None:
            end, at = f"mbd:destruction/{version.name}", version.destruction.destroyed_at
            self.activity(end, at, {"mbd:statementSha256": version.destruction.dsse_digest})
            gone = {"prov:entity": name, "prov:activity": end, "prov:time": format_timestamp(at)}
            self._relate("wasInvalidatedBy", gone)

    def edge(self, edge: Edge) -> None:
        """A reason to have a parent, in PROV's words."""
        child, parent = self._nodes[edge.child], self._nodes[edge.parent]
        if edge.role is Role.ABOUT:
            self._about(child, parent)
        elif edge.role is Role.COMPUTED_FROM or child.kind is Kind.COHORT:
            derived = {"prov:generatedEntity": _name(child.id), "prov:usedEntity": _name(parent.id)}
            self._relate("wasDerivedFrom", derived)
            if child.kind is Kind.MODEL_VERSION:
                making = f"mbd:making/{child.key}"
                self._relate("used", {"prov:activity": making, "prov:entity": _name(parent.id)})

    def _about(self, child: Node, parent: Node) -> None:
        if child.kind is Kind.CERTIFICATE and parent.kind is Kind.DELETION:
            time = format_timestamp(child.created_at)
            made = {"prov:entity": _name(child.id), "prov:activity": _name(parent.id), "prov:time": time}
            self._relate("wasGeneratedBy", made)
        else:
            self._relate("wasInfluencedBy", {"prov:influencee": _name(child.id), "prov:influencer": _name(parent.id)})

    def _relate(self, kind: str, members: dict[str, Any]) -> None:
        entries = self.parts[kind]
        entries[f"_:{kind}{len(entries) + 1}"] = members


def _name(node: str) -> str:
    """A qualified name of a node's id."""
    kind, _, key = node.partition(":")
    return f"mbd:{kind}/{key}"
