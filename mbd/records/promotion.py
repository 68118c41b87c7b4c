"""Puts candidates into service, and takes versions out of it. It knows no files.

A version is a candidate, live or retired, in this order and never back:

    candidate -> live      `promote`: it was made from the live version, and nothing in it was revoked
    candidate -> retired   `retire`, or its parent went, or something in it was revoked
    live      -> retired   `retire`, or its successor took its place

Writers pass a connection from `database.begin_locked`.
"""

from sqlalchemy import Connection

from mbd.errors import RecordsError
from mbd.records import models
from mbd.records.exposure import descendants_of_revoked
from mbd.records.models import ModelVersion, VersionState


def promote(connection: Connection, line: str, version: int) -> ModelVersion:
    """Put a candidate live in the place of its parent. Promoting the live version again changes nothing.

    Raises:
        RecordsError: there is no such version, it is retired, its parent is not the live version, or it descends from
            a channel that was revoked.
    """
    found = models.get(connection, line, version)
    if found.state is VersionState.LIVE:
        return found
    if found.state is VersionState.RETIRED:
        raise RecordsError(
            f"{line} version {version} is retired.", remedy="make it anew from the live version: nothing comes back"
        )
    models.refuse_overtaken(connection, found)
    revoked = [
        exposed
        for exposed in descendants_of_revoked(connection, VersionState.CANDIDATE)
        if (exposed.line, exposed.version) == (line, version)
    ]
    if revoked:
        raise RecordsError(
            f"{line} version {version} contains channels that were revoked since it was made ({len(revoked)}).",
            remedy="make it anew without them: train with --drop-suppressed",
        )
    return models.put_live(connection, found)


def retire(connection: Connection, line: str, version: int) -> ModelVersion:
    """Take the live version out of service, after which its line answers nothing, or discard a candidate.

    Candidates were made from the live version, and retire with it. Retiring a retired version changes nothing.

    Raises:
        RecordsError: there is no such version.
    """
    found = models.get(connection, line, version)
    if found.state is VersionState.LIVE:
        for other in models.versions(connection, line):
            if other.state is VersionState.CANDIDATE:
                models.set_state(connection, other, VersionState.RETIRED)
    return models.set_state(connection, found, VersionState.RETIRED)


def discard_revoked(connection: Connection) -> tuple[ModelVersion, ...]:
    """Retire every candidate that descends from a revoked channel: it may never go live, so it need not be kept."""
    revoked = {
        (exposed.line, exposed.version) for exposed in descendants_of_revoked(connection, VersionState.CANDIDATE)
    }
    return tuple(retire(connection, line, version) for line, version in sorted(revoked))
