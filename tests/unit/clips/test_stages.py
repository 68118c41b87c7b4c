"""The file of stages, and what stages may answer."""

import sys
from pathlib import Path

import numpy as np
import pytest

from mbd.clips.media import frames
from mbd.clips.stages import Opinion, Sentiment, load_stages, opinions_of, scene_of, transcript_of, vector_of
from mbd.errors import ClipError


class Free:
    """Takes whatever it is given."""

    def __init__(self, **given):
        self.digest = given.get("says", "")
        if given.get("leaves"):
            sys.exit(0)

    def opinions(self, transcript):
        return ()


RED, BLUE = (220, 20, 20), (20, 20, 220)
GOOD = Opinion("jobs", Sentiment.POSITIVE)


def test_a_file_plugs_stages_in_by_name(make_media, tmp_path):
    for kind, colour in (("studio", RED), ("sea", BLUE)):
        (tmp_path / "scenes" / kind).mkdir(parents=True)
        make_media(tmp_path / "scenes" / kind / "1.mp4", colours=(colour,), tone=None)
    path = tmp_path / "stages.toml"
    path.write_text(
        f'every = 0.5\n[aspects]\nuse = "mbd.clips.stock.lexicon:Lexicon"\nterms.jobs = ["jobs"]\n'
        f'[scenes]\nuse = "mbd.clips.stock.palette:Palette"\nexamples = "{tmp_path / "scenes"}"\n'
    )
    found = load_stages(path)
    assert found.every == 0.5
    assert found.aspects.opinions("good jobs") == (GOOD,)
    image = next(frames(tmp_path / "scenes" / "sea" / "1.mp4", every=1.0))[1]
    assert found.scenes.scene(image) == "sea"
    assert (found.transcriber, found.features) == (None, None)
    path.write_text(path.read_text().replace("0.5", "0.25"))
    assert load_stages(path).digest != found.digest


def test_more_examples_are_other_stages(make_media, tmp_path):
    for kind in ("studio", "sea"):
        (tmp_path / kind).mkdir()
        make_media(tmp_path / kind / "1.mp4", tone=None)
    path = tmp_path / "stages.toml"
    path.write_text(f'[scenes]\nuse = "mbd.clips.stock.palette:Palette"\nexamples = "{tmp_path}"\n')
    before = load_stages(path).digest
    assert load_stages(path).digest == before
    make_media(tmp_path / "sea" / "2.mp4", colours=(BLUE,), tone=None)
    assert load_stages(path).digest != before


HERE = Path(__file__).stem


def test_other_versions_are_other_stages(monkeypatch, tmp_path):
    path = tmp_path / "stages.toml"
    path.write_text("every = 1.0\n")
    before = load_stages(path).digest
    monkeypatch.setitem(load_stages.__globals__, "__version__", "0.0.0")
    assert load_stages(path).digest != before


FREE = f'[aspects]\nuse = "{HERE}:Free"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("every = 0\n", "seconds from 0.001 to 86400"),
        ("every = true\n", "seconds from 0.001 to 86400"),
        ("every = inf\n", "seconds from 0.001 to 86400"),
        (f"every = 1{'0' * 400}\n", "seconds from 0.001 to 86400"),
        ("every = 1e-9\n", "seconds from 0.001 to 86400"),
        ("every = nan\n", "seconds from 0.001 to 86400"),
        ("[hearing]\n", "no stage is called 'hearing'"),
        ("[aspects]\n", "does not say what it is"),
        ("aspects = 3\n", "does not say what it is"),
        ('[aspects]\nuse = "mbd.clips.stock.lexicon"\n', "does not say what it is"),
        ('[aspects]\nuse = "mbd.clips.stock.lexikon:Lexicon"\n', "cannot be made"),
        ('[aspects]\nuse = "mbd.clips.stock.lexicon:Lexikon"\n', "cannot be made"),
        ('[aspects]\nuse = "mbd.clips.stock.lexicon:Lexicon"\nwords = 1\n', "cannot be made .*words"),
        ('[aspects]\nuse = "mbd.clips.stock.lexicon:Lexicon"\nterms = 1\n', "cannot be made .*int"),
        ('[aspects]\nuse = "mbd.clips.stock.lexicon:Lexicon"\nterms.a = "jobs"\n', "no list"),
        ("= 1", "cannot be read"),
        (f"a = {'[' * 5000}", "cannot be read"),
        (FREE + "says = 3\n", "`digest` is no text"),
        (FREE + "leaves = true\n", "SystemExit"),
        (FREE.replace("aspects", "features"), "no method of_text, of_sound, of_frames"),
        (FREE + "then = 2026-11-27\n", "no argument: unsupported type"),
        (FREE + f"many = {2**60}\n", "no argument: .* exceeds"),
        (FREE + "much = inf\n", "no argument: inf"),
    ],
)
def test_a_file_of_stages_that_is_wrong_says_where(tmp_path, monkeypatch, text, message):
    monkeypatch.setitem(sys.modules, HERE, sys.modules[__name__])
    path = tmp_path / "stages.toml"
    path.write_text(text)
    with pytest.raises(ClipError, match=message):
        load_stages(path)


def test_answers_are_taken_for_what_they_are():
    assert transcript_of(np.str_("jobs")) == "jobs"
    assert opinions_of([Opinion("jobs", "positive")]) == (GOOD,)
    assert opinions_of(iter(())) == ()
    assert scene_of(np.str_("sea")) == "sea"
    assert vector_of([1, 2]) == (1.0, 2.0)


@pytest.mark.parametrize(
    ("take", "answer", "message"),
    [
        (transcript_of, None, "The transcriber answered None"),
        (transcript_of, ["jobs"], r"The transcriber answered \['jobs'\]"),
        (opinions_of, ["jobs"], "The reader of aspects answered 'jobs'"),
        (opinions_of, [Opinion("jobs", "fine")], "The reader of aspects answered Opinion"),
        (opinions_of, [Opinion("", Sentiment.NEUTRAL)], "The reader of aspects answered Opinion"),
        (opinions_of, [Opinion(None, Sentiment.NEUTRAL)], "The reader of aspects answered Opinion"),
        (opinions_of, [GOOD, GOOD], "The reader of aspects answered Opinion"),
        (scene_of, "", "The reader of scenes answered ''"),
        (scene_of, 3, "The reader of scenes answered 3"),
        (vector_of, np.ones((2, 2)), "The featurizer answered array"),
        (vector_of, np.ones(0), "The featurizer answered array"),
        (vector_of, [1.0, np.nan], "The featurizer answered "),
        (vector_of, ["1", "2"], "The featurizer answered "),
        (vector_of, [1.0, 1e300], "The featurizer answered "),
        (vector_of, "x" * 200, r"The featurizer answered 'x{59}\.\.\.\."),
    ],
)
def test_an_answer_that_is_none_is_shown_with_what_it_should_be(take, answer, message):
    with pytest.raises(ClipError, match=message) as caught:
        take(answer)
    assert caught.value.remedy.startswith("have it answer ")
