"""Who is not there, or whose channel is not: a certificate of absence where the policy asks for one, else an error."""

import dataclasses
import re
import shutil
from collections.abc import Iterator

import pytest

from certs.absence_statement import AbsenceStatement
from certs.errors import VerificationError
from certs.statement import DeletionStatement
from mbd.cohort import folder
from mbd.cohort.cohort import EVERYONE, Partition
from mbd.cohort.modality import Modality
from mbd.errors import (
    ChannelSuppressedError,
    CohortError,
    DeletionError,
    LedgerError,
    UnknownSubjectError,
)
from mbd.records import certificates, commitments, fsck, ledger, requests
from mbd.records.certificates import CertificateKind
from mbd.records.database import begin_snapshot
from mbd.settings import Settings
from mbd.workflow import absence
from mbd.workflow.filing import channels_of
from mbd.workflow.planning import lines_without, plan_revocation
from mbd.workflow.replay import replay
from mbd.workflow.revocation import revoke, revoke_batch
from mbd.workflow.system import System, open_system
from mbd.workflow.training import train_line

AUDIO, TEXT, VISION = Modality.AUDIO, Modality.TEXT, Modality.VISION
ALL = tuple(Modality)
NOBODY = "nobody here"
POLICY = {"certify_absence": True}


@pytest.fixture
def certifying(home) -> Iterator[System]:
    """The deployment, whose policy is to certify absence."""
    with open_system(Settings(home=home, **POLICY), create=False) as opened:
        yield opened


@pytest.fixture
def two_lines(two_lines_home, tmp_path) -> Iterator[System]:
    shutil.copytree(two_lines_home, tmp_path / "two")
    with open_system(Settings(home=tmp_path / "two", **POLICY), create=False) as opened:
        yield opened


def of(subject, *modalities):
    return [(subject, modality) for modality in modalities or ALL]


def state(system):
    """What a refused request must not change."""
    with begin_snapshot(system.engine) as connection:
        return requests.unfinished(connection), ledger.head(connection), certificates.current(connection)


def suppressed(system, subject):
    return {modality for modality in ALL if system.suppressed()(subject, modality)}


def opening(system, result):
    with begin_snapshot(system.engine) as connection:
        return commitments.key_of(connection, result.certificate)


def test_without_the_policy_it_is_an_error_and_leaves_nothing(system, people):
    before = state(system)
    with pytest.raises(UnknownSubjectError):
        revoke(system, of(NOBODY))
    assert state(system) == before
    assert suppressed(system, NOBODY) == set()
    assert lines_without(system, frozenset(of(NOBODY))) == []


def test_somebody_unknown_gets_a_certificate_of_absence_and_is_suppressed(certifying, check):
    (result,) = revoke(certifying, of(NOBODY))
    assert (result.line, result.version, result.kind, result.outcome) == ("main", 1, CertificateKind.ABSENCE, None)
    statement = check(certifying, result).statement
    assert isinstance(statement, AbsenceStatement)
    predicate = statement.predicate
    assert (predicate.request.scope.kind, predicate.lineage.version) == ("subject", 1)
    live = certifying.live("main")
    assert (predicate.dataset.manifest.root, predicate.lineage.model_digest) == (live.cohort, live.digest)
    assert {(proof.partition, proof.modality) for proof in predicate.dataset.absence} == {
        (partition.value, modality.value) for partition in Partition for modality in ALL
    }
    assert suppressed(certifying, NOBODY) == set(ALL)
    assert (result.folder / "mdc.tlog-proof").exists()
    with begin_snapshot(certifying.engine) as connection:
        assert requests.unfinished(connection) == ()
        report = fsck.fsck(connection, verify_note=certifying.keyring.read_checkpoint)
    assert (report.ok, report.head.size) == (True, 2)  # the noise commitment and this


def test_the_person_finds_themselves_by_the_opening_that_is_kept(certifying, check):
    (result,) = revoke(certifying, of(NOBODY, AUDIO))
    key = opening(certifying, result)
    assert check(certifying, result, openings={NOBODY: key}).steps[-1].result == "passed"
    with pytest.raises(VerificationError, match="no commitment"):
        check(certifying, result, openings={"Nobody here": key})


