"""The suppression list: which channels of whom import, training and prediction refuse. It knows no cohort.

Writers pass a connection from `database.begin_locked`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select

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
    """Refuse the channels from now on. One that is on the list already keeps its first date and revocation."""
    listed = suppressions(connection).channels
    rows = [
        {
            "subject_key": channel.subject_key,
            "modality": channel.modality,
            "since": since,
            "revocation_id": revocation_id,
        }
        for channel in sorted(set(channels) - listed)
    ]
    if rows:
        connection.execute(insert(tables.suppression), rows)


def suppressions(connection: Connection) -> Suppressions:
    """The list as it is now."""
    rows = connection.execute(select(tables.suppression.c.subject_key, tables.suppression.c.modality))
    return Suppressions(frozenset(Channel(*row) for row in rows))
