"""The stages that come with us do what they say, no more."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbd.clips.media import RATE, sound
from mbd.clips.stages import Opinion, Sentiment
from mbd.clips.stock.lexicon import Lexicon
from mbd.clips.stock.palette import Palette, histogram
from mbd.clips.stock.plain import Plain
from mbd.clips.stock.sphinx import Sphinx
from mbd.errors import ClipError

TERMS = {"economy": ["jobs", "price of bread"], "health": ["Hospital"]}


@pytest.fixture(scope="module")
def sphinx():
    return Sphinx()


def test_silence_and_noise_are_no_speech(sphinx):
    noise = np.random.default_rng(0).normal(0, 300, RATE).astype(np.int16)
    assert sphinx.transcribe(np.zeros(0, np.int16)) == ""
    assert sphinx.transcribe(np.zeros(RATE, np.int16)) == ""
    assert sphinx.transcribe(noise) == ""


@pytest.mark.real_data
def test_some_words_of_a_real_voice_are_heard(sphinx, real_data):
    paths = [real_data("ravdess") / "clips" / f"03-01-03-02-02-01-{actor}.flac" for actor in ("05", "09", "11")]
    heard = [sphinx.transcribe(sound(path)) for path in paths]
    truth = ["dogs", "are", "sitting", "by", "the", "door"]
    assert max(sum(word in said.split() for word in truth) for said in heard) >= 5
    assert all(re.fullmatch(r"[a-z']+( [a-z']+)*", said) for said in heard)


@pytest.mark.real_data
def test_a_voice_changes_nothing_that_is_heard_of_the_next(sphinx, real_data):
    """Of these two, a decoder that went on would hear the second in other words."""
    first, second = (real_data("ravdess") / "clips" / f"03-01-03-02-01-01-{actor}.flac" for actor in ("02", "04"))
    alone = Sphinx().transcribe(sound(second))
    assert sphinx.transcribe(sound(first)) != ""
    assert sphinx.transcribe(sound(second)) == alone != ""


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("the jobs are great and wonderful", [("economy", "positive")]),
        ("a terrible price of bread", [("economy", "negative")]),
        ("there are jobs", [("economy", "neutral")]),
        ("great jobs. an awful hospital.", [("economy", "positive"), ("health", "negative")]),
        ("JOBS! Love. hate", [("economy", "neutral")]),
        ("great jobs. awful jobs. awful awful jobs", [("economy", "negative")]),
        ("great wonderful jobs. there are jobs. bad jobs", [("economy", "positive")]),
        ("jobsworth hospitals", []),
        ("", []),
    ],
)
def test_an_aspect_is_felt_like_the_sentences_that_name_it(said, found):
    assert Lexicon(TERMS).opinions(said) == tuple(Opinion(a, Sentiment(s)) for a, s in found)


@pytest.mark.parametrize("terms", [{}, {"economy": []}, {"economy": ["jobs", " "]}])
def test_an_aspect_without_terms_is_refused(terms):
    with pytest.raises(ClipError, match="no terms"):
        Lexicon(terms)


@pytest.mark.parametrize("terms", [{"economy": "jobs"}, {"economy": {"jobs": ["work"]}}, {"economy": [1]}])
def test_terms_that_are_no_list_of_words_are_refused(terms):
    with pytest.raises(ClipError, match="no list"):
        Lexicon(terms)


def test_terms_are_words_and_no_patterns():
    assert [o.aspect for o in Lexicon({"tongues": ["C++"]}).opinions("we write c++, well")] == ["tongues"]
    assert [o.aspect for o in Lexicon({"lands": ["U.S."]}).opinions("the U.S. grows")] == ["lands"]
    assert Lexicon({"tongues": ["c"]}).opinions("cc") == ()
    assert Lexicon({"odd": ["a.b", "c("]}).opinions("axb c") == ()


def test_a_frame_is_of_the_kind_of_the_example_with_its_colours(make_media, tmp_path):
    for kind, colour in (("studio", (210, 40, 40)), ("street", (40, 40, 210))):
        (tmp_path / kind).mkdir()
        make_media(tmp_path / kind / "1.mp4", colours=(colour,), tone=None)
    palette = Palette(str(tmp_path))
    assert palette.scene(np.full((8, 8, 3), (200, 50, 30), np.uint8)) == "studio"
    assert palette.scene(np.full((8, 8, 3), (30, 50, 200), np.uint8)) == "street"


def test_examples_of_one_kind_or_of_something_else_are_refused(make_media, tmp_path):
    (tmp_path / "studio").mkdir()
    make_media(tmp_path / "studio" / "1.mp4", tone=None)
    with pytest.raises(ClipError, match="two kinds"):
        Palette(str(tmp_path))
    (tmp_path / "street").mkdir()
    (tmp_path / "street" / "notes.txt").write_text("no picture")
    with pytest.raises(ClipError, match=r"notes\.txt"):
        Palette(str(tmp_path))


@given(st.integers(1, 6), st.integers(1, 6), st.randoms(use_true_random=False))
def test_a_histogram_has_shares_whatever_the_order_of_pixels(height, width, random):
    image = np.array([[random.randrange(256) for _ in range(3)] for _ in range(height * width)], np.uint8)
    shares = histogram(image.reshape(height, width, 3))
    assert shares.shape == (64,)
    assert shares.sum() == pytest.approx(1.0)
    shuffled = random.sample(image.tolist(), len(image))
    assert np.array_equal(histogram(np.array(shuffled, np.uint8).reshape(width, height, 3)), shares)


def test_features_have_their_sizes_and_tell_things_apart():
    plain, time = Plain(), np.arange(RATE) / RATE
    low, high = ((np.sin(2 * np.pi * tone * time) * 8000).astype(np.int16) for tone in (300.0, 5000.0))
    assert plain.of_sound(low)[:24].argmax() < plain.of_sound(high)[:24].argmax()
    assert plain.of_text("a word").shape == (256,)
    assert np.linalg.norm(plain.of_text("one two two")) == pytest.approx(1.0)
    assert not np.array_equal(plain.of_text("one"), plain.of_text("two"))
    images = [np.full((2, 2, 3), value, np.uint8) for value in (0, 255)]
    assert np.allclose(plain.of_frames(images), (histogram(images[0]) + histogram(images[1])) / 2)


def test_features_of_nothing_are_finite():
    plain = Plain()
    assert not plain.of_text("").any()
    assert np.isfinite(plain.of_sound(np.zeros(0, np.int16))).all()
    assert plain.of_sound(np.zeros(3, np.int16)).shape == (48,)
