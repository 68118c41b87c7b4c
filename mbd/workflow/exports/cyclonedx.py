"""The lineage as a CycloneDX 1.6 bill of materials (ML-BOM): model versions with model cards, backbones and cohorts.

The document is a function of the records: the same lineage gives the same bytes. The library for CycloneDX writes no
model cards, so this is its JSON by hand, and the tests hold it against the schema that the library ships.
"""

import json
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from certs.wire import format_timestamp
from mbd import __version__
from mbd.hashing import json_digest
from mbd.records.lineage import Kind, Node, Role
from mbd.records.models import VersionState
from mbd.workflow.exports.graph import COHORTS, NAMESPACE, Reading, Version

_SCOPES: Final = {
    VersionState.LIVE: "required",
    VersionState.CANDIDATE: "optional",
    VersionState.RETIRED: "excluded",
}
"""CycloneDX' word for what is in use, may be, and is not."""


def document(reading: Reading) -> dict[str, Any]:
    """The bill of materials."""
    components = [_version(reading, version) for version in reading.versions]
    components += [_backbone(node) for node in reading.graph.nodes if node.kind is Kind.BACKBONE]
    components += [_cohort(node) for node in reading.graph.nodes if node.kind in COHORTS]
    parts = {component["bom-ref"] for component in components}
    dependencies: dict[str, set[str]] = {name: set() for name in parts}
    for edge in reading.graph.edges:
        if edge.role is Role.COMPUTED_FROM and {edge.child, edge.parent} <= parts:
            dependencies[edge.child].add(edge.parent)
    body: dict[str, Any] = {
        "components": components,
        "dependencies": [{"ref": name, "dependsOn": sorted(on)} for name, on in sorted(dependencies.items())],
    }
    tool = {"type": "application", "name": "missing-by-design", "version": __version__}
    metadata: dict[str, Any] = {
        "tools": {"components": [tool]},
        "properties": _properties({"origin": reading.origin}),
    }
    if reading.as_of is not None:
        metadata["timestamp"] = format_timestamp(reading.as_of)
    serial = uuid5(NAMESPACE_URL, f"{NAMESPACE}bom/{reading.origin}/{json_digest(body)}")
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": metadata,
        **body,
    }


def to_bytes(reading: Reading) -> bytes:
    """The bill of materials as a file."""
    return (json.dumps(document(reading), indent=2, ensure_ascii=False) + "\n").encode()


def _version(reading: Reading, version: Version) -> dict[str, Any]:
    record = version.record
    about = {
        "state": record.state.value,
        "guarantee": record.guarantee_class,
        "takes-the-place-of": None if version.predecessor is None else str(version.predecessor),
        "statistics": record.statistics,
    }
    if version.destruction is not None:
        about["destroyed-at"] = format_timestamp(version.destruction.destroyed_at)
        about["destruction-statement-sha256"] = version.destruction.dsse_digest
    return {
        "type": "machine-learning-model",
        "bom-ref": record.node,
        "group": reading.origin,
        "name": record.line,
        "version": str(record.version),
        "scope": _SCOPES[record.state],
        "hashes": _sha256(record.digest),
        "externalReferences": [
            {
                "type": "attestation",
                "url": f"v1/certificates/{certificate.id}",
                "comment": f"Certificate of {certificate.kind}, request {certificate.revocation_id}; relative to the"
                " service's address. The hash is of what its signature is over.",
                "hashes": _sha256(certificate.dsse_digest),
            }
            for certificate in (*version.certificates, *version.absences)
        ],
        "modelCard": {
            "modelParameters": {
                "approach": {"type": "supervised"},
                "datasets": [{"ref": cohort.id} for cohort in version.cohorts],
            },
        },
        "properties": _properties(about),
    }


def _backbone(node: Node) -> dict[str, Any]:
    return {
        "type": "machine-learning-model",
        "bom-ref": node.id,
        "name": node.name,
        "hashes": _sha256(node.digest),
        "modelCard": {"modelParameters": {"approach": {"type": "supervised"}}},
        "properties": _properties({name: node.attributes.get(name) for name in ("recipe_digest", "transcript_digest")}),
    }


def _cohort(node: Node) -> dict[str, Any]:
    rows = node.attributes.get("rows")
    about = {"merkle-root" if node.kind is Kind.COHORT else "digest": node.digest}
    if rows is not None:
        about["rows"] = str(rows)
    partition = "public rows, which nobody can withdraw" if node.kind is Kind.PUBLIC_COHORT else "rows of people"
    return {
        "type": "data",
        "bom-ref": node.id,
        "name": node.name,
        "data": [{"type": "dataset", "name": node.name, "description": partition}],
        "properties": _properties(about),
    }


def _sha256(digest: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": digest}]


def _properties(values: dict[str, Any]) -> list[dict[str, str]]:
    return [{"name": f"mbd:{name}", "value": value} for name, value in values.items() if value is not None]