def test_a_certified_channel_never_enters_later(certifying, cohort, people, recipe):
    """The useful half for the person: who comes with the next import is refused."""
    revoke(certifying, of(NOBODY, AUDIO))
    renamed = [dataclasses.replace(r, subject=NOBODY) if r.subject == people[0] else r for r in cohort.rows]
    arriving = dataclasses.replace(cohort, rows=tuple(renamed))
    with pytest.raises(ChannelSuppressedError):
        train_line(certifying, arriving, recipe, line="next", seed=0)
    public = [dataclasses.replace(r, partition=Partition.PUBLIC) if r.subject == NOBODY else r for r in renamed]
    with pytest.raises(CohortError, match="have withdrawn a channel before"):
        train_line(certifying, dataclasses.replace(cohort, rows=tuple(public)), recipe, line="next", seed=0)


def test_a_public_person_stays_an_error_and_is_never_certified_absent(certifying, cohort):
    public = next(row.subject for row in cohort.rows if row.partition is Partition.PUBLIC)
    before = state(certifying)
    for pairs in (of(public), of(public, AUDIO)):
        with pytest.raises(UnknownSubjectError, match="public partition"):
            revoke(certifying, pairs)
    with pytest.raises(UnknownSubjectError, match="public partition"):
        revoke_batch(certifying, [of(NOBODY), of(public)])
    assert state(certifying) == before
    assert suppressed(certifying, public) == suppressed(certifying, NOBODY) == set()


def test_even_a_filing_that_forgot_to_ask_cannot_prove_a_public_person_absent(certifying, cohort):
    public = next(row.subject for row in cohort.rows if row.partition is Partition.PUBLIC)
    revocation = requests.Revocation("r", "00" * 32, "gdpr", (), certifying.clock(), certifying.clock().date())
    with pytest.raises(CohortError, match="still holds"):
        absence.prove_absences(certifying, certifying.live("main"), cohort, {revocation: frozenset(of(public, AUDIO))})


def test_a_channel_that_was_withdrawn_before_is_certified_absent_from_the_version_since(certifying, people, check):
    (deleted,) = revoke(certifying, of(people[0], AUDIO))
    (again,) = revoke(certifying, of(people[0], AUDIO))
    assert (deleted.kind, again.kind) == (CertificateKind.DELETION, CertificateKind.ABSENCE)
    assert (deleted.version, again.version, certifying.live("main").version) == (2, 2, 2)
    predicate = check(certifying, again).statement.predicate
    assert predicate.request.scope.kind == "subject-modality"
    assert any("earlier one held" in sentence for sentence in predicate.not_covered)
    with begin_snapshot(certifying.engine) as connection:
        assert [found.id for found in certificates.of_version(connection, "main", 2)] == [deleted.certificate]
    for result in (deleted, again):  # the one is no part of what binds the other's noise
        assert replay(certifying, result.bundle.read_bytes()).matched


def test_a_modality_that_nobody_revocable_has_is_certified_for_everyone(certifying, check):
    revoke(certifying, of(EVERYONE, AUDIO))
    (result,) = revoke(certifying, of(EVERYONE, AUDIO))
    predicate = check(certifying, result).statement.predicate
    assert (result.kind, predicate.request.scope.kind, predicate.subject_commitments) == ("absence", "modality", ())
    assert [(proof.partition, proof.subject) for proof in predicate.dataset.absence] == [("revocable", None)]
    assert any("public partition" in sentence for sentence in predicate.not_covered)


def test_each_line_answers_a_request_once_by_what_it_holds(two_lines, people, check):
    """The first person is unknown to the second line, and the second person has no voice there."""
    first, second, both = revoke_batch(
        two_lines, [of(people[0]), of(people[1], AUDIO), of(people[2], AUDIO)], regime="bipa"
    )
    for results, kinds in (
        (first, ["deletion", "absence"]),
        (second, ["deletion", "absence"]),
        (both, ["deletion", "deletion"]),
    ):
        assert [result.line for result in results] == ["main", "second"]
        assert [result.kind for result in results] == kinds
        for result in results:
            statement = check(two_lines, result).statement
            assert isinstance(statement, DeletionStatement if result.kind == "deletion" else AbsenceStatement)
    # Absence was proven when the request was filed, against the version that was live then.
    assert (first[1].version, both[1].version, two_lines.live("second").version) == (1, 2, 2)
    with begin_snapshot(two_lines.engine) as connection:
        assert len(certificates.current(connection)) == 6
        assert fsck.fsck(connection, verify_note=two_lines.keyring.read_checkpoint).ok


