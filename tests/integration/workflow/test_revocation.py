"""One revocation after another on a real deployment: what changes, what is refused, what stays provable."""

import numpy as np
import pytest

from certs.errors import VerificationError
from certs.statement import Certified, Exact
from certs.verification import verify
from mbd.cohort import folder
from mbd.cohort.cohort import EVERYONE
from mbd.cohort.modality import Modality
from mbd.errors import (
    ChannelSuppressedError,
    CohortError,
    DeletionError,
    LedgerError,
    MbdError,
    NothingToDeleteError,
    SettingsError,
    UnknownSubjectError,
)
from mbd.lattice.model import load_model
from mbd.records import certificates, commitments, fsck, models, requests
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.exposure import live_descendants_of_revoked, models_exposed_to
from mbd.records.suppression import Channel
from mbd.settings import Settings
from mbd.workflow.evaluation import metrics_by_pattern, predict_rows
from mbd.workflow.filing import channels_of
from mbd.workflow.log import sign_checkpoint
from mbd.workflow.revocation import resume, revoke
from mbd.workflow.system import open_system, utc_now
from mbd.workflow.training import train_line

AUDIO, TEXT, VISION = Modality.AUDIO, Modality.TEXT, Modality.VISION


def check(system, result, **more):
    return verify(result.bundle.read_bytes(), system.trusted_root_path.read_bytes(), at=utc_now(), **more)


def noise_commitment(system):
    return (system.home / "published" / "noise-commitment.sigstore.json").read_bytes()


def test_one_voice_is_withdrawn_certified_and_verified(system, cohort, people):
    (result,) = revoke(system, [(people[0], AUDIO)])
    artifacts = {path.name: path for path in system.model_folder("main", 2).iterdir()}
    from mbd.hashing import file_digest

    verified = check(
        system,
        result,
        artifacts={name: file_digest(path) for name, path in artifacts.items()},
        noise_commitment=noise_commitment(system),
    )
    predicate = verified.statement.predicate
    assert [step.result for step in verified.steps] == [
        *["passed"] * 3,
        "not present",
        "passed",
        "not present",
        *["passed"] * 2,
    ]
    assert predicate.request.scope.kind == "subject-modality"
    assert isinstance(predicate.guarantee, Certified)
    assert {head.head for head in predicate.procedure.updated} == {"a", "ta", "av", "tav"}
    assert predicate.lineage.version == system.live("main").version == 2


def test_the_person_is_nowhere_in_a_certificate(system, people):
    (result,) = revoke(system, [(people[0], AUDIO)])
    statement = check(system, result).statement.canonical()
    for secret in (people[0].encode(), system.keyring.subject_key(people[0]).encode()):
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


def test_five_voices_one_after_the_other_compose_their_budget(system, cohort, people):
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
        seen = models_exposed_to(connection, Channel(system.keyring.subject_key(people[4]), "audio"))
        assert [version.version for version in seen] == [1, 2, 3, 4, 5]
        assert {version.ended_by.version for version in seen} == {6}
        report = fsck.fsck(connection, verify_note=system.keyring.read_checkpoint)
    assert report.ok
    assert report.head.size == 6  # the noise commitment and five certificates


def test_an_earlier_certificate_stays_valid_after_later_ones(system, people):
    (first,) = revoke(system, [(people[0], AUDIO)])
    revoke(system, [(people[1], TEXT)])
    assert check(system, first).tree_size == 2


def test_then_voice_is_withdrawn_for_everyone_and_the_other_heads_answer_at_once(system, cohort, people):
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


def test_somebody_of_the_test_split_gets_an_exact_certificate(system, tester):
    (result,) = revoke(system, [(tester, AUDIO)])
    predicate = check(system, result).statement.predicate
    assert isinstance(predicate.guarantee, Exact)
    assert predicate.statistics.untouched == ("audio",)


def test_everything_of_a_person(system, people):
    assert channels_of(system, people[0]) == (TEXT, AUDIO, VISION)
    (result,) = revoke(system, [(people[0], m) for m in channels_of(system, people[0])])
    assert check(system, result).statement.predicate.request.scope.kind == "subject"
    with pytest.raises(UnknownSubjectError):
        channels_of(system, people[0])
    assert people[0] not in folder.read(system.cohort_folder("main", 2)).subjects


def test_several_people_and_modalities_in_one_certificate(system, people):
    (result,) = revoke(system, [(people[0], AUDIO), (people[1], TEXT), (EVERYONE, VISION)])
    predicate = check(system, result).statement.predicate
    assert predicate.request.scope.kind == "several"
    assert len(predicate.subject_commitments) == 2


