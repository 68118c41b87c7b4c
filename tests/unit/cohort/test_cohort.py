from dataclasses import replace

import numpy as np
import pytest

from mbd.cohort.cohort import Partition, Split, Task
from mbd.cohort.modality import Modality, pattern_name
from mbd.errors import CohortError, RowError


def test_patterns_are_the_subsets_of_the_channels_that_exist(small):
    assert small.modalities == (Modality.TEXT, Modality.AUDIO)
    assert [pattern_name(p) for p in small.patterns] == ["t", "a", "ta"]


def test_presence_is_what_each_row_has(small):
    dan = [row.subject for row in small.rows].index("dan")
    assert small.present(dan) == {Modality.TEXT}
    assert small.presence.shape == (15, 2)
    assert small.presence[:, 0].all()
    assert small.presence[:, 1].sum() == 12


def test_an_absent_channel_has_no_features_to_read(small):
    with pytest.raises(RowError, match=r"row 9 \(clip 'dan-0'\): it has no audio"):
        small.feature(9, Modality.AUDIO)
    with pytest.raises(RowError, match="no vision"):
        small.feature(0, Modality.VISION)


def test_scores_are_one_column_and_classes_are_one_hot(small):
    assert small.targets.tolist() == [[row.label] for row in small.rows]
    names = ("sad", "glad")
    rows = tuple(replace(row, label=names[i % 2]) for i, row in enumerate(small.rows))
    classified = replace(small, task=Task("classification", classes=names), rows=rows)
    assert classified.targets[:2].tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert classified.targets.shape == (15, classified.task.outputs)


def test_where_takes_rows_that_match_everything_given(small):
    chosen = small.where(partition=Partition.REVOCABLE, split=Split.TRAIN)
    assert chosen.subjects == ("cem", "dan")
    assert len(small.where(subject="eve")) == 3
    assert len(small.where(partition=Partition.PUBLIC, split=Split.TEST)) == 0


def test_the_rows_of_some_people_are_theirs_in_order_and_a_stranger_has_none(small):
    someone, other = small.subjects[1], small.subjects[0]
    theirs = small.of_subjects([someone, other, "nobody"])
    assert theirs.rows == tuple(row for row in small.rows if row.subject in {someone, other})
    assert [theirs.present(i) for i in range(len(theirs))] == [
        small.present(i) for i, row in enumerate(small.rows) if row.subject in {someone, other}
    ]
    assert len(small.of_subjects(["nobody"])) == 0
    assert sorted(i for mine in small.rows_of.values() for i in mine) == list(range(len(small)))


def test_an_empty_selection_still_has_shapes(small):
    nobody = small.select([])
    assert nobody.presence.shape == (0, 2)
    assert nobody.targets.shape == (0, 1)


def test_restrict_keeps_the_named_channels_and_drops_rows_without_them(small):
    voices = small.restrict({Modality.AUDIO, Modality.VISION})
    assert voices.modalities == (Modality.AUDIO,)
    assert "dan" not in voices.subjects
    assert len(voices) == 12


def test_selection_shares_rows_with_the_cohort_and_changes_nothing(small, same):
    before = replace(small)
    picked = small.select(np.array([3, 1]))
    assert [row.clip for row in picked.rows] == ["bob-0", "ann-1"]
    assert same(small, before)


def test_features_that_do_not_match_the_rows_are_refused(small):
    with pytest.raises(CohortError, match="do not match its 15 rows"):
        replace(small, features={**small.features, Modality.TEXT: small.features[Modality.TEXT][:3]})
    with pytest.raises(CohortError, match="do not match"):
        replace(small, channels={Modality.TEXT: small.channels[Modality.TEXT]})


def test_the_clip_before_is_the_next_smaller_number_of_the_same_recording(small):
    names = ["b_2", "a_3", "a_1", "solo", "a_10", "a_2x", "c_4"]
    whose = ["ann", "ann", "ann", "ann", "ann", "ann", "eve"]
    rows = tuple(replace(small.rows[0], clip=clip, subject=who) for clip, who in zip(names, whose, strict=True))
    cohort = replace(small.select(range(7)), rows=rows)
    assert cohort.before == (None, 2, None, None, 1, None, None)
