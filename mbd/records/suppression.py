"""The suppression list: which channels of whom import, training and prediction refuse. It knows no cohort.

Writers pass a connection from `database.begin_locked`.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from mbd.records import tables

EVERYONE = "*"
"""As a subject key: everyone."""


@dataclass(frozen=True, order=True)
class Channel:
    """One modality of one subject, or of `EVERYONE`. The subject key is a keyed hash, never a plain identifier."""

    subject_key: str
    modality: str


@dataclass(frozen=True)
class Suppressions:
    """The whole list as a value, to hold many rows against without a query each."""

    channels: frozenset[Channel]

    def covers(self, channel: Channel) -> bool:
        """Whether the channel is refused, for this subject or for everyone."""
        return channel in self.channels or Channel(EVERYONE, channel.modality) in self.channels


def suppress(connection: Connection, channels: Iterable[Channel], *, since: datetime, revocation_id: str) -> None:
    """Refuse the channels from now on, for this request: what it has on the list already keeps its date."""
    at = tables.suppression.c
    mine = connection.execute(select(at.subject_key, at.modality).where(at.revocation_id == revocation_id))
    listed = {Channel(*row) for row in mine}
    rows = [
        {
            "subject_key": channel.subject_key,
            "modality": channel.modality,
            "revocation_id": revocation_id,
            "since": since,
        }
        for channel in sorted(set(channels) - listed)
    ]
    if rows:
        connection.execute(insert(tables.suppression), rows)


def lift(connection: Connection, revocation_id: str, *, at: datetime) -> None:
    """Take a request's channels off the list, because it was cancelled; those that others ask for stay."""
    listed = tables.suppression.c
    mine = update(tables.suppression).where(listed.revocation_id == revocation_id, listed.lifted_at.is_(None))
    connection.execute(mine.values(lifted_at=at))


def suppressions(connection: Connection, *, of: Collection[str] | None = None) -> Suppressions:
    """The list as it is now; if subject keys are given, what it has of them and of everyone."""
    at = tables.suppression.c
    listed = select(at.subject_key, at.modality).where(at.lifted_at.is_(None))
    if of is not None:
        listed = listed.where(at.subject_key.in_([EVERYONE, *of]))
    return Suppressions(frozenset(Channel(*row) for row in connection.execute(listed)))