def test_every_live_line_that_holds_the_channel_gets_its_own_certificate(system, cohort, people, recipe):
    train_line(system, cohort, recipe, line="second", seed=1)
    only_text = cohort.restrict([TEXT])
    train_line(system, only_text, recipe, line="text-only", seed=1)
    results = revoke(system, [(people[0], AUDIO)])
    assert [result.line for result in results] == ["main", "second"]
    assert system.live("text-only").version == 1
    for result in results:
        check(system, result)


@pytest.mark.parametrize(
    ("pairs", "error", "match"),
    [
        ([("nobody", AUDIO)], UnknownSubjectError, "no revocable subject 'nobody'"),
        ([("synthetic-001", AUDIO)], UnknownSubjectError, "public partition"),
    ],
)
def test_a_request_that_names_nobody_is_refused_and_leaves_nothing(system, pairs, error, match):
    with pytest.raises(error, match=match):
        revoke(system, pairs)
    with begin_snapshot(system.engine) as connection:
        assert requests.unfinished(connection) == ()
    assert system.live("main").version == 1


def test_withdrawing_twice_is_refused_and_says_why(system, people):
    revoke(system, [(people[0], AUDIO)])
    with pytest.raises(NothingToDeleteError, match="earlier revocation"):
        revoke(system, [(people[0], AUDIO)])
    assert system.live("main").version == 2


def test_the_last_modality_of_everyone_is_refused_before_anything_is_filed(system):
    revoke(system, [(EVERYONE, AUDIO)])
    revoke(system, [(EVERYONE, VISION)])
    with pytest.raises(DeletionError, match="without a single channel"):
        revoke(system, [(EVERYONE, TEXT)])
    with begin_snapshot(system.engine) as connection:
        assert requests.unfinished(connection) == ()
    assert not system.suppressed()("anybody", TEXT)


def test_only_one_process_changes_a_deployment_at_a_time(system, people):
    with system.exclusive(), pytest.raises(SettingsError, match="Another command"):
        revoke(system, [(people[0], AUDIO)])
    assert len(revoke(system, [(people[0], AUDIO)])) == 1


def test_a_restored_old_database_refuses_to_sign_or_delete(system, home, people):
    import shutil

    revoke(system, [(people[0], AUDIO)])
    system.engine.dispose()
    shutil.copy(home / "mbd.sqlite3", home / "backup")
    revoke(system, [(people[1], AUDIO)])
    system.engine.dispose()
    for leftover in home.glob("mbd.sqlite3*"):
        leftover.unlink()
    shutil.copy(home / "backup", home / "mbd.sqlite3")
    with pytest.raises(LedgerError):
        sign_checkpoint(system)
    with pytest.raises(LedgerError):
        revoke(system, [(people[2], AUDIO)])
    with begin_snapshot(system.engine) as connection:
        assert len(certificates.all_certificates(connection)) == 1


def test_another_noise_secret_than_the_committed_one_is_refused(system, home, people):
    (home / "keys" / "noise.secret").write_bytes(b"x" * 32)
    with open_system(Settings(home=home), create=False) as other, pytest.raises(LedgerError, match="noise secret"):
        revoke(other, [(people[0], AUDIO)])


def test_a_certificate_of_one_deployment_is_worthless_under_the_trusted_root_of_another(system, people, tmp_path):
    (result,) = revoke(system, [(people[0], AUDIO)])
    with open_system(Settings(home=tmp_path / "other"), create=True) as other:
        root = other.trusted_root_path.read_bytes()
    with pytest.raises(VerificationError, match="key-unknown"):
        verify(result.bundle.read_bytes(), root, at=utc_now())


def test_a_failed_deletion_keeps_the_channel_suppressed_and_is_finished_by_resume(system, people, monkeypatch):
    from mbd.deletion import lattice

    def broken(*args, **kwargs):
        raise DeletionError("planted", remedy="none")

    with monkeypatch.context() as patch:
        patch.setattr(lattice, "delete", broken)
        with pytest.raises(DeletionError, match="planted"):
            revoke(system, [(people[0], AUDIO)])
    assert system.suppressed()(people[0], AUDIO)
    with begin_snapshot(system.engine) as connection:
        assert len(live_descendants_of_revoked(connection)) == 1
    (result,) = resume(system)
    check(system, result)
    with begin_locked(system.engine) as connection:
        assert live_descendants_of_revoked(connection) == ()
        assert requests.unfinished(connection) == ()
        assert models.mu_series(connection, "main")


def test_a_person_can_be_shown_that_a_certificate_is_theirs(system, people):
    from certs.commitment import subject_commitment

    (result,) = revoke(system, [(people[0], AUDIO), (people[1], AUDIO)])
    with begin_snapshot(system.engine) as connection:
        openings = commitments.key_of(connection, result.certificate)
    named = check(system, result).statement.predicate.subject_commitments
    for n, person in enumerate(sorted(people[:2])):
        opening = openings[32 * n : 32 * n + 32]
        assert subject_commitment(opening, person) == named[n]
        assert subject_commitment(opening, "somebody else") != named[n]


