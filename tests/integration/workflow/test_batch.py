"""Many revocations at once: each line is solved once, and everybody has a certificate that names nobody else."""

import numpy as np
import pytest

from certs.statement import Certified
from mbd.cohort.cohort import EVERYONE
from mbd.cohort.modality import Modality
from mbd.deletion import engine
from mbd.errors import DeletionError, UnknownSubjectError
from mbd.lattice.fit import training_rows
from mbd.lattice.model import load_model
from mbd.records import fsck, models, requests
from mbd.records.database import begin_snapshot
from mbd.records.exposure import live_descendants_of_revoked, models_exposed_to
from mbd.records.suppression import Channel
from mbd.workflow.replay import replay
from mbd.workflow.revocation import resume, revoke, revoke_batch

AUDIO, TEXT, VISION = Modality.AUDIO, Modality.TEXT, Modality.VISION


@pytest.fixture
def asked(people):
    return [[(people[0], AUDIO)], [(people[1], TEXT)], [(people[2], AUDIO), (people[2], VISION)]]


def test_a_batch_is_one_version_one_solve_and_one_certificate_each(system, cohort, asked, check):
    batch = revoke_batch(system, asked)
    assert [[result.version for result in results] for results in batch] == [[2], [2], [2]]
    assert system.live("main").version == 2
    outcomes = {id(results[0].outcome) for results in batch}
    assert len(outcomes) == 1
    predicates = [check(system, results[0]).statement.predicate for results in batch]
    for predicate, pairs in zip(predicates, asked, strict=True):
        assert {proof.modality for proof in predicate.dataset.absence} == {modality.value for _, modality in pairs}
        assert len(predicate.subject_commitments) == 1
    assert len({predicate.request.digest for predicate in predicates}) == 3
    assert len({predicate.subject_commitments for predicate in predicates}) == 3
    assert len({predicate.lineage.model_digest for predicate in predicates}) == 1
    remaining = cohort.without([pair for pairs in asked for pair in pairs])
    model = load_model(system.model_folder("main", 2))
    assert model.statistics == model.featurizer.statistics(training_rows(remaining))


def test_a_certificate_of_a_batch_says_nothing_of_the_other_requests(system, asked, people, check):
    """The leaves beside the gap of an absence proof are whoever stands there, in a batch or not."""
    batch = revoke_batch(system, asked)
    statements = [check(system, results[0]).statement for results in batch]
    for mine in statements:
        dataset = mine.predicate.dataset.model_copy(update={"absence": ()})
        said = mine.predicate.model_copy(update={"dataset": dataset}).model_dump_json()
        for other in (other.predicate for other in statements if other is not mine):
            assert not any(commitment in said for commitment in other.subject_commitments)
            assert other.request.digest not in said
        assert {proof.subject for proof in mine.predicate.dataset.absence} == set(mine.predicate.subject_commitments)
        assert not any(person.encode() in mine.canonical() for person in people)


def test_a_batch_spends_its_budget_once(system, asked, people, check):
    batch = revoke_batch(system, asked)
    guarantees = [check(system, results[0]).statement.predicate.guarantee for results in batch]
    assert all(isinstance(guarantee, Certified) for guarantee in guarantees)
    assert {guarantee.mu_series for guarantee in guarantees} == {(guarantees[0].mu,)}
    with begin_snapshot(system.engine) as connection:
        charged = [release.mu for release in models.mu_series(connection, "main")]
    assert guarantees[0].mu == pytest.approx(np.sqrt(np.sum(np.square(charged))))
    (later,) = revoke(system, [(people[3], AUDIO)])
    assert len(check(system, later).statement.predicate.guarantee.mu_series) == 2


def test_lineage_names_the_certificate_of_the_person_who_asks(system, asked, people):
    batch = revoke_batch(system, asked)
    with begin_snapshot(system.engine) as connection:
        assert live_descendants_of_revoked(connection) == ()
        for results, pairs in zip(batch, asked, strict=True):
            for person, modality in pairs:
                (seen,) = models_exposed_to(connection, Channel(system.identities.subject_key(person), modality.value))
                assert seen.ended_by.certificate_id == results[0].certificate
        report = fsck.fsck(connection, verify_note=system.keyring.read_checkpoint)
    assert report.ok
    assert report.head.size == 4  # the noise commitment and three certificates


def test_each_certificate_of_a_batch_replays(system, asked):
    for results in revoke_batch(system, asked):
        done = replay(system, results[0].bundle.read_bytes())
        assert done.matched, [check for check in done.checks if not check.matched]


def test_a_modality_of_everyone_and_single_people_go_together(system, people, tester, check):
    asked = [[(EVERYONE, AUDIO)], [(people[0], AUDIO)], [(tester, TEXT)], [(people[1], TEXT), (people[1], AUDIO)]]
    kinds = []
    for results in revoke_batch(system, asked):
        predicate = check(system, results[0]).statement.predicate
        assert set(predicate.procedure.dropped) == {"a", "ta", "av", "tav"}
        kinds.append(predicate.request.scope.kind)
    assert kinds == ["modality", "subject-modality", "subject-modality", "several"]
    assert set(load_model(system.model_folder("main", 2)).layout.modalities) == {TEXT, VISION}


def test_one_impossible_request_refuses_the_batch_before_anything_is_filed(system, asked):
    with pytest.raises(UnknownSubjectError, match="nobody"):
        revoke_batch(system, [*asked, [("nobody", AUDIO)]])
    with begin_snapshot(system.engine) as connection:
        assert requests.unfinished(connection) == ()
    assert system.live("main").version == 1


def test_one_that_fails_later_does_not_stop_the_others(system, asked, people, check, monkeypatch):
    honest = engine.delete

    def broken(model, cohort, revocation, **kwargs):
        if (people[1], TEXT) in revocation.pairs:
            raise DeletionError("planted", remedy="none")
        return honest(model, cohort, revocation, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "delete", broken)
        with pytest.raises(DeletionError, match="planted"):
            revoke_batch(system, asked)
    halves = system.live("main").version - 1  # ids are random: the two others are in one half, or each in its own
    assert halves in {1, 2}
    with begin_snapshot(system.engine) as connection:
        (unfinished,) = requests.unfinished(connection)
    assert [channel.modality for channel in unfinished.scope] == ["text"]
    (late,) = resume(system)
    assert check(system, late).statement.predicate.lineage.version == 2 + halves
