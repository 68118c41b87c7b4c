"""Enter versions into the records: lineage, budget and certificate, in the caller's one transaction."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from hashlib import sha256

from sqlalchemy import Connection

from certs.dsse import Envelope
from certs.statement import Certified, DeletionStatement
from mbd.cohort.manifest import Manifest
from mbd.derivation import Follows
from mbd.lattice.model import LatticeModel, Saved
from mbd.records import certificates, derivations, lineage, models
from mbd.records import exposure as exposures
from mbd.records.certificates import Certificate, CertificateKind
from mbd.records.ledger import Appended
from mbd.records.lineage import Kind, Node, Role, node_id
from mbd.records.models import ModelVersion
from mbd.records.requests import Revocation
from mbd.records.suppression import Channel
from mbd.workflow.claim import Provenance


def register_line(
    connection: Connection,
    *,
    line: str,
    name: str,
    manifest: Manifest,
    model: LatticeModel,
    saved: Saved,
    made: Provenance,
    public_digest: str,
    exposure: Mapping[Channel, int],
    public_exposure: Mapping[Channel, int],
    follows: Follows[str],
    candidate: bool,
    now: datetime,
) -> ModelVersion:
    """A new line's version 1, live or a candidate, with the rows that shaped the backbone, and its statistics.

    ``public_digest`` names the public rows, which shape a public backbone; an entangled one comes from all rows.
    """
    backbone = saved.digests["backbone.safetensors"]
    attributes = {"rows": manifest.rows, **derivations.attribute(follows)}
    whole = Node(Kind.COHORT, manifest.root, manifest.root, name, now, attributes)
    sums = Node(Kind.STATISTICS, model.commitment, model.commitment, f"statistics of {line}", now)
    for node in (whole, sums):
        lineage.add_node(connection, node)
    lineage.add_edge(connection, sums.id, whole.id, Role.COMPUTED_FROM)
    exposures.record_exposure(connection, whole.id, exposure)
    shaped_by = whole
    if model.provenance["backbone"] == "public":
        shaped_by = Node(Kind.PUBLIC_COHORT, public_digest, public_digest, f"{name}, public rows", now)
        lineage.add_node(connection, shaped_by)
        exposures.record_exposure(connection, shaped_by.id, public_exposure)
    _add_backbone(connection, f"backbone of {line}", backbone, made=made, shaped_by=shaped_by.id, now=now)
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
        candidate=candidate,
    )


def _add_backbone(
    connection: Connection, name: str, digest: str, *, made: Provenance, shaped_by: str, now: datetime
) -> None:
    attributes = {"recipe_digest": made.recipe_digest, "transcript_digest": made.transcript_digest}
    network = Node(Kind.BACKBONE, digest, digest, name, now, attributes)
    lineage.add_node(connection, network)
    lineage.add_edge(connection, network.id, shaped_by, Role.COMPUTED_FROM)


def register_successor(
    connection: Connection,
    *,
    live: ModelVersion,
    manifest: Manifest,
    model: LatticeModel,
    saved: Saved,
    now: datetime,
) -> ModelVersion:
    """A version over the same rows, live in its parent's place: towers came back, or the manifest has a new key."""
    line, number = live.line, models.next_version(connection, live.line)
    _add_statistics(connection, live, number, root=manifest.root, sums=model.commitment, now=now)
    return models.register(
        connection,
        ModelVersion(
            line=line,
            version=number,
            digest=saved.digest,
            parent_version=live.version,
            guarantee_class=None,
            backbone=saved.digests["backbone.safetensors"],
            statistics=model.commitment,
            cohort=manifest.root,
            created_at=now,
        ),
    )


