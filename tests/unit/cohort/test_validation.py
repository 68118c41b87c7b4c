"""Every input that cannot be a cohort, with the message that its owner reads."""

from dataclasses import replace

import numpy as np
import pytest

from mbd.cohort.cohort import Partition, Split, Task
from mbd.cohort.modality import Modality
from mbd.cohort.validation import validate
from mbd.errors import CohortError, RowError


def with_row(cohort, i, **changes):
    rows = list(cohort.rows)
    rows[i] = replace(rows[i], **changes)
    return replace(cohort, rows=tuple(rows))


def with_feature(cohort, i, modality, feature):
    column = list(cohort.features[modality])
    column[i] = feature
    return replace(cohort, features={**cohort.features, modality: tuple(column)})


def with_channel(cohort, of, **changes):
    channel = replace(cohort.channels[of], **changes)
    return replace(cohort, channels={**cohort.channels, of: channel})


def with_task(cohort, **changes):
    return replace(cohort, task=replace(cohort.task, **changes))


def without_channels(cohort):
    return replace(cohort, channels={}, features={})


TEXT, AUDIO = Modality.TEXT, Modality.AUDIO

NAN = np.array([0, np.nan, 0, 0], np.float32)
INFINITE = np.array([[0, 0], [0, -np.inf]], np.float32)

SPOILT_ROWS = {
    "nan": (
        lambda c: with_feature(c, 4, TEXT, NAN),
        "row 4 (clip 'bob-1'): text holds NaN at [1].",
    ),
    "infinity": (
        lambda c: with_feature(c, 4, AUDIO, INFINITE),
        "row 4 (clip 'bob-1'): audio holds infinity at [1, 1].",
    ),
    "a vector of another length": (
        lambda c: with_feature(c, 2, TEXT, np.zeros(5, np.float32)),
        "row 2 (clip 'ann-2'): text has shape [5], not [4].",
    ),
    "a sequence where a vector belongs": (
        lambda c: with_feature(c, 2, TEXT, np.zeros((2, 4), np.float32)),
        "row 2 (clip 'ann-2'): text has shape [2, 4], not [4].",
    ),
    "frames of another length": (
        lambda c: with_feature(c, 2, AUDIO, np.zeros((3, 1), np.float32)),
        "row 2 (clip 'ann-2'): audio has shape [3, 1], not [frames, 2] with frames > 0.",
    ),
    "a sequence without frames": (
        lambda c: with_feature(c, 2, AUDIO, np.zeros((0, 2), np.float32)),
        "row 2 (clip 'ann-2'): audio has shape [0, 2], not [frames, 2] with frames > 0.",
    ),
    "another dtype": (
        lambda c: with_feature(c, 2, TEXT, np.zeros(4)),
        "row 2 (clip 'ann-2'): text is float64.",
    ),
    "a clip id twice": (
        lambda c: with_row(c, 7, clip="ann-1"),
        "row 7 (clip 'ann-1'): the clip id stands already in row 1.",
    ),
    "a subject without a name": (
        lambda c: with_row(c, 7, subject=""),
        "row 7 (clip 'cem-1'): '' cannot name a clip or a subject.",
    ),
    "a subject that looks like another": (
        lambda c: with_row(c, 7, subject="cem "),
        "row 7 (clip 'cem-1'): 'cem ' cannot name a clip or a subject.",
    ),
    "an accent in two code points": (
        lambda c: with_row(c, 7, subject="Rene\u0301"),
        "row 7 (clip 'cem-1'): 'Rene\u0301' cannot name a clip or a subject.",
    ),
    "half a character": (
        lambda c: with_row(c, 7, subject="\ud800"),
        r"row 7 (clip 'cem-1'): '\ud800' cannot name a clip or a subject.",
    ),
    "a subject called everyone": (
        lambda c: with_row(c, 7, subject="*"),
        "row 7 (clip 'cem-1'): '*' means everyone.",
    ),
    "a score out of range": (
        lambda c: with_row(c, 3, label=3.5),
        "row 3 (clip 'bob-0'): the label 3.5 is not a number in [-3, 3].",
    ),
    "a score that is not a number": (
        lambda c: with_row(c, 3, label=float("nan")),
        "row 3 (clip 'bob-0'): the label nan is not a number in [-3, 3].",
    ),
    "a class where a score belongs": (
        lambda c: with_row(c, 3, label="happy"),
        "row 3 (clip 'bob-0'): the label 'happy' is not a number in [-3, 3].",
    ),
    "an unknown class": (
        lambda c: with_row(replace(c, task=Task("classification", classes=("sad", "glad"))), 0, label="hapy"),
        "row 0 (clip 'ann-0'): the label 'hapy' is unknown. Remedy: use one of sad, glad",
    ),
    "a row with nothing": (
        lambda c: with_feature(c, 9, TEXT, None),
        "row 9 (clip 'dan-0'): it has no modality at all.",
    ),
    "a subject in two splits": (
        lambda c: with_row(c, 8, split=Split.TEST),
        "row 8 (clip 'cem-2'): subject 'cem' is in test here and in train in row 6.",
    ),
    "a subject in two partitions": (
        lambda c: with_row(c, 8, partition=Partition.PUBLIC),
        "row 8 (clip 'cem-2'): subject 'cem' is in public here and in revocable in row 6.",
    ),
    "a revocable valid row": (
        lambda c: replace(c, rows=tuple(replace(r, partition=Partition.REVOCABLE) for r in c.rows)),
        "row 3 (clip 'bob-0'): it is a valid row, but revocable.",
    ),
}

