import shutil
from collections import Counter

import numpy as np
import pytest

from mbd.cohort.cohort import EVERYONE, Partition, Split
from mbd.cohort.importers.mosi import WORDLEVEL_FOLDS, mosi, mosi_wordlevel
from mbd.cohort.modality import Modality
from mbd.errors import CohortError


@pytest.fixture(scope="module")
def folder(real_data):
    return real_data("mosi")


@pytest.fixture(scope="module")
def cohort(folder):
    return mosi(folder)


@pytest.mark.real_data
def test_the_whole_set_is_there_by_the_official_split(cohort):
    assert not cohort.synthetic
    assert len(cohort) == 2199
    videos = {(p, s): len(cohort.where(partition=p, split=s).subjects) for p in Partition for s in Split}
    assert videos[Partition.PUBLIC, Split.TRAIN] == 20
    assert videos[Partition.REVOCABLE, Split.TRAIN] == 32
    assert videos[Partition.PUBLIC, Split.VALID] == 10
    assert videos[Partition.REVOCABLE, Split.TEST] == 31
    assert [len(cohort.where(split=s)) for s in Split] == [1284, 229, 686]
    assert cohort.presence.all()
    assert (cohort.channels[Modality.TEXT].dim, cohort.channels[Modality.AUDIO].dim) == (388, 73)
    assert Modality.VISION not in cohort.channels


@pytest.mark.real_data
def test_a_clip_has_its_own_label_and_features(cohort, folder):
    arrays = np.load(folder / "mosi_features.npz")
    (i,) = [i for i, row in enumerate(cohort.rows) if row.clip == "03bSnISJMiM_11"]
    k = arrays["id"].tolist().index("03bSnISJMiM_11")
    assert cohort.rows[i].label == -0.5
    assert np.array_equal(cohort.feature(i, Modality.AUDIO), arrays["audio_covarep73"][k])
    assert np.array_equal(cohort.feature(i, Modality.TEXT)[:384], arrays["text_minilm384"][k])
    assert np.array_equal(cohort.feature(i, Modality.TEXT)[384:], arrays["text_vader4"][k])


@pytest.mark.real_data
def test_the_seed_draws_the_public_videos(folder, cohort, same):
    def public(cohort):
        return set(cohort.where(partition=Partition.PUBLIC, split=Split.TRAIN).subjects)

    assert same(mosi(folder), cohort)
    assert public(mosi(folder, seed=1)) != public(cohort)
    assert len(public(mosi(folder, public_subjects=5))) == 5


@pytest.mark.real_data
def test_the_transcript_stays_when_the_voice_goes_and_the_cohort_says_so(cohort):
    assert "consented to independently" in cohort.description
    after = cohort.revoke([(EVERYONE, Modality.AUDIO)])
    assert len(after) == len(cohort)
    assert after.where(partition=Partition.REVOCABLE).presence.tolist() == [[True, False]] * 1382


@pytest.mark.real_data
def test_features_fitted_to_labels_are_refused_whatever_their_name(folder, tmp_path):
    supervised = folder / "mosi_supervised_features_DO_NOT_UNLEARN_ON.npz"
    with pytest.raises(CohortError, match="fitted to the labels"):
        mosi(supervised)
    shutil.copy(supervised, tmp_path / "mosi_features.npz")
    with pytest.raises(CohortError, match="fitted to the labels"):
        mosi(tmp_path)


@pytest.mark.real_data
def test_word_level_clips_are_sequences_of_three_modalities(folder):
    cohort = mosi_wordlevel(folder)
    assert len(cohort) == 229
    assert cohort.presence.all()
    assert [cohort.channels[m].kind for m in Modality] == ["vector", "sequence", "sequence"]
    assert len(cohort.where(partition=Partition.PUBLIC, split=Split.VALID).subjects) == 1
    assert len(cohort.where(partition=Partition.PUBLIC, split=Split.TRAIN).subjects) == 3
    assert len(cohort.where(partition=Partition.REVOCABLE).subjects) == 6


@pytest.mark.real_data
def test_word_level_clips_have_the_labels_and_lengths_of_their_own_file(folder):
    cohort = mosi_wordlevel(folder)
    words = np.load(folder / "mosi_valid229_wordlevel.npz")
    assert np.allclose(cohort.targets[:, 0], words["sentiment"], atol=1e-6)
    assert [len(x) for x in cohort.features[Modality.VISION]] == np.diff(words["offsets"]).tolist()
    assert np.array_equal(cohort.feature(228, Modality.AUDIO), words["covarep74"][words["offsets"][228] :])


@pytest.mark.real_data
def test_every_word_level_video_is_tested_in_one_of_five_folds(folder):
    folds = [mosi_wordlevel(folder, seed=3, fold=fold) for fold in range(WORDLEVEL_FOLDS)]
    tested = [video for cohort in folds for video in cohort.where(split=Split.TEST).subjects]
    assert len(tested) == len(set(tested)) == 10
    for cohort in folds:
        places = Counter({row.subject: (row.partition, row.split) for row in cohort.rows}.values())
        assert sorted(places.values()) == [1, 2, 3, 4]
    with pytest.raises(CohortError, match="no fold 5"):
        mosi_wordlevel(folder, fold=5)


@pytest.mark.real_data
def test_word_level_features_say_that_they_were_standardised_together(folder):
    assert "standardised over all ten videos" in mosi_wordlevel(folder).description


def test_a_folder_without_the_files_is_refused(tmp_path):
    with pytest.raises(CohortError, match="cannot be read"):
        mosi(tmp_path)


@pytest.mark.parametrize(
    ("line", "ids", "message"),
    [
        ("v2_1,v2,0.5,dev", ("v1_1", "v2_1"), "row 1 (clip 'v2_1'): 'dev' is not a valid Split."),
        ("v2_1,v2,good,valid", ("v1_1", "v2_1"), "row 1 (clip 'v2_1'): could not convert string to float: 'good'."),
        ("v2_1,v2,7,valid", ("v1_1", "v2_1"), "row 1 (clip 'v2_1'): the label 7.0 is not a number in [-3, 3]."),
        ("v1_1,v1,0.5,train", ("v1_1", "v1_1"), "row 1 (clip 'v1_1'): the clip id stands already in row 0."),
        ("v2_1,v2,0.5,valid", ("v2_1", "v1_1"), "mosi.csv and the features list different clips."),
    ],
)
def test_a_table_that_was_tampered_with_is_refused(tmp_path, line, ids, message):
    (tmp_path / "mosi.csv").write_text(f"id,video_id,sentiment,split_official\nv1_1,v1,1.0,train\n{line}\n")
    arrays = {"text_minilm384": np.zeros((2, 384)), "text_vader4": np.zeros((2, 4))}
    np.savez(tmp_path / "mosi_features.npz", id=list(ids), audio_covarep73=np.zeros((2, 73), np.float32), **arrays)
    with pytest.raises(CohortError) as caught:
        mosi(tmp_path, public_subjects=1)
    assert str(caught.value).startswith(message)


def test_features_of_another_data_set_are_refused(tmp_path):
    np.savez(tmp_path / "mosi_features.npz", id=["v1_1"])
    with pytest.raises(CohortError, match="has no text_minilm384, text_vader4, audio_covarep73"):
        mosi(tmp_path)