def test_what_falls_with_a_channel_is_suppressed_with_it(tmp_path, cohort, people, recipe):
    """A transcript that follows the voice is refused later even where it is declared to stand on its own."""
    import dataclasses

    text = dataclasses.replace(cohort.channels[TEXT], derived_from=(AUDIO,), consent="follows")
    following = dataclasses.replace(cohort, channels={**cohort.channels, TEXT: text})
    with open_system(Settings(home=tmp_path / "home"), create=True) as system:
        train_line(system, following, recipe, line="main", seed=0)
        (result,) = revoke(system, [(people[0], AUDIO)])
        predicate = check(system, result).statement.predicate
        assert {proof.modality for proof in predicate.dataset.absence} == {"audio", "text"}
        assert system.suppressed()(people[0], TEXT)
        assert not system.suppressed()(people[0], VISION)
        with pytest.raises(ChannelSuppressedError):
            train_line(system, cohort, recipe, line="again", seed=0)


def test_the_files_of_an_earlier_version_are_not_taken_for_the_live_one(system, home, people):
    """The remedy "restore from a backup" must not bring a withdrawn voice back."""
    import shutil

    shutil.copytree(system.version_folder("main", 1), home / "old")
    revoke(system, [(people[0], AUDIO)])
    for part in ("model", "cohort"):
        shutil.move(system.version_folder("main", 2) / part, home / f"right-{part}")
        shutil.copytree(home / "old" / part, system.version_folder("main", 2) / part)
        with pytest.raises(MbdError, match=r"registered"):
            revoke(system, [(people[1], AUDIO)])
        assert system.live("main").version == 2
        shutil.rmtree(system.version_folder("main", 2) / part)
        shutil.move(home / f"right-{part}", system.version_folder("main", 2) / part)
    (result,) = resume(system)[:1]
    check(system, result)


def test_a_restored_database_cannot_be_opened_for_training(system, home, people, cohort):
    import shutil

    system.engine.dispose()
    shutil.copy(home / "mbd.sqlite3", home / "backup")
    revoke(system, [(people[0], AUDIO)])
    system.engine.dispose()
    for leftover in home.glob("mbd.sqlite3*"):
        leftover.unlink()
    shutil.copy(home / "backup", home / "mbd.sqlite3")
    with pytest.raises(LedgerError), open_system(Settings(home=home), create=False):
        pass
    with open_system(Settings(home=home), create=False, inspect=True):
        pass


@pytest.mark.parametrize("name", ["team/a", "my line", "../outside", "", ".hidden", "x" * 65])
def test_a_line_name_that_is_no_folder_name_is_refused(system, cohort, recipe, name):
    with pytest.raises(SettingsError, match="cannot name a model line"):
        train_line(system, cohort, recipe, line=name, seed=0)


def test_nobody_is_public_in_one_line_and_revocable_in_another(system, cohort, people, recipe):
    import dataclasses

    from mbd.cohort.cohort import Partition

    rows = tuple(
        dataclasses.replace(row, partition=Partition.PUBLIC) if row.subject == people[0] else row for row in cohort.rows
    )
    with pytest.raises(CohortError, match="1 people are public"):
        train_line(system, dataclasses.replace(cohort, rows=rows), recipe, line="second", seed=0)


def test_duplicate_clips_are_refused_before_training(system, cohort, recipe):
    import dataclasses

    rows = (*cohort.rows[:-1], dataclasses.replace(cohort.rows[-1], clip=cohort.rows[-2].clip))
    with pytest.raises(CohortError, match="clip"):
        train_line(system, dataclasses.replace(cohort, rows=rows), recipe, line="second", seed=0)


def test_a_request_that_fails_neither_hides_nor_stops_the_next_person(system, people, monkeypatch):
    from mbd.deletion import lattice

    honest = lattice.delete

    def broken(model, cohort, revocation, **kwargs):
        if (people[0], AUDIO) in revocation.pairs:
            raise DeletionError("planted", remedy="none")
        return honest(model, cohort, revocation, **kwargs)

    monkeypatch.setattr(lattice, "delete", broken)
    with pytest.raises(DeletionError, match="planted"):
        revoke(system, [(people[0], AUDIO)])
    (result,) = revoke(system, [(people[1], AUDIO)])
    check(system, result)
    assert system.suppressed()(people[0], AUDIO)
    monkeypatch.undo()
    (late,) = resume(system)
    assert check(system, late).statement.predicate.lineage.version == 3


