"""Whose channels a cohort contains, and so which models saw them: one SQL statement for each question.

It reads the lineage by the rules that `mbd.records.lineage` states. Writers pass a connection from
`database.begin_locked`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import CTE, ColumnElement, Connection, Select, and_, exists, insert, or_, select, true

from mbd.records import tables
from mbd.records.certificates import CertificateKind
from mbd.records.lineage import Kind, Role
from mbd.records.models import VersionState
from mbd.records.suppression import EVERYONE, Channel


@dataclass(frozen=True)
class Ending:
    """The first later version of a line that went live and owes a channel nothing, and the certificate, if any."""

    version: int
    certificate_id: str | None
    revocation_id: str | None


@dataclass(frozen=True)
class ExposedVersion:
    """A model version that was computed from a channel; `ended_by` is None while no successor went live without it."""

    line: str
    version: int
    state: VersionState
    guarantee_class: str | None
    ended_by: Ending | None


@dataclass(frozen=True)
class LiveExposure:
    """A live model version, or a candidate, that still contains a channel which was revoked."""

    line: str
    version: int
    channel: Channel


def record_exposure(connection: Connection, cohort: str, rows: Mapping[Channel, int]) -> None:
    """Say how many rows of each channel a cohort (a node's id) contains. What was said before stays.

    A cohort that succeeds another one needs only what it dropped, with 0 rows; a channel of `EVERYONE` with 0 rows
    drops the modality for all.
    """
    at = tables.exposure.c
    stored = connection.execute(select(at.subject_key, at.modality).where(at.cohort == cohort))
    known = {Channel(*row) for row in stored}
    new = [
        {"cohort": cohort, "subject_key": channel.subject_key, "modality": channel.modality, "rows": count}
        for channel, count in sorted(rows.items())
        if channel not in known
    ]
    if new:
        connection.execute(insert(tables.exposure), new)


def models_exposed_to(connection: Connection, channel: Channel) -> tuple[ExposedVersion, ...]:
    """Every model version that saw this channel (of `EVERYONE`: anybody's), in any state, by line and version."""
    at = tables.exposure.c
    seed = select(at.subject_key, at.modality, at.cohort.label("node")).where(
        at.modality == channel.modality, at.rows > 0
    )
    if channel.subject_key != EVERYONE:
        seed = seed.where(at.subject_key == channel.subject_key)
    exposed = _exposed(seed)
    saw = tables.model_version.c.node.in_(select(exposed.c.node))
    version, certificate, request = tables.model_version, tables.certificate, tables.revocation
    edge = tables.lineage_edge.c
    # Of a thousand certificates of one version, those of other people are left in the database.
    may_speak: ColumnElement[bool] = true()
    if channel.subject_key != EVERYONE:
        may_speak = or_(request.c.subject_key == channel.subject_key, request.c.subject_key.is_(None))
    certified = certificate.join(request, and_(request.c.id == certificate.c.revocation_id, may_speak))
    took_over = exists().where(edge.child == version.c.node, edge.role == Role.SUCCEEDS.value)
    query = (
        select(version, saw.label("saw"), certificate.c.id.label("certificate_id"), request.c.id.label("request_id"))
        .add_columns(request.c.scope, took_over.label("took_over"))
        .outerjoin(
            certified,
            and_(
                certificate.c.model_line == version.c.line,
                certificate.c.version == version.c.version,
                certificate.c.kind == CertificateKind.DELETION.value,
            ),
        )
        .where(version.c.line.in_(select(version.c.line).where(saw)))
        .order_by(version.c.line, version.c.version.desc())
    )
    answer: list[ExposedVersion] = []
    line, ending = None, None
    for (name, number), same in groupby(connection.execute(query), key=lambda row: (row.line, row.version)):
        row = max(same, key=lambda row: _speaks_of(row.scope or [], channel))
        if name != line:
            line, ending = name, None
        if row.saw:
            answer.append(ExposedVersion(name, number, VersionState(row.state), row.guarantee_class, ending))
        elif row.took_over:  # a candidate ends nothing
            ending = Ending(number, row.certificate_id, row.request_id)
    return tuple(sorted(answer, key=lambda found: (found.line, found.version)))


def live_descendants_of_revoked(connection: Connection) -> tuple[LiveExposure, ...]:
    """Every live model version that contains a suppressed channel; empty when all deletions are done."""
    return descendants_of_revoked(connection, VersionState.LIVE)


def descendants_of_revoked(connection: Connection, state: VersionState) -> tuple[LiveExposure, ...]:
    """Every model version in a state that contains a suppressed channel.

    A modality suppressed for everyone stands for each subject whose exposure was recorded, except for what public
    cohorts taught a backbone: nobody can revoke that.
    """
    at, listed, cohort = tables.exposure.c, tables.suppression.c, tables.lineage_node.c
    exposed = _exposed(
        select(at.subject_key, at.modality, at.cohort.label("node"))
        .join(
            tables.suppression,
            and_(
                listed.modality == at.modality,
                listed.subject_key.in_([at.subject_key, EVERYONE]),
                listed.lifted_at.is_(None),
            ),
        )
        .join(tables.lineage_node, cohort.id == at.cohort)
        .where(at.rows > 0, or_(listed.subject_key != EVERYONE, cohort.kind == Kind.COHORT.value))
    )
    version = tables.model_version.c
    query = (
        select(version.line, version.version, exposed.c.subject_key, exposed.c.modality)
        .join(exposed, exposed.c.node == version.node)
        .where(version.state == state.value)
        .order_by(version.line, version.version, exposed.c.subject_key, exposed.c.modality)
    )
    return tuple(
        LiveExposure(row.line, row.version, Channel(row.subject_key, row.modality)) for row in connection.execute(query)
    )


def _speaks_of(scope: Sequence[Mapping[str, str]], channel: Channel) -> int:
    """How closely a request is about a channel: it names it, or its person (whose other channel it fell with)."""
    mine = [named["modality"] for named in scope if named["subject_key"] in {channel.subject_key, EVERYONE}]
    return 2 if channel.modality in mine else 1 if mine else 0


def _exposed(seed: Select[Any]) -> CTE:
    """All nodes that contain a channel, from the cohorts that list it: rows (subject_key, modality, node)."""
    exposed = seed.cte("exposed", recursive=True)
    edge, child, dropped = tables.lineage_edge, tables.lineage_node, tables.exposure.alias("dropped")
    flows = or_(
        edge.c.role == Role.COMPUTED_FROM.value,
        and_(edge.c.role == Role.SUCCEEDS.value, child.c.kind == Kind.COHORT.value),
    )
    drops = exists().where(
        dropped.c.cohort == edge.c.child,
        dropped.c.modality == exposed.c.modality,
        dropped.c.subject_key.in_([exposed.c.subject_key, EVERYONE]),
        dropped.c.rows == 0,
    )
    return exposed.union(
        select(exposed.c.subject_key, exposed.c.modality, edge.c.child)
        .join(edge, edge.c.parent == exposed.c.node)
        .join(child, child.c.id == edge.c.child)
        .where(flows, ~drops)
    )
