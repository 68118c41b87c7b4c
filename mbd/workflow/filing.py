"""What may be asked, and putting it on record: nothing is filed that cannot be answered.

The answer is a deletion; or, where a live line holds nothing of the request and the policy asks for it, a certificate
of absence. A request, the suppression of its channels and its certificates of absence are one transaction. Carrying out
deletions is `mbd.workflow.revocation`.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from certs.encoding import MAX_BYTES
from mbd.cohort import folder
from mbd.cohort.cohort import EVERYONE, Cohort, Pair, Partition
from mbd.cohort.modality import Modality, in_order
from mbd.deletion import lattice
from mbd.errors import DeletionError, NothingToDeleteError, UnknownSubjectError
from mbd.naming import is_plain_name
from mbd.records import models, requests
from mbd.records.database import begin_snapshot
from mbd.records.lifecycle import Action
from mbd.records.models import ModelVersion
from mbd.records.requests import Revocation
from mbd.records.suppression import Channel
from mbd.workflow.absence import Absence, certify_absence, prove_absences
from mbd.workflow.decisions import COMMAND_LINE, approve, deciding
from mbd.workflow.intake import check_regime, new_revocation
from mbd.workflow.live import load_live_model
from mbd.workflow.system import System

_LEAF_BYTES = 400  # of a neighbour in an absence proof, its member names and the proof's own share
_HASH_BYTES = 67  # 64 hex digits, quotes and a comma
_ATTESTED = "attested by whoever holds the deployment's keys"


def require_possible(system: System, wanted: Sequence[frozenset[Pair]], regime: str) -> None:
    """Refuse what cannot be answered, before anything is filed or suppressed.

    Every deletion that a request asks for fits into one certificate. Every pair of every request must touch some live
    line's cohort, unless the policy certifies absence; and every line must keep a modality.
    """
    check_regime(regime)
    live = live_cohorts(system)
    if not live:
        raise UnknownSubjectError(
            f"There is no model line in {system.home}, so nobody can be deleted from one.",
            remedy="train one with `mbd train`",
        )
    cohorts = [cohort for _, cohort in live]
    for pairs in wanted:
        if system.settings.certify_absence:
            _require_certifiable(cohorts, pairs)
        else:
            _require_held(cohorts, pairs)
        _require_small(cohorts, pairs)
    of_everyone = {pair for pairs in wanted for pair in pairs if pair[0] == EVERYONE}
    for version, cohort in live:
        mine = [pair for pair in of_everyone if complaint(cohort, pair) is None]
        if mine:
            fallen = frozenset(modality for _, modality in cohort.closure(mine))
            lattice.drop_for_everyone(load_live_model(system, version), fallen)


def _require_small(cohorts: Sequence[Cohort], pairs: frozenset[Pair]) -> None:
    """One certificate proves that all of a deletion is absent, and verifiers read at most `MAX_BYTES`.

    Half of that is left for everything else. What no line holds is measured when its absence is certified.
    """
    for cohort in cohorts:
        people = len({subject for subject, _ in pairs if subject in cohort.rows_of})
        each = len(Modality) * proof_bytes(int(cohort.presence.sum()))
        if people * each > MAX_BYTES / 2:
            most = int(MAX_BYTES / 2 / each)
            raise DeletionError(
                f"A request of {people:,} people would make a certificate larger than verifiers read.",
                remedy=f"ask for at most {most} people at once; `mbd revoke --file` makes a request of each",
            )


def proof_bytes(leaves: int) -> float:
    """More than an absence proof takes in a bundle: two leaves and their paths, in hex, and all of it in base64."""
    return 2 * (_LEAF_BYTES + _HASH_BYTES * math.ceil(math.log2(max(leaves, 2)))) * 4 / 3


def _require_held(cohorts: Sequence[Cohort], pairs: frozenset[Pair]) -> None:
    """Each pair is held by some live line."""
    for pair in sorted(pairs):
        complaints = [found for cohort in cohorts if (found := complaint(cohort, pair))]
        if len(complaints) == len(cohorts):
            raise next((c for c in complaints if isinstance(c, NothingToDeleteError)), complaints[0])


def _require_certifiable(cohorts: Sequence[Cohort], pairs: frozenset[Pair]) -> None:
    """Absence proves something of each person: the name can be somebody's, nobody is public, and no one is left out.

    A line that holds a part of a request answers it with the certificate of a deletion, which speaks of those alone
    from whom something was deleted. So a person whom no line knows asks for themselves.
    """
    subjects = {subject for subject, _ in pairs}
    for subject in sorted(subjects - {EVERYONE}):
        if not is_plain_name(subject):
            raise UnknownSubjectError(
                f"{subject!r} can be nobody's name in a cohort, so that its absence would prove nothing.",
                remedy="give the name as a cohort has it: printable, in Unicode form NFC, without spaces around it",
            )
        for cohort in cohorts:
            if any(cohort.rows[i].partition is Partition.PUBLIC for i in cohort.rows_of.get(subject, ())):
                _require_held([cohort], frozenset(pair for pair in pairs if pair[0] == subject))
    held = {pair[0] for pair in pairs if any(complaint(cohort, pair) is None for cohort in cohorts)}
    if held and subjects - held:
        absent = ", ".join(f"'{subject}'" for subject in sorted(subjects - held))
        raise DeletionError(
            f"No live model holds these channels of {absent}, while it holds some of others in the same request.",
            remedy="make it a request of its own; `mbd revoke --file` carries out many together",
        )


def file_revocations(
    system: System,
    wanted: Sequence[frozenset[Pair]],
    regime: str,
    on_step: Callable[[str], None] = lambda step: None,
) -> list[Revocation]:
    """File requests, attest whose they are, approve them, and suppress their channels with all that falls with them.

    All at once and together: who gives this command holds the deployment's keys, and decides.

    Where the policy certifies absence, each live line that holds nothing of a request gives it its certificate with it.
    """
    now = system.clock()
    live = live_cohorts(system)
    asked = {
        new_revocation(system.settings, _scope(system, pairs), regime, requested_at=now): pairs for pairs in wanted
    }
    absences = _absences(system, live, asked) if system.settings.certify_absence else []
    # Crash point: until this transaction has committed, nothing was asked; after it, no step needs a plain name.
    with deciding(system) as connection:
        for revocation in asked:
            requests.file(connection, revocation, by=COMMAND_LINE)
            requests.act(connection, revocation.id, Action.VERIFY_IDENTITY, by=COMMAND_LINE, at=now, reason=_ATTESTED)
            approve(system, connection, revocation, by=COMMAND_LINE)
        if absences:
            on_step("certifying absence")
        for absence in absences:
            certify_absence(system, connection, absence)
    return list(asked)


def _scope(system: System, pairs: frozenset[Pair]) -> list[Channel]:
    return sorted({channel_of(system, pair) for pair in pairs})


def _absences(
    system: System, live: Sequence[tuple[ModelVersion, Cohort]], asked: Mapping[Revocation, frozenset[Pair]]
) -> list[Absence]:
    """Of each request and each live line that holds nothing of it."""
    found = []
    for version, cohort in live:
        mine = {revocation: pairs for revocation, pairs in asked.items() if is_absent(cohort, pairs)}
        if mine:
            found += prove_absences(system, version, cohort, mine)
    return found


def channels_of(system: System, subject: str) -> tuple[Modality, ...]:
    """The modalities that some live line's cohort holds of a person; all, where the policy certifies absence.

    With that policy a request for everything tells nobody, in no certificate, which channels a person has elsewhere.

    Raises:
        UnknownSubjectError: no live line knows the person.
    """
    if system.settings.certify_absence:
        return tuple(Modality)
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


def is_absent(cohort: Cohort, pairs: frozenset[Pair]) -> bool:
    """Whether a cohort holds nothing of a request."""
    return all(complaint(cohort, pair) is not None for pair in pairs)


def complaint(cohort: Cohort, pair: Pair) -> UnknownSubjectError | NothingToDeleteError | None:
    """Why a pair cannot be revoked from a cohort, or None."""
    try:
        cohort.revoke([pair])
    except (UnknownSubjectError, NothingToDeleteError) as error:
        return error
    return None


def channel_of(system: System, pair: Pair) -> Channel:
    """A pair as the database names it."""
    subject, modality = pair
    return Channel(subject if subject == EVERYONE else system.identities.subject_key(subject), modality.value)
