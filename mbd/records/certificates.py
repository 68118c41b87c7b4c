"""Issued certificates: the envelope that was signed, the leaf that logs it, and the bundle that proves both.

It reads none of them. Writers pass a connection from `database.begin_locked`: a certificate and its leaf are one
transaction, while its bundle needs a checkpoint, which is signed after that commit.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, insert, select, update

from mbd.errors import RecordsError
from mbd.records import models, tables
from mbd.records.suppression import EVERYONE, Channel

_AS_LOGGED = (
    tables.certificate.c.leaf_index.nulls_first(),
    tables.certificate.c.created_at,
    tables.certificate.c.id,
)
"""The log's order; what a retired log has comes first."""


class CertificateKind(StrEnum):
    """What a certificate says of its version: that a deletion made it, or that it holds nothing of the request."""

    DELETION = "deletion"
    ABSENCE = "absence"


@dataclass(frozen=True)
class Certificate:
    """The answer to one request on one model line.

    Attributes:
        version: the version that the deletion made, or from which the channels are absent.
        leaf_index: where the log has it; None where a log has it that was retired.
        dsse_digest: what the log has of it (hex).
        envelope: the signed DSSE envelope (JSON).
        bundle: the whole evidence (JSON); None until the log has signed a checkpoint over the leaf.
        superseded_by: the certificate that took its place, if one did.
    """

    id: str
    revocation_id: str
    model_line: str
    version: int
    leaf_index: int | None
    dsse_digest: str
    envelope: str
    created_at: datetime
    bundle: str | None = None
    kind: CertificateKind = CertificateKind.DELETION
    superseded_by: str | None = None


@dataclass(frozen=True)
class Step:
    """One step of a model line, with the certificate of each revocation that it carried out, if any."""

    version: int
    parent_version: int
    certificates: tuple[Certificate, ...]


def issue(connection: Connection, certificate: Certificate) -> Certificate:
    """Keep a certificate, in the transaction that appends its leaf.

    Look with `find` first: a retried step must not append a second leaf.

    Raises:
        RecordsError: this revocation has its certificate on this model line already.
    """
    if find(connection, certificate.revocation_id, certificate.model_line) is not None:
        raise RecordsError(
            f"The revocation '{certificate.revocation_id}' is certified on {certificate.model_line} already.",
            remedy="use the certificate that is there",
        )
    connection.execute(
        insert(tables.certificate).values(
            id=certificate.id,
            revocation_id=certificate.revocation_id,
            model_line=certificate.model_line,
            version=certificate.version,
            leaf_index=certificate.leaf_index,
            dsse_digest=certificate.dsse_digest,
            envelope=certificate.envelope,
            bundle=certificate.bundle,
            created_at=certificate.created_at,
            kind=certificate.kind.value,
        )
    )
    return get(connection, certificate.id)


def complete(connection: Connection, certificate_id: str, bundle: str) -> Certificate:
    """Add the bundle, and return the certificate. The first bundle stays: a retried step gets what was issued."""
    at = tables.certificate.c
    connection.execute(
        update(tables.certificate).where(at.id == certificate_id, at.bundle.is_(None)).values(bundle=bundle)
    )
    return get(connection, certificate_id)


def log_anew(connection: Connection, certificate_id: str, leaf_index: int) -> None:
    """Name another leaf, for a certificate whose log was retired before the first had a bundle."""
    at = tables.certificate.c
    connection.execute(update(tables.certificate).where(at.id == certificate_id).values(leaf_index=leaf_index))


def supersede(connection: Connection, old_id: str, new_id: str) -> None:
    """Make room for the certificate that takes an issued one's place, in the transaction that issues it.

    Raises:
        RecordsError: something has superseded the old one already.
    """
    at = tables.certificate.c
    done = connection.execute(
        update(tables.certificate).where(at.id == old_id, at.superseded_by.is_(None)).values(superseded_by=new_id)
    )
    if done.rowcount != 1:
        raise RecordsError(
            f"The certificate '{old_id}' is superseded already.", remedy="name the one that took its place"
        )


def find(connection: Connection, revocation_id: str, model_line: str) -> Certificate | None:
    """A revocation's certificate on a model line, the one that nothing superseded, or None."""
    at = tables.certificate.c
    current = (at.revocation_id == revocation_id, at.model_line == model_line, at.superseded_by.is_(None))
    found = _select(connection, *current)
    return found[0] if found else None


def get(connection: Connection, certificate_id: str) -> Certificate:
    """A certificate by its id.

    Raises:
        RecordsError: there is no such certificate.
    """
    found = _select(connection, tables.certificate.c.id == certificate_id)
    if not found:
        raise RecordsError(
            f"There is no certificate '{certificate_id}'.",
            remedy="use an id that mbd revoke has printed",
        )
    return found[0]