def test_the_plan_says_which_lines_would_delete_and_which_would_certify(two_lines, people):
    before = state(two_lines)
    pairs = frozenset(of(people[0]))
    assert [plan.line for plan in plan_revocation(two_lines, pairs)] == ["main"]
    assert [live.line for live in lines_without(two_lines, pairs)] == ["second"]
    assert plan_revocation(two_lines, frozenset(of(NOBODY))) == []
    assert [live.line for live in lines_without(two_lines, frozenset(of(NOBODY)))] == ["main", "second"]
    assert state(two_lines) == before


def test_a_certificate_does_not_tell_whether_the_person_is_known_elsewhere(two_lines, people, check):
    """Between somebody whom the other line knows, somebody known here by another channel, and a stranger: digests."""
    assert channels_of(two_lines, people[0]) == channels_of(two_lines, NOBODY) == ALL
    said = []
    for pairs in (of(people[0], AUDIO), of(people[1], AUDIO), of(NOBODY, AUDIO)):
        result = revoke(two_lines, pairs)[-1]
        assert (result.line, result.kind) == ("second", "absence")
        predicate = check(two_lines, result).statement.predicate
        assert len(predicate.dataset.absence) == 2
        dataset = predicate.dataset.model_copy(update={"absence": ()})
        rest = predicate.model_copy(update={"dataset": dataset}).model_dump_json()
        said.append(re.sub(r"[0-9a-f]{64}|\d{4}-\d\d-\d\dT[^\"]+", "-", rest))
    assert len(set(said)) == 1
    everything = [check(two_lines, revoke(two_lines, of(who))[-1]).statement.predicate for who in (people[0], NOBODY)]
    assert everything[0].request.scope == everything[1].request.scope


def test_commitments_of_one_person_differ_between_lines_and_between_versions(two_lines, people, check):
    def named(result):
        (commitment,) = check(two_lines, result).statement.predicate.subject_commitments
        return commitment

    first, second = revoke(two_lines, of(NOBODY, AUDIO))
    revoke(two_lines, of(people[2], AUDIO))
    later = revoke(two_lines, of(NOBODY, TEXT))
    assert len({named(result) for result in (first, second, *later)}) == 4
    again = revoke(two_lines, of(NOBODY, VISION))
    assert [named(result) for result in again] == [named(result) for result in later]  # one manifest has one name


def test_no_certificate_holds_a_name(certifying):
    (result,) = revoke(certifying, of(NOBODY))
    key = certifying.identities.subject_key(NOBODY)
    with begin_snapshot(certifying.engine) as connection:
        envelope = certificates.get(connection, result.certificate).envelope
    payload = result.bundle.read_bytes() + envelope.encode()
    assert NOBODY.encode() not in payload
    assert key.encode() not in payload


@pytest.mark.parametrize("name", ["ame\u0301lie", " nobody", "nobody ", "no\nbody", "", "\ud800"])
def test_a_name_that_no_cohort_can_have_is_refused(certifying, name):
    """It would be absent whoever is there: am\u00e9lie in another encoding is somebody's name."""
    before = state(certifying)
    with pytest.raises(UnknownSubjectError, match="nobody's name"):
        revoke(certifying, of(name))
    assert state(certifying) == before


def test_a_stranger_in_a_request_about_somebody_known_must_ask_alone(certifying, people):
    """The line's one certificate would be of the deletion, and say nothing of the stranger."""
    before = state(certifying)
    with pytest.raises(DeletionError, match=f"'{NOBODY}'"):
        revoke(certifying, [*of(people[0], AUDIO), *of(NOBODY, AUDIO)])
    assert state(certifying) == before
    known, unknown = revoke_batch(certifying, [of(people[0], AUDIO), of(NOBODY, AUDIO)])
    assert ([r.kind for r in known], [r.kind for r in unknown]) == (["deletion"], ["absence"])


