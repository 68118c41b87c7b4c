"""What is refused, with what reason, and that nothing is left behind."""

import dataclasses
import shutil

import pytest

from mbd.cohort import folder
from mbd.cohort.cohort import EVERYONE, Partition
from mbd.cohort.modality import Modality
from mbd.errors import (
    CohortError,
    DeletionError,
    LedgerError,
    NothingToDeleteError,
    SettingsError,
    TrainingError,
    UnknownSubjectError,
)
from mbd.lattice.model import save_model
from mbd.records import requests
from mbd.records.database import begin_snapshot
from mbd.settings import Settings
from mbd.workflow import filing
from mbd.workflow.filing import channels_of, proof_bytes
from mbd.workflow.live import load_live_model
from mbd.workflow.revocation import resume, revoke
from mbd.workflow.system import open_system
from mbd.workflow.training import train_line

AUDIO, TEXT, VISION = Modality.AUDIO, Modality.TEXT, Modality.VISION


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


def test_another_noise_secret_than_the_committed_one_is_refused(system, home, people):
    (home / "keys" / "noise.secret").write_bytes(b"x" * 32)
    with open_system(Settings(home=home), create=False) as other, pytest.raises(LedgerError, match="noise secret"):
        revoke(other, [(people[0], AUDIO)])


@pytest.mark.parametrize("name", ["team/a", "my line", "../outside", "", ".hidden", "x" * 65])
def test_a_line_name_that_is_no_folder_name_is_refused(system, cohort, recipe, name):
    with pytest.raises(SettingsError, match="cannot name a model line"):
        train_line(system, cohort, recipe, line=name, seed=0)


def test_nobody_is_public_in_one_line_and_revocable_in_another(system, cohort, people, recipe):
    rows = tuple(
        dataclasses.replace(row, partition=Partition.PUBLIC) if row.subject == people[0] else row for row in cohort.rows
    )
    with pytest.raises(CohortError, match="1 people are public"):
        train_line(system, dataclasses.replace(cohort, rows=rows), recipe, line="second", seed=0)


def test_duplicate_clips_are_refused_before_training(system, cohort, recipe):
    rows = (*cohort.rows[:-1], dataclasses.replace(cohort.rows[-1], clip=cohort.rows[-2].clip))
    with pytest.raises(CohortError, match="clip"):
        train_line(system, dataclasses.replace(cohort, rows=rows), recipe, line="second", seed=0)


def test_who_withdrew_a_channel_never_becomes_public(system, cohort, people, recipe):
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


@pytest.mark.parametrize("part", ["statistics.safetensors", "heads.safetensors", "constants.safetensors"])
def test_a_live_version_with_a_changed_file_is_refused_and_serves_once_it_is_restored(system, people, part):
    path = system.model_folder("main", 1) / part
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(TrainingError, match=f"not the one its model.json describes: {part}"):
        revoke(system, [(people[0], AUDIO)])
    assert system.live("main").version == 1
    assert system.suppressed()(people[0], AUDIO)
    path.write_bytes(content)
    (result,) = resume(system)
    assert result.version == 2


def test_a_sound_model_folder_that_is_not_the_registered_one_is_refused(system, people):
    model = load_live_model(system, system.live("main"))
    where = system.model_folder("main", 1)
    shutil.rmtree(where)
    save_model(dataclasses.replace(model, salt=b"x" * 32), where, cohort_root=system.live("main").cohort)
    with pytest.raises(TrainingError, match="not those of main version 1 as it was registered"):
        load_live_model(system, system.live("main"))
    with pytest.raises(TrainingError, match="not those of main version 1"):
        revoke(system, [(people[0], AUDIO)])
    assert system.live("main").version == 1


def test_a_request_too_large_for_one_certificate_is_refused_before_it_is_filed(system, people, monkeypatch):
    leaves = int(folder.read(system.cohort_folder("main", 1)).presence.sum())
    (one,) = revoke(system, [(people[0], AUDIO)])
    (four,) = revoke(system, [(person, AUDIO) for person in people[1:5]])
    growth = len(four.bundle.read_bytes()) - len(one.bundle.read_bytes())
    assert growth <= 3 * proof_bytes(leaves)  # three people more, a proof each
    monkeypatch.setattr(filing, "MAX_BYTES", int(2 * 4 * 3 * proof_bytes(leaves)))
    with pytest.raises(DeletionError, match="5 people would make a certificate larger") as refused:
        revoke(system, [(person, Modality.TEXT) for person in people[:5]])
    assert "--file" in refused.value.remedy
    with begin_snapshot(system.engine) as connection:
        assert requests.unfinished(connection) == ()
    assert not system.suppressed()(people[0], Modality.TEXT)
    assert revoke(system, [(person, Modality.TEXT) for person in people[:4]])