def test_a_clock_that_was_set_back_does_not_spoil_a_certificate(home, people):
    import itertools
    from datetime import timedelta

    ticks = itertools.count()
    with open_system(Settings(home=home), create=False) as system:
        import dataclasses

        wound_back = dataclasses.replace(system, clock=lambda: utc_now() - timedelta(seconds=next(ticks)))
        (result,) = revoke(wound_back, [(people[0], AUDIO)])
        check(system, result)


def test_a_statement_that_the_verifier_would_refuse_is_never_logged(system, people, monkeypatch):
    from certs.errors import CertificateError
    from mbd.workflow import claim

    monkeypatch.setattr(claim, "_untouched", lambda absent, outcome: ("vision",))
    with pytest.raises(CertificateError, match="untouched"):
        revoke(system, [(people[0], AUDIO)])
    with begin_snapshot(system.engine) as connection:
        assert fsck.fsck(connection).head.size == 1
    assert system.live("main").version == 1
    monkeypatch.undo()
    assert len(resume(system)) == 1


def test_text_that_follows_a_voice_whose_modality_everyone_dropped(tmp_path, cohort, tester, recipe):
    """Heads with text are gone already when a tester's voice, and the text with it, is withdrawn."""
    import dataclasses

    text = dataclasses.replace(cohort.channels[TEXT], derived_from=(AUDIO,), consent="follows")
    following = dataclasses.replace(cohort, channels={**cohort.channels, TEXT: text})
    with open_system(Settings(home=tmp_path / "home"), create=True) as system:
        train_line(system, following, recipe, line="main", seed=0)
        revoke(system, [(EVERYONE, TEXT)])
        (result,) = revoke(system, [(tester, AUDIO)])
        assert isinstance(check(system, result).statement.predicate.guarantee, Exact)


def test_scope_subject_is_said_only_of_all_that_there_was(tmp_path, cohort, people, recipe):
    """A person with text and face, asked to lose voice and text, keeps a face: that is not everything."""
    import dataclasses

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


def test_who_withdrew_a_channel_never_becomes_public(system, cohort, people, recipe):
    import dataclasses

    from mbd.cohort.cohort import Partition

    revoke(system, [(people[0], m) for m in channels_of(system, people[0])])
    rows = tuple(
        dataclasses.replace(row, partition=Partition.PUBLIC) for row in cohort.rows if row.subject == people[0]
    )
    kept = [i for i, row in enumerate(cohort.rows) if row.subject == people[0]]
    others = [i for i, row in enumerate(cohort.rows) if row.partition is Partition.PUBLIC]
    both = cohort.select([*others, *kept])
    rows = tuple(dataclasses.replace(row, partition=Partition.PUBLIC) for row in both.rows)
    public = dataclasses.replace(both, rows=rows)
    with pytest.raises(CohortError, match="have withdrawn a channel before"):
        train_line(system, public, recipe, line="second", seed=0, drop_channels=True)


def test_where_lines_differ_each_keeps_its_own_policy_on_derived_text(tmp_path, cohort, people, recipe):
    import dataclasses

    text = dataclasses.replace(cohort.channels[TEXT], derived_from=(AUDIO,), consent="follows")
    following = dataclasses.replace(cohort, channels={**cohort.channels, TEXT: text})
    with open_system(Settings(home=tmp_path / "home"), create=True) as system:
        train_line(system, following, recipe, line="follows", seed=0)
        train_line(system, cohort, recipe, line="independent", seed=0)
        results = revoke(system, [(people[0], AUDIO)])
        assert [r.line for r in results] == ["follows", "independent"]
        assert system.suppressed()(people[0], AUDIO)
        assert not system.suppressed()(people[0], TEXT)
        rows = {r.line: folder.read(system.cohort_folder(r.line, r.version)).where(subject=people[0]) for r in results}
        assert not any(TEXT in rows["follows"].present(i) for i in range(len(rows["follows"])))
        assert any(TEXT in rows["independent"].present(i) for i in range(len(rows["independent"])))


def test_a_line_that_fails_leaves_no_retired_features_of_one_that_succeeded(
    system, cohort, people, recipe, monkeypatch
):
    from mbd.deletion import lattice

    train_line(system, cohort, recipe, line="zweite", seed=1)
    honest = lattice.delete

    def broken(*args, occasion, **kwargs):
        if occasion.startswith("zweite"):
            raise RuntimeError("planted")
        return honest(*args, occasion=occasion, **kwargs)

    monkeypatch.setattr(lattice, "delete", broken)
    with pytest.raises(RuntimeError, match="planted"):
        revoke(system, [(people[0], AUDIO)])
    assert system.live("main").version == 2
    assert not system.version_folder("main", 1).exists()
    monkeypatch.undo()
    assert {result.line for result in resume(system)} == {"main", "zweite"}
