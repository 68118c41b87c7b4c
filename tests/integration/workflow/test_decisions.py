"""What is decided about a request: suppression comes with an approval, and goes with a cancellation."""

from datetime import UTC, date, datetime

import pytest

from mbd.cohort.cohort import EVERYONE
from mbd.cohort.modality import Modality
from mbd.errors import DeletionError, LedgerError, RecordsError, TransitionError
from mbd.records import requests
from mbd.records.database import begin_snapshot
from mbd.records.lifecycle import Action, Role, State
from mbd.settings import Settings
from mbd.workflow import decisions, deleting, filing, revocation
from mbd.workflow.decisions import COMMAND_LINE, FOR_THE_PERSON

AUDIO = Modality.AUDIO


@pytest.fixture
def filed(system, people):
    """Approved, and not begun: as a command leaves it that was killed there."""
    (request,) = filing.file_revocations(system, [frozenset({(people[0], AUDIO)})], "gdpr")
    return request


def stored(system, request):
    with begin_snapshot(system.engine) as connection:
        return requests.get(connection, request.id), requests.events(connection, request.id)


def test_who_holds_the_keys_files_attests_and_approves_in_one_step(system, filed, people):
    found, steps = stored(system, filed)
    assert found.state is State.APPROVED
    assert [(step.action, step.by) for step in steps] == [
        (action, COMMAND_LINE) for action in (Action.FILE, Action.VERIFY_IDENTITY, Action.APPROVE)
    ]
    assert "attested" in steps[1].reason
    assert system.suppressed()(people[0], AUDIO)


def test_a_deletion_is_the_workers_and_ends_the_request(system, filed):
    assert len(revocation.resume(system)) == 1
    found, steps = stored(system, filed)
    assert found.state is State.COMPLETED
    assert [(step.action, step.by.role) for step in steps[3:]] == [
        (Action.START, Role.WORKER),
        (Action.COMPLETE, Role.WORKER),
    ]


def test_a_failure_is_written_down_by_its_kind_alone_and_tried_again(system, filed, people, monkeypatch):
    def refuse(*_, **__):
        raise DeletionError(f"{people[0]} cannot be deleted.", remedy="wait")

    with monkeypatch.context() as patched:
        patched.setattr(deleting.engine, "delete", refuse)
        with pytest.raises(DeletionError):
            revocation.resume(system)
    found, steps = stored(system, filed)
    assert (found.state, steps[-1].action, steps[-1].reason) == (State.FAILED, Action.FAIL, "DeletionError")
    revocation.resume(system)
    found, steps = stored(system, filed)
    assert found.state is State.COMPLETED
    assert [step.action for step in steps[-3:]] == [Action.RETRY, Action.START, Action.COMPLETE]


def cancel(system, request, **how):
    with decisions.deciding(system) as connection:
        return decisions.cancel(system, connection, request, **how)


def extend(system, request, **how):
    with decisions.deciding(system) as connection:
        return decisions.extend(system, connection, request, **how)


def test_a_cancelled_request_is_not_carried_out_and_its_channels_are_free_again(system, filed, people):
    cancel(system, filed.id, by=FOR_THE_PERSON, reason="changed their mind")
    assert not system.suppressed()(people[0], AUDIO)
    assert revocation.resume(system) == []
    found, steps = stored(system, filed)
    assert (found.state, steps[-1].reason) == (State.CANCELLED, "changed their mind")
    assert system.live("main").version == 1


def test_a_channel_that_somebody_else_asked_for_stays_suppressed(system, filed, people):
    filing.file_revocations(system, [frozenset({(EVERYONE, AUDIO)})], "gdpr")
    cancel(system, filed.id, by=FOR_THE_PERSON)
    assert system.suppressed()(people[0], AUDIO)


def test_what_was_done_is_not_cancelled(system, filed, people):
    revocation.resume(system)
    with pytest.raises(TransitionError, match="the request is completed"):
        cancel(system, filed.id, by=FOR_THE_PERSON)
    assert system.suppressed()(people[0], AUDIO)


def test_an_officer_does_not_cancel_for_a_person(system, filed):
    with pytest.raises(TransitionError, match="not for the officer"):
        cancel(system, filed.id, by=COMMAND_LINE)


def test_an_extension_takes_the_longer_period_of_the_law_once(system, filed):
    long = decisions.deadlines_of(system.settings, "gdpr", filed.requested_at).extended
    assert extend(system, filed.id, by=COMMAND_LINE, reason="many at once").due == long > filed.due
    with pytest.raises(TransitionError, match="extended before"):
        extend(system, filed.id, by=COMMAND_LINE, reason="still many")


def test_a_regime_without_a_time_has_the_policys_and_is_not_extended(system, people):
    (request,) = filing.file_revocations(system, [frozenset({(people[0], AUDIO)})], "bipa")
    assert (request.due - request.requested_at.date()).days == system.settings.deadline_days
    with pytest.raises(TransitionError, match="'bipa' knows no longer period"):
        extend(system, request.id, by=COMMAND_LINE, reason="many at once")


def test_the_policy_sets_days_and_holidays():
    settings = Settings(deadline_days=14, holidays={date(2027, 1, 1)})
    came = datetime(2026, 12, 1, 23, 59, tzinfo=UTC)
    assert decisions.deadlines_of(settings, "bipa", came).answer == date(2026, 12, 15)
    assert decisions.deadlines_of(settings, "gdpr", came).answer == date(2027, 1, 4)


def test_nothing_is_decided_on_a_restored_backup(system, filed, monkeypatch):
    def behind(*_):
        raise LedgerError("The log is behind.", remedy="restore-check")

    monkeypatch.setattr(decisions, "refuse_rollback", behind)
    for decide in (
        lambda: cancel(system, filed.id, by=FOR_THE_PERSON),
        lambda: extend(system, filed.id, by=COMMAND_LINE, reason="many"),
    ):
        with pytest.raises(LedgerError, match="behind"):
            decide()
    assert stored(system, filed)[0].state is State.APPROVED


def test_an_unknown_request_is_an_error(system):
    with pytest.raises(RecordsError, match="no request 'rev-0'"):
        cancel(system, "rev-0", by=FOR_THE_PERSON)
