"""Revokes at once, for whoever holds the deployment's keys: files, decides, and takes every step of the deletion.

A line that holds nothing of a request has its certificate of absence from the filing, or none. Whatever dies in
between, `resume` goes through the same steps (`mbd.workflow.steps`): what one had finished is found, not done again.
"""

from collections.abc import Iterable, Sequence

from mbd.cohort.cohort import Pair
from mbd.records.database import begin_snapshot
from mbd.records.lifecycle import WITH_THE_WORKER
from mbd.workflow.decisions import COMMAND_LINE, deciding
from mbd.workflow.decisions import retry as decide_to_retry
from mbd.workflow.filing import file_revocations, require_possible
from mbd.workflow.office import refuse_rollback
from mbd.workflow.steps import READY, LineResult, OnStep, Work
from mbd.workflow.system import System


def revoke(
    system: System, pairs: Iterable[Pair], *, regime: str = "gdpr", on_step: OnStep = lambda step: None
) -> list[LineResult]:
    """File a revocation and carry it out on every live line.

    Args:
        system: the deployment.
        pairs: (subject or EVERYONE, modality), each of which some live line's cohort must hold; where the policy
            certifies absence, a line that holds none of them certifies that instead.
        regime: the law or policy that it is made under.
        on_step: told what happens next.

    Raises:
        UnknownSubjectError: no live line knows the person.
        NothingToDeleteError: no live line's cohort holds the channel.
        DeletionError: see `mbd.deletion.engine.delete`; the channel stays suppressed and `resume` tries again.
    """
    (results,) = revoke_batch(system, [pairs], regime=regime, on_step=on_step)
    return results


def revoke_batch(
    system: System,
    wanted: Sequence[Iterable[Pair]],
    *,
    regime: str = "gdpr",
    on_step: OnStep = lambda step: None,
) -> list[list[LineResult]]:
    """File many revocations and carry them out together: each line is solved once, each revocation has its certificate.

    Returns:
        The results of each, in the order given.

    Raises:
        DeletionError: as `revoke`. If one of them cannot be carried out, none is filed; if one fails later on, the
            others are finished all the same.
    """
    asked = [frozenset(pairs) for pairs in wanted]
    with system.exclusive():
        with begin_snapshot(system.engine) as connection:
            refuse_rollback(system, connection)
        require_possible(system, asked, regime)
        on_step("suppressing")
        filed = file_revocations(system, asked, regime, on_step)
        work = Work(system, WITH_THE_WORKER, on_step)
        work.carry_out()
    for revocation in filed:
        if revocation.id in work.errors:
            raise work.errors[revocation.id]
    return [work.results[revocation.id] for revocation in filed]


def resume(system: System, *, on_step: OnStep = lambda step: None) -> list[LineResult]:
    """Finish every revocation that something interrupted, oldest first.

    Raises:
        Exception: one of them failed again; the others were finished all the same.
    """
    with system.exclusive():
        work = Work(system, WITH_THE_WORKER, on_step)
        work.carry_out()
    for error in work.errors.values():
        raise error
    return [result for results in work.results.values() for result in results]


def retry(system: System, revocation_id: str, *, on_step: OnStep = lambda step: None) -> list[LineResult]:
    """Carry a failed request out from the step that failed, and with it whatever else waits.

    Returns:
        What is on each line now; a line that had been done before is not done again.

    Raises:
        RecordsError: there is no such request.
        TransitionError: it has not failed.
        Exception: it failed again.
    """
    with system.exclusive():
        with deciding(system) as connection:
            decide_to_retry(system, connection, revocation_id, by=COMMAND_LINE)
        work = Work(system, READY, on_step)
        work.carry_out()
    if revocation_id in work.errors:
        raise work.errors[revocation_id]
    return work.results[revocation_id]