SPOILT_COHORTS = {
    "no rows": (lambda c: c.select([]), "Cohort 'small' has no rows."),
    "no channel": (without_channels, "Cohort 'small' declares no channel."),
    "a channel that no row has": (
        lambda c: replace(c, features={**c.features, AUDIO: (None,) * 15}),
        "The audio channel is declared, but none of the 15 rows has it.",
    ),
    "no public train rows": (
        lambda c: c.select(range(3, 15)),
        "Cohort 'small' has no public train rows.",
    ),
    "one class": (
        lambda c: replace(c, task=Task("classification", classes=("sad",))),
        "The classes are ['sad'].",
    ),
    "a class twice": (
        lambda c: replace(c, task=Task("classification", classes=("sad", "sad"))),
        "The classes are ['sad', 'sad'].",
    ),
    "a range upside down": (lambda c: with_task(c, low=1.0, high=-1.0), "Labels from 1 to -1 are no range."),
    "a channel of another modality": (
        lambda c: with_channel(c, TEXT, modality=AUDIO),
        "The declaration of the text channel contradicts itself",
    ),
    "a derived channel that says it is its own": (
        lambda c: with_channel(c, TEXT, derived_from=(AUDIO,)),
        "The text channel is derived from ['audio'] with consent 'own'.",
    ),
    "a channel that follows nothing": (
        lambda c: with_channel(c, TEXT, consent="follows"),
        "The text channel is derived from [] with consent 'follows'.",
    ),
}


def test_a_sound_cohort_passes(small):
    validate(small)


@pytest.mark.parametrize(("spoil", "message"), SPOILT_ROWS.values(), ids=SPOILT_ROWS.keys())
def test_a_wrong_row_is_named(small, spoil, message):
    with pytest.raises(RowError) as caught:
        validate(spoil(small))
    assert str(caught.value).startswith(message)
    assert caught.value.remedy


@pytest.mark.parametrize(("spoil", "message"), SPOILT_COHORTS.values(), ids=SPOILT_COHORTS.keys())
def test_what_is_wrong_with_the_whole_is_said(small, spoil, message):
    with pytest.raises(CohortError) as caught:
        validate(spoil(small))
    assert str(caught.value).startswith(message)
    assert caught.value.remedy
