import os
import pickle

import numpy as np
import pytest

from mbd.cohort.cohort import Partition, Split
from mbd.cohort.importers.mmsa import mmsa
from mbd.cohort.modality import Modality
from mbd.errors import CohortError, RowError, UnsafePickleError

VIDEOS = {"train": ("a1", "a2", "a3"), "valid": ("b1",), "test": ("c1", "c2")}


def part(videos, rng, lengths):
    """Two clips a video; words, voice and face of 1 to 6 frames, zeros after them."""
    ids = [f"{video}$_${clip}" for video in videos for clip in range(2)]
    n, frames = len(ids), 6
    own = rng.integers(1, frames + 1, size=(3, n))
    inside = np.arange(frames) < own[:, :, None]
    values = {
        name: rng.normal(size=(n, frames, dim)).astype(np.float32) * inside[k][:, :, None]
        for k, (name, dim) in enumerate({"text": 8, "audio": 5, "vision": 4}.items())
    }
    content = {
        "id": ids,
        "raw_text": np.array(["words"] * n, dtype=object),
        "regression_labels": np.round(rng.uniform(-3, 3, size=n), 1),
        **values,
    }
    if lengths:
        content["audio_lengths"] = own[1].tolist()
        content["vision_lengths"] = own[2]
        content["text_bert"] = np.stack([np.ones((n, frames)), inside[0], np.zeros((n, frames))], axis=1)
    return content


@pytest.fixture
def content():
    rng = np.random.default_rng(0)
    return {split: part(videos, rng, lengths=True) for split, videos in VIDEOS.items()}


@pytest.fixture
def save(tmp_path):
    def to_file(content, protocol=4):
        path = tmp_path / "features.pkl"
        path.write_bytes(pickle.dumps(content, protocol=protocol))
        return path

    return to_file


def frames_of(content, split, name, i):
    padded = content[split][name][i]
    return padded[: int(np.flatnonzero(padded.any(axis=1))[-1]) + 1]


@pytest.mark.parametrize("lengths", [True, False])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_each_clip_keeps_its_frames_and_loses_its_padding(save, lengths, protocol):
    rng = np.random.default_rng(1)
    content = {split: part(videos, rng, lengths) for split, videos in VIDEOS.items()}
    cohort = mmsa(save(content, protocol), public_subjects=2)
    assert {m: (c.kind, c.dim) for m, c in cohort.channels.items()} == {
        "text": ("sequence", 8),
        "audio": ("sequence", 5),
        "vision": ("sequence", 4),
    }
    for split in VIDEOS:
        rows = cohort.where(split=Split(split))
        assert [row.clip for row in rows.rows] == content[split]["id"]
        assert np.array_equal(rows.targets[:, 0], content[split]["regression_labels"])
        for i in range(len(rows)):
            for m in Modality:
                assert np.array_equal(rows.feature(i, m), frames_of(content, split, m.value, i))


def test_valid_and_drawn_train_videos_are_public(save, content):
    cohort = mmsa(save(content), public_subjects=2, seed=3)
    assert cohort.where(partition=Partition.PUBLIC, split=Split.VALID).subjects == ("b1",)
    assert len(cohort.where(partition=Partition.PUBLIC, split=Split.TRAIN).subjects) == 2
    assert len(cohort.where(partition=Partition.REVOCABLE, split=Split.TRAIN).subjects) == 1
    assert cohort.where(partition=Partition.REVOCABLE, split=Split.TEST).subjects == ("c1", "c2")


def test_a_channel_of_zeros_alone_is_absent(save, content):
    content["test"]["vision"][1] = 0
    cohort = mmsa(save(content), public_subjects=2)
    assert cohort.where(split=Split.TEST).present(1) == {Modality.TEXT, Modality.AUDIO}


def test_infinity_is_refused_until_somebody_asks_for_zeros(save, content):
    content["train"]["audio"][2, 0, 1] = -np.inf
    with pytest.raises(RowError, match=r"row 2 \(clip 'a2\$_\$0'\): audio holds infinity"):
        mmsa(save(content), public_subjects=2)
    cohort = mmsa(save(content), public_subjects=2, non_finite_as_zero=True)
    assert cohort.feature(2, Modality.AUDIO)[0, 1] == 0


def test_a_video_in_two_splits_is_refused(save, content):
    content["test"]["id"][0] = "a1$_$9"
    with pytest.raises(RowError, match="subject 'a1' is in test here and in train"):
        mmsa(save(content), public_subjects=3)


def test_a_label_beyond_the_declared_score_is_refused(save, content):
    with pytest.raises(RowError, match=r"not a number in \[-1, 1\]"):
        mmsa(save(content), public_subjects=2, score=1.0)


def test_a_hostile_file_executes_nothing(save, content, tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'executed'}",)

    content["test"]["raw_text"][0] = Hostile()
    with pytest.raises(UnsafePickleError, match=r"features\.pkl asks for '.*\.system'"):
        mmsa(save(content), public_subjects=2)
    assert not (tmp_path / "executed").exists()


def _without(content, split, field):
    return {**content, split: {k: v for k, v in content[split].items() if k != field}}


def _with(content, split, **fields):
    return {**content, split: {**content[split], **fields}}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c: [c], "it holds a list"),
        (lambda c: {"train": c["train"], "test": 3}, "it has no valid and no test part"),
        (lambda c: _without(c, "valid", "audio"), "its valid part has KeyError: 'audio'"),
        (lambda c: _with(c, "train", regression_labels=[1.0]), "its train part has ValueError"),
        (lambda c: _with(c, "train", audio=np.zeros((6, 5))), "audio of shape [6, 5] for 6 clips"),
        (lambda c: _with(c, "train", audio_lengths=[7] * 6), "lengths of audio that do not fit"),
        (lambda c: _with(c, "train", audio_lengths=[1] * 5), "lengths of audio that do not fit"),
    ],
)
def test_another_layout_is_refused_with_what_is_missing(save, content, spoil, message):
    with pytest.raises(CohortError) as caught:
        mmsa(save(spoil(content)), public_subjects=2)
    assert "not an MMSA feature file" in str(caught.value)
    assert message in str(caught.value)


def test_more_public_subjects_than_there_are_is_refused(save, content):
    with pytest.raises(CohortError, match="4 public subjects cannot be drawn from 3"):
        mmsa(save(content), public_subjects=4)
