"""Scores against what is true."""

from dataclasses import replace

import pytest

from mbd.clips.scores import score
from mbd.clips.stages import Opinion, Sentiment
from mbd.errors import ClipError

GOOD, BAD = Opinion("jobs", Sentiment.POSITIVE), Opinion("jobs", Sentiment.NEGATIVE)


def test_scores_are_those_that_a_hand_computes(clips, make_reading):
    known = [
        replace(clips[0], transcript="Kids are talking.", opinions=(GOOD,), scene="studio"),
        replace(clips[1], transcript="By the door", opinions=(GOOD,), scene="sea"),
        replace(clips[2], opinions=()),
        clips[3],
    ]
    readings = [
        make_reading(clips[0], said="kids are walking", opinions=(GOOD,), scene="studio"),
        make_reading(clips[1], said="by door", opinions=(BAD,), scene="studio"),
        make_reading(clips[2], said="", opinions=()),
        make_reading(clips[3]),
    ]
    found = score(known, readings)
    assert found["wer"] == pytest.approx(2 / 6)
    # truth: good, good, none; read: good, bad, none. F1: good 2/3, bad 0, none 1.
    assert found["aspect_macro_f1"] == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert found["scene_macro_f1"] == pytest.approx((2 / 3 + 0) / 2)
    assert set(score(known[:1], [replace(readings[0], transcript=None)])) == {"scene_macro_f1"}
    with pytest.raises(ClipError, match="truth of nothing"):
        score(known[3:], readings[3:])


@pytest.mark.parametrize(
    ("truth", "said", "errors"),
    [
        ("Don\u2019t \u2018go\u2019!", "don't go", 0),
        ("'So', she said: \"Cafe\u0301\"", "so she said caf\u00e9", 0),
        ("the dogs' door", "the dogs door", 0),
        ("dont go", "don't go", 1 / 2),
        ("\u0939\u093f\u0928\u094d\u0926\u0940 \u092e\u0947\u0902", "\u0939\u093f\u0928\u094d\u0926\u0940", 1 / 2),
        ("\u0130stanbul!", "i\u0307stanbul", 0),
        ("rock_and-roll", "rock and roll", 0),
    ],
)
def test_how_words_are_written_down_is_no_error(clips, truth, said, errors, make_reading):
    found = score([replace(clips[0], transcript=truth)], [make_reading(clips[0], said=said)])
    assert found["wer"] == pytest.approx(errors)


def test_what_was_not_asked_for_is_not_judged(clips, make_reading):
    known = replace(clips[0], transcript="...", opinions=(GOOD,), scene="sea")
    assert set(score([known], [make_reading(clips[0], said="so many words", opinions=None, scene="sea")])) == {
        "scene_macro_f1"
    }
    assert score([known], [make_reading(clips[0], said="", opinions=())]) == {"aspect_macro_f1": 0.0}
    unseen = replace(known, scene=None)
    with pytest.raises(ClipError, match="truth of nothing"):
        score([unseen], [make_reading(clips[0], said="", opinions=None, scene="sea")])