def test_one_persons_absent_channel_beside_one_that_is_there_is_suppressed_too(certifying, people, check):
    revoke(certifying, of(people[0], AUDIO))
    (result,) = revoke(certifying, of(people[0], AUDIO, TEXT))
    assert (result.kind, result.version) == ("deletion", 3)
    assert check(certifying, result).statement.predicate.request.scope.modalities == ("text",)
    assert suppressed(certifying, people[0]) == {AUDIO, TEXT}


def test_several_strangers_may_ask_together(certifying, check):
    (result,) = revoke(certifying, [*of(NOBODY, AUDIO), *of("nobody else", TEXT)])
    predicate = check(certifying, result).statement.predicate
    assert (predicate.request.scope.kind, len(predicate.subject_commitments)) == ("several", 2)
    assert len(opening(certifying, result)) == 64


@pytest.mark.parametrize("people", [100, 300], ids=["too large to be signed", "too large to be read"])
def test_more_strangers_than_fit_into_one_certificate_are_told_to_ask_alone(certifying, people):
    crowd = [f"{NOBODY} {number}" for number in range(people)]
    before = state(certifying)
    with pytest.raises(DeletionError, match=f"{people} people in one request"):
        revoke(certifying, [pair for who in crowd for pair in of(who)])
    assert state(certifying) == before
    assert len(revoke_batch(certifying, [of(who) for who in crowd[:8]])) == 8


def test_what_would_fall_with_the_channel_is_proven_absent_too(tmp_path, cohort, recipe, check):
    text = dataclasses.replace(cohort.channels[TEXT], derived_from=(AUDIO,), consent="follows")
    following = dataclasses.replace(cohort, channels={**cohort.channels, TEXT: text})
    with open_system(Settings(home=tmp_path / "home", **POLICY), create=True) as system:
        with pytest.raises(UnknownSubjectError, match="no model line"):
            revoke(system, of(NOBODY))
        train_line(system, following, recipe, line="main", seed=0)
        (result,) = revoke(system, of(NOBODY, AUDIO))
        predicate = check(system, result).statement.predicate
        assert predicate.request.scope.modalities == ("audio",)
        assert {proof.modality for proof in predicate.dataset.absence} == {"audio", "text"}
        assert suppressed(system, NOBODY) == {AUDIO, TEXT}


def test_filing_and_certifying_are_one_transaction(certifying, monkeypatch):
    before = state(certifying)

    def broken(*arguments):
        raise LedgerError("planted", remedy="none")

    monkeypatch.setattr(absence, "append_envelope", broken)
    with pytest.raises(LedgerError, match="planted"):
        revoke(certifying, of(NOBODY))
    assert state(certifying) == before
    assert suppressed(certifying, NOBODY) == set()


def test_rows_that_are_not_the_registered_ones_prove_nothing(certifying, cohort, people):
    """Somebody takes a person out of the cohort folder by hand, with a manifest that fits, and asks for a proof."""
    where = certifying.cohort_folder("main", 1)
    shutil.rmtree(where)
    folder.write(cohort.without(of(people[0])), where, key=b"k" * 32)
    before = state(certifying)
    with pytest.raises(DeletionError, match="not those that were registered"):
        revoke(certifying, of(people[0]))
    assert state(certifying) == before


def test_an_absence_replays_on_the_live_version_only(certifying, people):
    (result,) = revoke(certifying, of(NOBODY))
    done = replay(certifying, result.bundle.read_bytes())
    assert [(check.name, check.matched) for check in done.checks] == [
        ("model files", True),
        ("manifest", True),
        ("absence", True),
    ]
    revoke(certifying, of(people[0], AUDIO))
    with pytest.raises(DeletionError, match="version 2 is live"):
        replay(certifying, result.bundle.read_bytes())


def test_a_person_who_slipped_into_the_rows_afterwards_is_noticed(certifying, cohort, people):
    (result,) = revoke(certifying, of(NOBODY))
    where = certifying.cohort_folder("main", 1)
    key = folder.read_manifest(where).key
    renamed = [dataclasses.replace(r, subject=NOBODY) if r.subject == people[0] else r for r in cohort.rows]
    shutil.rmtree(where)
    folder.write(dataclasses.replace(cohort, rows=tuple(renamed)), where, key=key)
    done = replay(certifying, result.bundle.read_bytes())
    assert [check.name for check in done.checks if not check.matched] == ["manifest", "absence"]
