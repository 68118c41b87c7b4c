import numpy as np
import pytest

from mbd.cohort.cohort import Partition, Split
from mbd.cohort.importers.ravdess import ACTORS, ravdess, ravdess_fold
from mbd.cohort.modality import Modality
from mbd.errors import CohortError


@pytest.fixture(scope="module")
def folder(real_data):
    return real_data("ravdess")


@pytest.fixture(scope="module")
def cohort(folder):
    return ravdess(folder, **ravdess_fold(seed=0, fold=0))


@pytest.mark.real_data
def test_the_clips_are_there_with_voice_and_face(cohort):
    assert len(cohort) == 1440
    assert cohort.modalities == (Modality.AUDIO, Modality.VISION)
    assert [cohort.channels[m].dim for m in cohort.modalities] == [768, 35]
    assert cohort.targets.shape == (1440, 8)
    assert cohort.targets.sum(axis=0).tolist() == [96, 192, 192, 192, 192, 192, 192, 192]


@pytest.mark.real_data
def test_clips_without_sound_have_no_voice(cohort, folder):
    silent = np.isnan(np.load(folder / "ravdess_features.npz")["whisper_tiny_en_enc768"]).any(axis=1)
    assert silent.sum() == 16
    assert cohort.presence[:, 0].tolist() == (~silent).tolist()
    assert cohort.presence[:, 1].all()


@pytest.mark.real_data
def test_each_actor_has_one_place(cohort):
    fold = ravdess_fold(seed=0, fold=0)
    actors = {
        (p, s): {int(name.removeprefix("actor-")) for name in cohort.where(partition=p, split=s).subjects}
        for p in Partition
        for s in Split
    }
    assert actors[Partition.REVOCABLE, Split.TEST] == set(fold["test_actors"])
    assert actors[Partition.PUBLIC, Split.VALID] == set(fold["valid_actors"])
    assert actors[Partition.PUBLIC, Split.TRAIN] == set(fold["public_actors"])
    assert len(actors[Partition.REVOCABLE, Split.TRAIN]) == 12


@pytest.mark.real_data
def test_actors_with_two_places_or_none_are_refused(folder):
    with pytest.raises(CohortError, match="overlap"):
        ravdess(folder, test_actors=(1, 2), valid_actors=(2,), public_actors=(3,))
    with pytest.raises(CohortError, match="do not exist"):
        ravdess(folder, test_actors=(1, 25), valid_actors=(2,), public_actors=(3,))


def test_the_six_folds_test_every_actor_once():
    folds = [ravdess_fold(seed=5, fold=fold) for fold in range(6)]
    assert sorted(actor for fold in folds for actor in fold["test_actors"]) == list(ACTORS)
    for fold in folds:
        named = [*fold["test_actors"], *fold["valid_actors"], *fold["public_actors"]]
        assert len(named) == len(set(named)) == 12
    assert ravdess_fold(seed=5, fold=0) == folds[0] != ravdess_fold(seed=6, fold=0)


@pytest.mark.parametrize("arguments", [{"fold": 6}, {"fold": -1}, {"fold": 0, "folds": 5}, {"fold": 0, "public": 18}])
def test_a_fold_that_leaves_nobody_revocable_or_does_not_exist_is_refused(arguments):
    with pytest.raises(CohortError, match="does not split 24 actors"):
        ravdess_fold(seed=0, **arguments)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("b,25,happy,True", "row 1 (clip 'b'): there is no actor 25."),
        ("b,4,merry,True", "row 1 (clip 'b'): the label 'merry' is unknown."),
        ("c,4,happy,True", "ravdess.csv and the features list different clips."),
    ],
)
def test_a_table_that_was_tampered_with_is_refused(tmp_path, line, message):
    (tmp_path / "ravdess.csv").write_text(f"id,actor,emotion,has_wav\na,3,sad,True\n{line}\n")
    arrays = {"au35": np.zeros((2, 35), np.float32), "whisper_tiny_en_enc768": np.zeros((2, 768), np.float16)}
    np.savez(tmp_path / "ravdess_features.npz", id=["a", "b"], **arrays)
    with pytest.raises(CohortError) as caught:
        ravdess(tmp_path, test_actors=(1,), valid_actors=(2,), public_actors=(3,))
    assert str(caught.value).startswith(message)


def test_a_folder_without_the_files_is_refused(tmp_path):
    with pytest.raises(CohortError, match="cannot be read"):
        ravdess(tmp_path, **ravdess_fold(seed=0, fold=0))