def current(connection: Connection) -> tuple[Certificate, ...]:
    """Every certificate that nothing superseded, in the log's order."""
    return _select(connection, tables.certificate.c.superseded_by.is_(None))


def of_version(connection: Connection, line: str, version: int) -> tuple[Certificate, ...]:
    """The certificates of all revocations that one version carried out, in the log's order; none that is superseded."""
    at = tables.certificate.c
    made = (at.kind == CertificateKind.DELETION.value, at.superseded_by.is_(None))
    return _select(connection, at.model_line == line, at.version == version, *made)


def of_revocations(connection: Connection, revocation_ids: Collection[str]) -> tuple[Certificate, ...]:
    """The certificates of some revocations, in the log's order; none that is superseded."""
    at = tables.certificate.c
    return _select(connection, at.revocation_id.in_(revocation_ids), at.superseded_by.is_(None))


def about_version(connection: Connection, line: str, version: int) -> tuple[Certificate, ...]:
    """The certificates of both kinds about one version, in the log's order; none that is superseded."""
    at = tables.certificate.c
    return _select(connection, at.model_line == line, at.version == version, at.superseded_by.is_(None))


def absences_of(connection: Connection, channel: Channel) -> tuple[Certificate, ...]:
    """The certificates of absence of all requests that name a channel, of its subject or of everyone, as logged."""
    query = (
        select(tables.certificate, tables.revocation.c.scope)
        .join(tables.revocation, tables.revocation.c.id == tables.certificate.c.revocation_id)
        .where(tables.certificate.c.kind == CertificateKind.ABSENCE.value, tables.certificate.c.superseded_by.is_(None))
        .order_by(*_AS_LOGGED)
    )
    wanted = {channel, Channel(EVERYONE, channel.modality)}
    return tuple(
        _certificate(row)
        for row in connection.execute(query)
        if wanted & {Channel(named["subject_key"], named["modality"]) for named in row.scope}
    )


def naming(connection: Connection, subject_key: str) -> tuple[Certificate, ...]:
    """The certificates of all requests that name a subject, in the log's order."""
    at = tables.certificate.c
    query = (
        select(at.id, tables.revocation.c.scope)
        .join(tables.revocation, tables.revocation.c.id == at.revocation_id)
        .order_by(*_AS_LOGGED)
    )
    named = [
        row.id for row in connection.execute(query) if subject_key in {channel["subject_key"] for channel in row.scope}
    ]
    return tuple(get(connection, certificate_id) for certificate_id in named)


def about_live_versions(connection: Connection) -> dict[str, tuple[str, int]]:
    """The certificates about versions that are live, by id: line and version of each."""
    at, version = tables.certificate.c, tables.model_version.c
    query = (
        select(at.id, at.model_line, at.version)
        .join(tables.model_version, and_(version.line == at.model_line, version.version == at.version))
        .where(version.state == models.VersionState.LIVE.value)
        .order_by(*_AS_LOGGED)
    )
    return {row.id: (row.model_line, row.version) for row in connection.execute(query)}


def incomplete(connection: Connection) -> tuple[Certificate, ...]:
    """Those without a bundle, in the log's order: what a restart completes."""
    return _select(connection, tables.certificate.c.bundle.is_(None))


def certificates_between(connection: Connection, line: str, before: int, after: int) -> tuple[Step, ...]:
    """The steps that led from one version of a line to a later one, each with the certificates that cover it.

    Raises:
        RecordsError: the later version does not come from the earlier one.
    """
    steps: list[Step] = []
    version = models.get(connection, line, after)
    while version.version > before and version.parent_version is not None:
        steps.append(Step(version.version, version.parent_version, of_version(connection, line, version.version)))
        version = models.get(connection, line, version.parent_version)
    if version.version != before:
        raise RecordsError(
            f"{line} version {after} does not come from version {before}.",
            remedy="list the versions with mbd lineage",
        )
    return tuple(steps[::-1])


def _select(connection: Connection, *conditions: ColumnElement[bool]) -> tuple[Certificate, ...]:
    query = select(tables.certificate).where(*conditions).order_by(*_AS_LOGGED)
    return tuple(_certificate(row) for row in connection.execute(query))


def _certificate(row: Row[Any]) -> Certificate:
    return Certificate(
        id=row.id,
        revocation_id=row.revocation_id,
        model_line=row.model_line,
        version=row.version,
        leaf_index=row.leaf_index,
        dsse_digest=row.dsse_digest,
        envelope=row.envelope,
        created_at=row.created_at,
        bundle=row.bundle,
        kind=CertificateKind(row.kind),
        superseded_by=row.superseded_by,
    )
