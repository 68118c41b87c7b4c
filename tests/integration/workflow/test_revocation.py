"""One revocation after another on a real deployment: what changes, and what stays provable."""

import dataclasses

import numpy as np
import pytest

from certs.commitment import subject_commitment
from certs.errors import VerificationError
from certs.statement import Certified, Exact
from certs.verification import verify
from mbd.cohort import folder
from mbd.cohort.cohort import EVERYONE
from mbd.cohort.modality import Modality
from mbd.errors import ChannelSuppressedError, UnknownSubjectError
from mbd.hashing import file_digest
from mbd.lattice.model import load_model
from mbd.records import commitments, fsck
from mbd.records.database import begin_snapshot
from mbd.records.exposure import live_descendants_of_revoked, models_exposed_to
from mbd.records.suppression import Channel
from mbd.settings import Settings
from mbd.workflow.evaluation import metrics_by_pattern, predict_rows
from mbd.workflow.filing import channels_of
from mbd.workflow.office import utc_now
from mbd.workflow.revocation import revoke
from mbd.workflow.system import open_system
from mbd.workflow.training import train_line

AUDIO, TEXT, VISION = Modality.AUDIO, Modality.TEXT, Modality.VISION


def noise_commitment(system):
    return (system.home / "published" / "noise-commitment.sigstore.json").read_bytes()


def test_one_voice_is_withdrawn_certified_and_verified(check, system, cohort, people):
    (result,) = revoke(system, [(people[0], AUDIO)])
    artifacts = {path.name: path for path in system.model_folder("main", 2).iterdir()}
    verified = check(
        system,
        result,
        artifacts={name: file_digest(path) for name, path in artifacts.items()},
        noise_commitment=noise_commitment(system),
    )
    predicate = verified.statement.predicate
    assert [step.result for step in verified.steps] == [
        *["passed"] * 5,
        "not present",
        *["passed"] * 2,
    ]
    assert predicate.request.scope.kind == "subject-modality"
    assert isinstance(predicate.guarantee, Certified)
    assert {head.head for head in predicate.procedure.updated} == {"a", "ta", "av", "tav"}
    assert predicate.lineage.version == system.live("main").version == 2


def test_the_person_is_nowhere_in_a_certificate(check, system, people):
    (result,) = revoke(system, [(people[0], AUDIO)])
    statement = check(system, result).statement.canonical()
    for secret in (people[0].encode(), system.identities.subject_key(people[0]).encode()):
        assert secret not in statement
        assert secret not in result.bundle.read_bytes()


def test_the_withdrawn_features_and_the_old_weights_are_gone_from_the_disk(system, cohort, people):
    voice = [
        cohort.feature(i, AUDIO).tobytes()
        for i, row in enumerate(cohort.rows)
        if row.subject == people[0] and AUDIO in cohort.present(i)
    ]
    old_heads = system.model_folder("main", 1) / "heads.safetensors"
    on_disk = [path.read_bytes() for path in system.home.rglob("*") if path.is_file()]
    assert all(any(clip in content for content in on_disk) for clip in voice)
    assert old_heads.exists()
    revoke(system, [(people[0], AUDIO)])
    on_disk = [path.read_bytes() for path in system.home.rglob("*") if path.is_file()]
    assert not any(clip in content for content in on_disk for clip in voice)
    assert not old_heads.exists()


def test_the_channel_is_suppressed_for_training_and_prediction(system, cohort, people, recipe):
    revoke(system, [(people[0], AUDIO)])
    with pytest.raises(ChannelSuppressedError, match="audio of 1 subject"):
        train_line(system, cohort, recipe, line="again", seed=0)
    again = train_line(system, cohort, recipe, line="again", seed=0, drop_channels=True)
    assert again.version.version == 1
    model = load_model(system.model_folder("main", 2))
    mine = cohort.where(subject=people[0])
    answers = predict_rows(model, mine, system.suppressed())
    assert {answer.channels["audio"].value for answer in answers} == {"suppressed"}
    for i, answer in enumerate(answers):
        for m in (TEXT, VISION):
            there = m in mine.present(i)
            assert answer.channels[m.value].value == ("present" if there else "reconstructed")
    others = predict_rows(model, cohort.where(subject=people[1]), system.suppressed())
    assert "present" in {answer.channels["audio"].value for answer in others}


def test_a_row_of_nothing_but_a_suppressed_channel_gets_no_answer(system, cohort, people):
    for modality in Modality:
        revoke(system, [(people[0], modality)])
    model = load_model(system.model_folder("main", system.live("main").version))
    answers = predict_rows(model, cohort.where(subject=people[0]), system.suppressed())
    assert answers
    assert all(answer.output is None and answer.pattern == "" for answer in answers)


def test_five_voices_one_after_the_other_compose_their_budget(check, system, cohort, people):
    remaining = cohort
    for count, person in enumerate(people[:5], start=1):
        (result,) = revoke(system, [(person, AUDIO)])
        remaining = remaining.without([(person, AUDIO)])
        guarantee = check(system, result, noise_commitment=noise_commitment(system)).statement.predicate.guarantee
        assert len(guarantee.mu_series) == count
        assert guarantee.mu_total == pytest.approx(np.sqrt(count) * guarantee.mu)
        assert guarantee.curve[0].epsilon <= system.settings.epsilon
        model = load_model(system.model_folder("main", count + 1))
        from mbd.lattice.fit import training_rows

        assert model.statistics == model.featurizer.statistics(training_rows(remaining))
    with begin_snapshot(system.engine) as connection:
        assert live_descendants_of_revoked(connection) == ()
        seen = models_exposed_to(connection, Channel(system.identities.subject_key(people[4]), "audio"))
        assert [version.version for version in seen] == [1, 2, 3, 4, 5]
        assert {version.ended_by.version for version in seen} == {6}
        report = fsck.fsck(connection, verify_note=system.keyring.read_checkpoint)
    assert report.ok
    assert report.head.size == 6  # the noise commitment and five certificates