def _add_statistics(
    connection: Connection, live: ModelVersion, number: int, *, root: str, sums: str, now: datetime
) -> str:
    """The cohort and the statistics of a line's next version; the cohort's node."""
    same = derivations.attribute(derivations.of_cohort(connection, live.cohort))
    cohort = Node(Kind.COHORT, root, root, f"cohort of {live.line}, version {number}", now, same)
    statistics = Node(Kind.STATISTICS, sums, sums, f"statistics of {live.line}, version {number}", now)
    for node in (cohort, statistics):
        lineage.add_node(connection, node)
    lineage.add_edge(connection, cohort.id, node_id(Kind.COHORT, live.cohort), Role.SUCCEEDS)
    lineage.add_edge(connection, statistics.id, cohort.id, Role.COMPUTED_FROM)
    return cohort.id


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
    cohort = _add_statistics(connection, live, number, root=root, sums=sums, now=now)
    exposures.record_exposure(connection, cohort, dict.fromkeys(dropped, 0))
    if predicate.lineage.backbone_provenance == "entangled":
        made = Provenance(predicate.procedure.recipe_digest, predicate.lineage.transcript_digest)
        digest = predicate.lineage.backbone_digest
        mechanism, old = predicate.procedure.mechanism, node_id(Kind.BACKBONE, live.backbone)
        # After a surgical update nothing is proved, and a drop leaves the network as it is: both come from the old one.
        shaped_by = old if mechanism in {"surgical", "lattice-drop"} else cohort
        _add_backbone(connection, f"backbone of {line}", digest, made=made, shaped_by=shaped_by, now=now)
    version = models.register(
        connection,
        ModelVersion(
            line=line,
            version=number,
            digest=predicate.lineage.model_digest,
            parent_version=live.version,
            guarantee_class=predicate.guarantee.class_,
            backbone=predicate.lineage.backbone_digest,
            statistics=sums,
            cohort=root,
            created_at=now,
        ),
    )
    procedure = predicate.procedure
    charged: dict[str, float] = {}
    if procedure.mechanism == "lattice-newton":
        charged = {head.head: head.mu for head in procedure.updated}
    elif procedure.fine_tuning is not None:
        charged = {"backbone": procedure.fine_tuning.mu}
    elif isinstance(predicate.guarantee, Certified):
        charged = {"towers": 0.0}  # their own accounts count; the series still has an entry for each deletion
    models.record_releases(connection, line, number, charged)
    act = f"{line}: {predicate.procedure.mechanism}"
    deletion = Node(Kind.DELETION, f"{revocation.id}/{line}", revocation.digest, act, now)
    lineage.add_node(connection, deletion)
    lineage.add_edge(connection, deletion.id, version.node, Role.ABOUT)
    certificate = _certificate(
        revocation.id, line, number, CertificateKind.DELETION, envelope=envelope, entry=entry, now=now
    )
    return _register_certificate(connection, certificate, entry, subject=deletion.id)


def register_absence(
    connection: Connection,
    *,
    revocation: Revocation,
    live: ModelVersion,
    envelope: Envelope,
    entry: Appended,
    checked_at: datetime,
) -> Certificate:
    """The certificate that a live version holds none of a request's channels; no new version, no charge."""
    kind = CertificateKind.ABSENCE
    certificate = _certificate(
        revocation.id, live.line, live.version, kind, envelope=envelope, entry=entry, now=checked_at
    )
    return _register_certificate(connection, certificate, entry, subject=live.node)


def register_reissue(
    connection: Connection, *, old: Certificate, envelope: Envelope, entry: Appended, now: datetime
) -> Certificate:
    """A certificate that takes another's place: about the same version, and in the lineage about the same thing."""
    new = _certificate(
        old.revocation_id, old.model_line, old.version, old.kind, envelope=envelope, entry=entry, now=now
    )
    certificates.supersede(connection, old.id, new.id)
    return _register_certificate(connection, new, entry, subject=node_id(Kind.CERTIFICATE, old.id))


def _certificate(
    revocation_id: str,
    line: str,
    version: int,
    kind: CertificateKind,
    *,
    envelope: Envelope,
    entry: Appended,
    now: datetime,
) -> Certificate:
    dsse_digest = sha256(envelope.signed_bytes).hexdigest()
    return Certificate(
        id=f"mdc-{dsse_digest[:16]}",
        revocation_id=revocation_id,
        model_line=line,
        version=version,
        leaf_index=entry.leaf_index,
        dsse_digest=dsse_digest,
        envelope=envelope.canonical().decode(),
        created_at=now,
        kind=kind,
    )


def _register_certificate(
    connection: Connection, certificate: Certificate, entry: Appended, *, subject: str
) -> Certificate:
    """Keep a certificate; in the lineage it is about its subject (a node's id), and its log entry is about it."""
    name, now = certificate.id, certificate.created_at
    proof = Node(Kind.CERTIFICATE, name, certificate.dsse_digest, name, now)
    leaf = Node(Kind.LEDGER_ENTRY, str(entry.leaf_index), entry.leaf_hash.hex(), f"entry {entry.leaf_index}", now)
    for node in (proof, leaf):
        lineage.add_node(connection, node)
    for child, parent in ((proof.id, subject), (leaf.id, proof.id)):
        lineage.add_edge(connection, child, parent, Role.ABOUT)
    return certificates.issue(connection, certificate)
