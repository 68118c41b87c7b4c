"""Readings as a table: one that becomes a cohort, whole, whatever clips are called."""

from dataclasses import replace

import pytest

from mbd.clips.pipeline import read_clips
from mbd.clips.table import class_names, write_table
from mbd.cohort.cohort import Task
from mbd.cohort.importers.table import Source, table
from mbd.cohort.modality import Modality
from mbd.errors import ClipError

TEXT, AUDIO, VISION = Modality


def cohort_of(folder, files):
    sources = {m: Source(path) for m, path in files.items()}
    if TEXT in files:
        sources[TEXT] = Source(files[TEXT], derived_from=(AUDIO,), consent="follows")
    task = Task("regression", low=-3, high=3)
    return table(folder / "index.csv", sources, task=task, name="clips", description=".")


def nobody():
    return lambda _subject, _modality: False


def test_a_table_of_readings_is_a_cohort_in_which_text_falls_with_the_voice(clips, stages, tmp_path):
    readings = read_clips(clips, stages, tmp_path / "out", withheld=nobody)
    cohort = cohort_of(tmp_path / "table", write_table(clips, readings, tmp_path / "table"))
    assert cohort.presence.tolist() == [[True] * 3] * 3 + [[False, False, True]]
    assert cohort.closure({("ann", AUDIO)}) == {("ann", AUDIO), ("ann", TEXT)}
    assert cohort.features[AUDIO][1].tolist() == pytest.approx(list(readings[1].features[AUDIO]))


def test_clips_of_which_nothing_is_left_have_no_row_and_no_name_is_special(clips, tmp_path, make_reading):
    names = ["file", "allow_pickle", "a.npy", "a", "/", "__metadata__"]
    named = [replace(clips[0], clip=name) for name in names]
    readings = [make_reading(clip, features={VISION: (float(n), 1.0)}) for n, clip in enumerate(named)]
    gone = replace(clips[0], clip="gone")
    write_table(clips[:1], [make_reading(clips[0], features={TEXT: (1.0,), VISION: (1.0,)})], tmp_path)
    files = write_table([*named, gone], [*readings, make_reading(gone, features={})], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.csv", "vision.npy"]
    cohort = cohort_of(tmp_path, files)
    assert [row.clip for row in cohort.rows] == names
    assert [feature.tolist() for feature in cohort.features[VISION]] == [[n, 1.0] for n in range(6)]


def test_a_table_that_was_not_finished_has_no_index(clips, monkeypatch, tmp_path, make_reading):
    readings = [make_reading(clips[0], features={VISION: (1.0,)})]
    write_table(clips[:1], readings, tmp_path)

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(write_table.__globals__, "write_durably", full)
    with pytest.raises(OSError, match="No space"):
        write_table(clips[:1], readings, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_a_cohort_is_refused(clips, tmp_path, make_reading):
    one, other = make_reading(clips[0], features={TEXT: (1.0,)}), make_reading(clips[1], features={TEXT: (1.0, 2.0)})
    for listed, readings, message in (
        ([replace(clips[0], place={})], [one], "1 clips have no label, partition, split, such as 'a'"),
        (clips[:1], [make_reading(clips[0], features={})], "No features"),
        (clips[:2], [one, other], "made 1 and 2 numbers of text"),
        (clips[:1], [replace(one, people=("ann", "ben"))], "The file of clip 'a' shows 2 people"),
    ):
        with pytest.raises(ClipError, match=message):
            write_table(listed, readings, tmp_path / "table")
    assert not (tmp_path / "table").exists()
    twice = [clips[0], replace(clips[0], clip="z")]
    assert set(write_table(twice, [one, replace(one, clip="z")], tmp_path / "table")) == {TEXT}


def test_labels_that_are_no_numbers_are_classes(clips, make_reading):
    def names(*labels):
        listed = [replace(clips[0], clip=str(n), place={"label": label}) for n, label in enumerate(labels)]
        gone = replace(clips[0], place={"label": "gone"})
        return class_names(
            [*listed, gone],
            [*(make_reading(clip, features={VISION: (1.0,)}) for clip in listed), make_reading(gone, features={})],
        )

    assert names("0.5", "-1") == []
    assert names("sad", "glad", "sad") == ["glad", "sad"]
    for label in ("so, sad", "sad "):
        with pytest.raises(ClipError, match=f"'{label}' names no class"):
            names("glad", label)
