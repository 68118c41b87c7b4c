"""What may be asked, and putting it on record: nothing is filed that no deletion can carry out.

A request and the suppression of its channels are one transaction. Carrying it out is `mbd.workflow.revocation`.
"""

import re
import secrets
from collections.abc import Sequence

from mbd.cohort import folder
from mbd.cohort.cohort import EVERYONE, Cohort, Pair
from mbd.cohort.modality import Modality, in_order
from mbd.deletion import lattice
from mbd.errors import NothingToDeleteError, SettingsError, UnknownSubjectError
from mbd.hashing import json_digest
from mbd.records import models, requests
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.models import ModelVersion
from mbd.records.requests import Revocation, State
from mbd.records.suppression import Channel, suppress
from mbd.workflow.live import load_live_model
from mbd.workflow.system import System

_REGIME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")


def require_possible(system: System, wanted: Sequence[frozenset[Pair]], regime: str) -> None:
    """Refuse what no deletion can carry out, before anything is filed or suppressed.

    Every pair of every request must touch some live line's cohort, and every line must keep a modality.
    """
    if not _REGIME.fullmatch(regime):
        raise SettingsError(
            f"'{regime}' cannot stand in a certificate as a regime.", remedy="use a short name, such as gdpr or bipa"
        )
    live = live_cohorts(system)
    pairs = frozenset[Pair]().union(*wanted)
    for pair in sorted(pairs):
        complaints = [complaint(cohort, pair) for _, cohort in live]
        if all(complaints):
            telling = [c for c in complaints if isinstance(c, NothingToDeleteError)]
            raise next((c for c in (*telling, *complaints) if c is not None), _no_lines(system))
    for version, cohort in live:
        everyone = frozenset(modality for subject, modality in cohort.closure(pairs) if subject == EVERYONE)
        if everyone:
            lattice.drop_for_everyone(load_live_model(system, version), everyone)


def file_revocations(system: System, wanted: Sequence[frozenset[Pair]], regime: str) -> list[Revocation]:
    """Record the requests and suppress their channels, and those that fall with them, at once and together."""
    now = system.clock()
    cohorts = [cohort for _, cohort in live_cohorts(system)]
    filed = []
    with begin_locked(system.engine) as connection:
        for pairs in wanted:
            scope = tuple(sorted({channel_of(system, pair) for pair in pairs}))
            fallen = {channel_of(system, pair) for pair in _fallen_everywhere(cohorts, pairs)}
            text = {
                "nonce": secrets.token_hex(16),
                "regime": regime,
                "requestedAt": now.isoformat(),
                "scope": [[channel.subject_key, channel.modality] for channel in scope],
            }
            digest = json_digest(text)
            revocation = Revocation(f"rev-{digest[:16]}", digest, regime, scope, now, State.APPROVED, now)
            filed.append(requests.add(connection, revocation))
            suppress(connection, {*scope, *fallen}, since=now, revocation_id=revocation.id)
    return filed


def channels_of(system: System, subject: str) -> tuple[Modality, ...]:
    """The modalities that some live line's cohort holds of a person.

    Raises:
        UnknownSubjectError: no live line knows the person.
    """
    live = live_cohorts(system)
    present = {m for _, cohort in live for m in cohort.modalities if complaint(cohort, (subject, m)) is None}
    if not present:
        require_possible(system, [frozenset({(subject, modality) for modality in Modality})], "gdpr")
    return in_order(present)


def live_cohorts(system: System) -> list[tuple[ModelVersion, Cohort]]:
    """Every live version with its rows."""
    with begin_snapshot(system.engine) as connection:
        versions = models.live_versions(connection)
    return [(version, folder.read(system.cohort_folder(version.line, version.version))) for version in versions]


def complaint(cohort: Cohort, pair: Pair) -> UnknownSubjectError | NothingToDeleteError | None:
    """Why a pair cannot be revoked from a cohort, or None."""
    try:
        cohort.revoke([pair])
    except (UnknownSubjectError, NothingToDeleteError) as error:
        return error
    return None


def _no_lines(system: System) -> UnknownSubjectError:
    return UnknownSubjectError(
        f"There is no model line in {system.home}, so nobody can be deleted from one.",
        remedy="train one with `mbd train`",
    )


def _fallen_everywhere(cohorts: Sequence[Cohort], pairs: frozenset[Pair]) -> frozenset[Pair]:
    """What falls with the pairs in every live cohort that has it: where policies differ, each line keeps its own."""
    closures = [cohort.closure(pairs) for cohort in cohorts]
    return frozenset(
        pair
        for pair in frozenset().union(*closures)
        if all(
            pair in closure or pair[1] not in cohort.channels for cohort, closure in zip(cohorts, closures, strict=True)
        )
    )


def channel_of(system: System, pair: Pair) -> Channel:
    """A pair as the database names it."""
    subject, modality = pair
    return Channel(subject if subject == EVERYONE else system.keyring.subject_key(subject), modality.value)
