"""Model lines, their versions, and the privacy that their releases have spent. It knows no weights, only digests.

Writers pass a connection from `database.begin_locked`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from mbd.errors import RecordsError
from mbd.records import lineage, tables
from mbd.records.lineage import Kind, Node, Role, node_id

_REFUSED = "refused "
"""Begins the name of what an attempt was charged that released nothing but its refusal."""


class VersionState(StrEnum):
    """Whether a version answers predictions: a candidate does not yet, a retired one never again."""

    CANDIDATE = "candidate"
    LIVE = "live"
    RETIRED = "retired"


@dataclass(frozen=True)
class ModelVersion:
    """A version of a model line.

    Attributes:
        parent_version: the version whose place it took; None for the first one of a line.
        guarantee_class: what the deletion that made it proves; None when no deletion did.
        backbone: its digest, and the key of its lineage node; so are `statistics` and `cohort`.
        state: as it is stored; one that is to be registered has none yet.
    """

    line: str
    version: int
    digest: str
    parent_version: int | None
    guarantee_class: str | None
    backbone: str
    statistics: str
    cohort: str
    created_at: datetime
    state: VersionState = VersionState.LIVE

    @property
    def node(self) -> str:
        """Its id in the lineage."""
        return node_id(Kind.MODEL_VERSION, lineage.model_key(self.line, self.version))


@dataclass(frozen=True)
class Release:
    """One released head of one version, and the mu of its Gaussian (mu-GDP)."""

    version: int
    head: str
    mu: float


def register(connection: Connection, version: ModelVersion, *, candidate: bool = False) -> ModelVersion:
    """Enter a version into the records and the lineage, and put it live in the place of its parent, which retires.

    A candidate waits: its parent stays live until `mbd.records.promotion.promote`.

    Returns what is stored. Registering the same content again changes nothing.

    Raises:
        RecordsError: its parent is not the live version (another deletion came between, and must not be undone), its
            number is taken by other content, or the lineage lacks its backbone, statistics or cohort.
    """
    stored = find(connection, version.line, version.version)
    if stored is not None:
        return _same(stored, version)
    refuse_overtaken(connection, version)
    key = lineage.model_key(version.line, version.version)
    name = f"{version.line} version {version.version}"
    lineage.add_node(connection, Node(Kind.MODEL_VERSION, key, version.digest, name, version.created_at))
    for kind, digest in (
        (Kind.BACKBONE, version.backbone),
        (Kind.STATISTICS, version.statistics),
        (Kind.COHORT, version.cohort),
    ):
        lineage.add_edge(connection, version.node, node_id(kind, digest), Role.COMPUTED_FROM)
    connection.execute(
        insert(tables.model_version).values(
            line=version.line,
            version=version.version,
            node=version.node,
            digest=version.digest,
            parent_version=version.parent_version,
            state=VersionState.CANDIDATE.value,
            guarantee_class=version.guarantee_class,
            backbone=version.backbone,
            statistics=version.statistics,
            cohort=version.cohort,
            created_at=version.created_at,
        )
    )
    entered = get(connection, version.line, version.version)
    return entered if candidate else put_live(connection, entered)


def refuse_overtaken(connection: Connection, version: ModelVersion) -> None:
    """Only what was made from the live version may take its place: anything else would undo a deletion.

    Raises:
        RecordsError: it was made from another version.
    """
    parent = live(connection, version.line)
    expected = None if parent is None else parent.version
    if version.parent_version != expected:
        now = "no version" if expected is None else f"version {expected}"
        raise RecordsError(
            f"{version.line} version {version.version} was made from version {version.parent_version}, but {now} is"
            " live.",
            remedy="make it anew from the live version",
        )


def put_live(connection: Connection, candidate: ModelVersion) -> ModelVersion:
    """Let a candidate that was made from the live version take its place. Returns what is stored.

    With the old version its other candidates retire: nothing that was made from it can go live any more.
    """
    parent = live(connection, candidate.line)
    if parent is not None:
        lineage.add_edge(connection, candidate.node, parent.node, Role.SUCCEEDS)
    for other in versions(connection, candidate.line):
        if other.version != candidate.version and other.state is not VersionState.RETIRED:
            set_state(connection, other, VersionState.RETIRED)
    return set_state(connection, candidate, VersionState.LIVE)


def set_state(connection: Connection, version: ModelVersion, state: VersionState) -> ModelVersion:
    """Store another state, and return what is stored. What may follow what is for `mbd.records.promotion` to say."""
    at = tables.model_version.c
    connection.execute(
        update(tables.model_version)
        .where(at.line == version.line, at.version == version.version)
        .values(state=state.value)
    )
    return get(connection, version.line, version.version)


def next_version(connection: Connection, line: str) -> int:
    """The number of the next version: one that no version ever had, be it a candidate that was discarded."""
    at = tables.model_version.c
    return 1 + (connection.scalar(select(func.max(at.version)).where(at.line == line)) or 0)


def find(connection: Connection, line: str, version: int) -> ModelVersion | None:
    """A version by its number, or None."""
    at = tables.model_version.c
    query = select(tables.model_version).where(at.line == line, at.version == version)
    row = connection.execute(query).one_or_none()
    return None if row is None else _version(row)


def get(connection: Connection, line: str, version: int) -> ModelVersion:
    """A version by its number.

    Raises:
        RecordsError: there is no such version.
    """
    found = find(connection, line, version)
    if found is None:
        raise RecordsError(f"There is no {line} version {version}.", remedy="list the versions with mbd lineage")
    return found


def live(connection: Connection, line: str) -> ModelVersion | None:
    """The version that answers predictions, or None for a line without versions."""
    at = tables.model_version.c
    query = select(tables.model_version).where(at.line == line, at.state == VersionState.LIVE.value)
    row = connection.execute(query).one_or_none()
    return None if row is None else _version(row)


def live_versions(connection: Connection) -> tuple[ModelVersion, ...]:
    """The live version of every line, by line."""
    return in_states(connection, VersionState.LIVE)


def in_states(connection: Connection, *states: VersionState) -> tuple[ModelVersion, ...]:
    """Every version that is in one of these states, by line and number."""
    at = tables.model_version.c
    query = select(tables.model_version).where(at.state.in_([state.value for state in states]))
    return tuple(_version(row) for row in connection.execute(query.order_by(at.line, at.version)))


def lines(connection: Connection) -> tuple[str, ...]:
    """Every line that ever had a version."""
    at = tables.model_version.c
    return tuple(connection.scalars(select(at.line).distinct().order_by(at.line)))


def versions(connection: Connection, line: str, *, after: int = 0, most: int | None = None) -> tuple[ModelVersion, ...]:
    """The versions of a line by number: all of them, or so many after one."""
    at = tables.model_version.c
    query = select(tables.model_version).where(at.line == line, at.version > after).order_by(at.version).limit(most)
    return tuple(_version(row) for row in connection.execute(query))


def record_releases(connection: Connection, line: str, version: int, mu_by_head: Mapping[str, float]) -> None:
    """Charge a version's noisy heads (or ``backbone``) to its line's budget. Charging the same again changes nothing.

    Raises:
        RecordsError: other releases are charged to this version already.
    """
    at = tables.release.c
    rows = connection.execute(select(at.head, at.mu).where(at.line == line, at.version == version))
    stored = {row.head: row.mu for row in rows if not row.head.startswith(_REFUSED)}
    if stored and stored != dict(mu_by_head):
        raise RecordsError(
            f"{line} version {version} has already released {sorted(stored)}.",
            remedy="release under a new version: noise that was shown once is spent",
        )
    if mu_by_head and not stored:
        connection.execute(
            insert(tables.release),
            [{"line": line, "version": version, "head": name, "mu": mu} for name, mu in sorted(mu_by_head.items())],
        )


def record_refusal(connection: Connection, version: ModelVersion, request: str, mu: float) -> None:
    """Charge a noisy attempt that was refused to the live version. The same request's costs once a version."""
    at = tables.release.c
    name = f"{_REFUSED}{request}"
    known = select(at.mu).where(at.line == version.line, at.version == version.version, at.head == name)
    if connection.scalar(known) is None:
        connection.execute(insert(tables.release).values(line=version.line, version=version.version, head=name, mu=mu))


def mu_series(connection: Connection, line: str) -> tuple[Release, ...]:
    """Every release of a line in order: what its mu_total is composed from (sqrt of the sum of squares)."""
    at = tables.release.c
    query = select(at.version, at.head, at.mu).where(at.line == line).order_by(at.version, at.head)
    return tuple(Release(row.version, row.head, row.mu) for row in connection.execute(query))


def _same(stored: ModelVersion, version: ModelVersion) -> ModelVersion:
    # The time and the state are not content: a retried step comes later, perhaps after a successor.
    if replace(version, created_at=stored.created_at, state=stored.state) != stored:
        raise RecordsError(
            f"{version.line} version {version.version} is registered with other content.",
            remedy="give the new content the next number",
        )
    return stored


def _version(row: Row[Any]) -> ModelVersion:
    return ModelVersion(
        line=row.line,
        version=row.version,
        digest=row.digest,
        parent_version=row.parent_version,
        guarantee_class=row.guarantee_class,
        backbone=row.backbone,
        statistics=row.statistics,
        cohort=row.cohort,
        created_at=row.created_at,
        state=VersionState(row.state),
    )