def test_an_earlier_certificate_stays_valid_after_later_ones(check, system, people):
    (first,) = revoke(system, [(people[0], AUDIO)])
    revoke(system, [(people[1], TEXT)])
    assert check(system, first).tree_size == 2


def test_then_voice_is_withdrawn_for_everyone_and_the_other_heads_answer_at_once(check, system, cohort, people):
    revoke(system, [(people[0], AUDIO)])
    before = load_model(system.model_folder("main", 2))
    (result,) = revoke(system, [(EVERYONE, AUDIO)])
    predicate = check(system, result).statement.predicate
    assert predicate.request.scope.kind == "modality"
    assert isinstance(predicate.guarantee, Exact)
    assert set(predicate.procedure.dropped) == {"a", "ta", "av", "tav"}
    after = load_model(system.model_folder("main", 3))
    for pattern, head in after.heads.items():
        assert np.array_equal(head.weights_DK, before.heads[pattern].weights_DK)
    metrics = metrics_by_pattern(after, cohort, system.suppressed())
    assert set(metrics) == {"t", "v", "tv"}
    answers = predict_rows(after, cohort, system.suppressed())
    assert {answer.channels["audio"].value for answer in answers} == {"suppressed"}
    with begin_snapshot(system.engine) as connection:
        assert live_descendants_of_revoked(connection) == ()


def test_somebody_of_the_test_split_gets_an_exact_certificate(check, system, tester):
    (result,) = revoke(system, [(tester, AUDIO)])
    predicate = check(system, result).statement.predicate
    assert isinstance(predicate.guarantee, Exact)
    assert predicate.statistics.untouched == ("audio",)


def test_everything_of_a_person(check, system, people):
    assert channels_of(system, people[0]) == (TEXT, AUDIO, VISION)
    (result,) = revoke(system, [(people[0], m) for m in channels_of(system, people[0])])
    assert check(system, result).statement.predicate.request.scope.kind == "subject"
    with pytest.raises(UnknownSubjectError):
        channels_of(system, people[0])
    assert people[0] not in folder.read(system.cohort_folder("main", 2)).subjects


def test_several_people_and_modalities_in_one_certificate(check, system, people):
    (result,) = revoke(system, [(people[0], AUDIO), (people[1], TEXT), (EVERYONE, VISION)])
    predicate = check(system, result).statement.predicate
    assert predicate.request.scope.kind == "several"
    assert len(predicate.subject_commitments) == 2


def test_every_live_line_that_holds_the_channel_gets_its_own_certificate(check, system, cohort, people, recipe):
    train_line(system, cohort, recipe, line="second", seed=1)
    only_text = cohort.restrict([TEXT])
    train_line(system, only_text, recipe, line="text-only", seed=1)
    results = revoke(system, [(people[0], AUDIO)])
    assert [result.line for result in results] == ["main", "second"]
    assert system.live("text-only").version == 1
    for result in results:
        check(system, result)


def test_a_certificate_of_one_deployment_is_worthless_under_the_trusted_root_of_another(system, people, tmp_path):
    (result,) = revoke(system, [(people[0], AUDIO)])
    with open_system(Settings(home=tmp_path / "other"), create=True) as other:
        root = other.trusted_root_path.read_bytes()
    with pytest.raises(VerificationError, match="key-unknown"):
        verify(result.bundle.read_bytes(), root, at=utc_now())


def test_a_person_can_be_shown_that_a_certificate_is_theirs(check, system, people):
    (result,) = revoke(system, [(people[0], AUDIO), (people[1], AUDIO)])
    with begin_snapshot(system.engine) as connection:
        openings = commitments.key_of(connection, result.certificate)
    named = check(system, result).statement.predicate.subject_commitments
    for n, person in enumerate(sorted(people[:2])):
        opening = openings[32 * n : 32 * n + 32]
        assert subject_commitment(opening, person) == named[n]
        assert subject_commitment(opening, "somebody else") != named[n]


def test_scope_subject_is_said_only_of_all_that_there_was(check, tmp_path, cohort, people, recipe):
    """A person with text and face, asked to lose voice and text, keeps a face: that is not everything."""
    silent = tuple(
        None if row.subject == people[0] else feature
        for row, feature in zip(cohort.rows, cohort.features[AUDIO], strict=True)
    )
    rows = dataclasses.replace(cohort, features={**cohort.features, AUDIO: silent}).restrict(list(Modality))
    with open_system(Settings(home=tmp_path / "home"), create=True) as system:
        train_line(system, rows, recipe, line="main", seed=0)
        (result,) = revoke(system, [(people[0], TEXT)])
        assert check(system, result).statement.predicate.request.scope.kind == "subject-modality"
        (result,) = revoke(system, [(people[0], VISION)])
        assert check(system, result).statement.predicate.request.scope.kind == "subject"
