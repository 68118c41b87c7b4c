"""Enter versions into the records: lineage, budget and certificate, in the caller's one transaction."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from hashlib import sha256

from sqlalchemy import Connection

from certs.dsse import Envelope
from certs.statement import Certified, DeletionStatement
from mbd.cohort.manifest import Manifest
from mbd.lattice.model import LatticeModel, Saved
from mbd.records import certificates, lineage, models
from mbd.records import exposure as exposures
from mbd.records.certificates import Certificate
from mbd.records.ledger import Appended
from mbd.records.lineage import Kind, Node, Role, node_id
from mbd.records.models import ModelVersion
from mbd.records.requests import Revocation
from mbd.records.suppression import Channel
from mbd.training.transcript import Transcript


def register_line(
    connection: Connection,
    *,
    line: str,
    name: str,
    manifest: Manifest,
    model: LatticeModel,
    saved: Saved,
    transcript: Transcript,
    exposure: Mapping[Channel, int],
    public_exposure: Mapping[Channel, int],
    now: datetime,
) -> ModelVersion:
    """A new line's version 1, with the cohort of that name, its public part, backbone and statistics."""
    backbone = saved.digests["backbone.safetensors"]
    attributes = {"recipe_digest": transcript.recipe_digest, "transcript_digest": transcript.digest}
    public = Node(Kind.PUBLIC_COHORT, transcript.data_digest, transcript.data_digest, f"{name}, public rows", now)
    whole = Node(Kind.COHORT, manifest.root, manifest.root, name, now, {"rows": manifest.rows})
    network = Node(Kind.BACKBONE, backbone, backbone, f"{transcript.recipe['backbone']} of {line}", now, attributes)
    sums = Node(Kind.STATISTICS, model.commitment, model.commitment, f"statistics of {line}", now)
    for node in (public, whole, network, sums):
        lineage.add_node(connection, node)
    lineage.add_edge(connection, network.id, public.id, Role.COMPUTED_FROM)
    lineage.add_edge(connection, sums.id, whole.id, Role.COMPUTED_FROM)
    exposures.record_exposure(connection, public.id, public_exposure)
    exposures.record_exposure(connection, whole.id, exposure)
    return models.register(
        connection,
        ModelVersion(
            line=line,
            version=1,
            digest=saved.digest,
            parent_version=None,
            guarantee_class=None,
            backbone=backbone,
            statistics=model.commitment,
            cohort=manifest.root,
            created_at=now,
        ),
    )


def register_deletion(
    connection: Connection,
    *,
    revocation: Revocation,
    live: ModelVersion,
    statement: DeletionStatement,
    envelope: Envelope,
    entry: Appended,
    dropped: Iterable[Channel],
) -> Certificate:
    """The version that a deletion made, live in its parent's place, its charge to the budget, and its certificate."""
    predicate = statement.predicate
    now, line, number = predicate.deleted_at, live.line, predicate.lineage.version
    root, sums = predicate.dataset.manifest_after.root, predicate.statistics.digest_after
    cohort = Node(Kind.COHORT, root, root, f"cohort of {line}, version {number}", now)
    statistics = Node(Kind.STATISTICS, sums, sums, f"statistics of {line}, version {number}", now)
    for node in (cohort, statistics):
        lineage.add_node(connection, node)
    lineage.add_edge(connection, cohort.id, node_id(Kind.COHORT, live.cohort), Role.SUCCEEDS)
    lineage.add_edge(connection, statistics.id, cohort.id, Role.COMPUTED_FROM)
    exposures.record_exposure(connection, cohort.id, dict.fromkeys(dropped, 0))
    version = models.register(
        connection,
        ModelVersion(
            line=line,
            version=number,
            digest=predicate.lineage.model_digest,
            parent_version=live.version,
            guarantee_class=predicate.guarantee.class_,
            backbone=live.backbone,
            statistics=sums,
            cohort=root,
            created_at=now,
        ),
    )
    if isinstance(predicate.guarantee, Certified):
        charged: dict[str, float] = {head.head: head.mu for head in predicate.procedure.updated}
        models.record_releases(connection, line, number, charged)
    dsse_digest = sha256(envelope.signed_bytes).hexdigest()
    certificate = f"mdc-{dsse_digest[:16]}"
    act = f"{line}: {predicate.procedure.mechanism}"
    deletion = Node(Kind.DELETION, f"{revocation.id}/{line}", revocation.digest, act, now)
    proof = Node(Kind.CERTIFICATE, certificate, dsse_digest, certificate, now)
    leaf = Node(Kind.LEDGER_ENTRY, str(entry.index), entry.leaf_hash.hex(), f"entry {entry.index}", now)
    for node in (deletion, proof, leaf):
        lineage.add_node(connection, node)
    for child, parent in ((deletion.id, version.node), (proof.id, deletion.id), (leaf.id, proof.id)):
        lineage.add_edge(connection, child, parent, Role.ABOUT)
    return certificates.issue(
        connection,
        Certificate(
            id=certificate,
            revocation_id=revocation.id,
            model_line=line,
            version=number,
            leaf_index=entry.index,
            dsse_digest=dsse_digest,
            envelope=envelope.canonical().decode(),
            created_at=now,
        ),
    )
