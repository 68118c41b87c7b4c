"""Readings: each once, whole, and never of what was withdrawn; and what becomes of them."""

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import date

import numpy as np
import pytest

from mbd.clips.manifest import Clip, read_manifest
from mbd.clips.media import frames
from mbd.clips.pipeline import Reading, load_readings, read_clips
from mbd.clips.scores import score
from mbd.clips.stages import Opinion, Sentiment, Stages, load_stages
from mbd.clips.stock.plain import Plain
from mbd.clips.summary import aspects_of, draw, rows_of, summarise
from mbd.clips.table import write_table
from mbd.cohort.cohort import Task
from mbd.cohort.importers.table import Source, table
from mbd.cohort.modality import Modality
from mbd.errors import ClipError, CohortError, RowError

TEXT, AUDIO, VISION = Modality
RED, BLUE = (220, 20, 20), (20, 20, 220)
GOOD, BAD = Opinion("jobs", Sentiment.POSITIVE), Opinion("jobs", Sentiment.NEGATIVE)


@dataclass
class Counting:
    """Stages that are easy to foresee, and count what they are asked."""

    asked: Counter = field(default_factory=Counter)

    def transcribe(self, sound_N):
        self.asked["sound"] += 1
        tone = np.abs(np.fft.rfft(sound_N.astype(float))).argmax() * 16_000 / len(sound_N)
        return "good jobs" if tone > 1000 else "bad jobs"

    def opinions(self, transcript):
        self.asked["text"] += 1
        return (GOOD if "good" in transcript else BAD,)

    def scene(self, image):
        self.asked["frame"] += 1
        return ("studio", "street", "sea")[int(image.mean(axis=(0, 1)).argmax())]


@pytest.fixture
def counting():
    return Counting()


@pytest.fixture
def stages(counting):
    return Stages("one", 1.0, counting, counting, counting, Plain())


@pytest.fixture(scope="module")
def clips(make_media, tmp_path_factory):
    """Four clips of three people at two outlets; the last one is silent."""
    folder = tmp_path_factory.mktemp("media")
    made = [
        ("a", "ann", "north", date(2026, 10, 3), {"tone": 2000.0, "colours": (RED,)}),
        ("b", "ben", "north", date(2026, 10, 9), {"tone": 300.0, "colours": (RED, BLUE, BLUE)}),
        ("c", "ann", "north", date(2026, 11, 1), {"tone": 300.0, "colours": (BLUE,)}),
        ("d", "cem", "south", date(2026, 10, 5), {"tone": None, "colours": (BLUE,)}),
    ]
    place = {"label": "0.5", "partition": "public", "split": "train"}
    return tuple(
        Clip(name, who, outlet, day, make_media(folder / f"{name}.mp4", **media), place, None, None, None)
        for name, who, outlet, day, media in made
    )


def nothing(_subject, _modality):
    return False


def of(subject, *modalities):
    return lambda who, modality: who == subject and modality in modalities


def test_every_stage_reads_what_is_there(clips, stages, counting, tmp_path):
    told = []
    first, second, _, silent = read_clips(
        clips, stages, tmp_path, withheld=nothing, on_progress=lambda *x: told.append(x)
    )
    assert (first.transcript, first.opinions, first.scene) == ("good jobs", (GOOD,), "studio")
    assert second.scenes == ((0.0, "studio"), (1.0, "sea"), (2.0, "sea"))
    assert second.scene == "sea"
    assert set(first.features) == set(Modality)
    assert (silent.transcript, silent.opinions, set(silent.features)) == (None, (), {VISION})
    assert counting.asked == {"sound": 3, "text": 3, "frame": 6}
    assert told == [(0.25, "a"), (0.5, "b"), (0.75, "c"), (1.0, "d")]


def test_what_was_read_is_not_read_again(clips, stages, counting, tmp_path):
    before = read_clips(clips[:2], stages, tmp_path, withheld=nothing)
    asked = counting.asked.copy()
    assert read_clips(clips[:2], stages, tmp_path, withheld=nothing) == before
    assert counting.asked == asked
    read_clips(clips[:3], stages, tmp_path, withheld=nothing)
    assert counting.asked["sound"] == 3
    read_clips(clips[:3], stages, tmp_path, withheld=nothing, fresh=True)
    assert counting.asked["sound"] == 6
    read_clips(clips[:3], replace(stages, digest="two"), tmp_path, withheld=nothing)
    assert counting.asked["sound"] == 9


def test_another_file_of_the_same_name_is_another_clip(clips, stages, make_media, tmp_path):
    moved = replace(clips[0], media=tmp_path / "a.mp4")
    make_media(moved.media, tone=2000.0)
    (before,) = read_clips([moved], stages, tmp_path / "out", withheld=nothing)
    make_media(moved.media, tone=300.0)
    (after,) = read_clips([moved], stages, tmp_path / "out", withheld=nothing)
    assert (before.transcript, after.transcript) == ("good jobs", "bad jobs")


def test_a_damaged_reading_is_made_again(clips, stages, tmp_path):
    before = read_clips(clips[:1], stages, tmp_path, withheld=nothing)
    (path,) = (tmp_path / "readings").iterdir()
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ClipError, match="no reading of clip 'a'"):
        load_readings(clips[:1], tmp_path, withheld=nothing)
    assert read_clips(clips[:1], stages, tmp_path, withheld=nothing) == before


def test_a_voice_that_was_withdrawn_takes_its_transcript_along_and_leaves_the_rest(clips, stages, counting, tmp_path):
    read_clips(clips, stages, tmp_path, withheld=nothing)
    counting.asked.clear()
    withdrawn = of("ann", AUDIO)
    with pytest.raises(ClipError, match="no reading of clip 'a' that may be used"):
        load_readings(clips, tmp_path, withheld=withdrawn)
    first, second, third, _ = read_clips(clips, stages, tmp_path, withheld=withdrawn)
    for reading in (first, third):
        assert (reading.transcript, reading.opinions, set(reading.features)) == (None, (), {VISION})
    assert second.transcript == "bad jobs"
    assert counting.asked == {"frame": 2}
    kept = {path.name: json.loads(path.read_bytes()) for path in (tmp_path / "readings").iterdir()}
    assert [each["transcript"] for each in kept.values() if each["clip"] in "ac"] == [None, None]
    assert load_readings(clips, tmp_path, withheld=withdrawn) == [
        first,
        second,
        third,
        *load_readings(clips[3:], tmp_path, withheld=nothing),
    ]


@pytest.mark.parametrize(
    ("modality", "left"),
    [
        (TEXT, (None, 1, {AUDIO, VISION})),
        (AUDIO, (None, 1, {VISION})),
        (VISION, ("good jobs", 0, {TEXT, AUDIO})),
    ],
)
def test_what_is_withheld_is_not_looked_at(clips, stages, tmp_path, modality, left):
    (found,) = read_clips(clips[:1], stages, tmp_path, withheld=of("ann", modality))
    assert (found.transcript, len(found.scenes), set(found.features)) == left
    assert found.withheld == (modality,)


def test_a_clip_that_left_the_list_leaves_no_reading_and_other_files_stay(clips, stages, tmp_path):
    (tmp_path / "mine.json").write_text("{}")
    read_clips(clips, stages, tmp_path, withheld=nothing)
    read_clips(clips[1:], stages, tmp_path, withheld=nothing)
    assert len(list((tmp_path / "readings").iterdir())) == 3
    assert (tmp_path / "mine.json").exists()


def test_clips_that_cannot_be_read_are_named_and_the_others_kept(clips, stages, counting, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"nothing")
    listed = [
        replace(clips[0], clip="x", media=broken),
        *clips[:2],
        replace(clips[0], clip="y", media=tmp_path / "none"),
    ]
    with pytest.raises(ClipError, match=r"^2 of 4 clips could not be read\. x: .*broken\.mp4.* y: .*No such file"):
        read_clips(listed, stages, tmp_path / "out", withheld=nothing)
    assert counting.asked["sound"] == 2
    assert len(load_readings(clips[:2], tmp_path / "out", withheld=nothing)) == 2
    with pytest.raises(ClipError, match="no reading of clip 'x'"):
        load_readings(listed, tmp_path / "out", withheld=nothing)


def test_a_stage_that_fails_on_one_clip_is_named_and_the_others_are_read(clips, stages, counting, tmp_path):
    hear = counting.transcribe

    def fail_once(sound_N):
        if counting.asked["sound"]:
            return hear(sound_N)
        counting.asked["sound"] += 1
        raise ValueError("too shrill")

    counting.transcribe = fail_once
    with pytest.raises(ClipError, match=r"1 of 2 clips .* a: a stage could not take it \(ValueError: too shrill\)"):
        read_clips(clips[:2], stages, tmp_path, withheld=nothing)
    assert load_readings(clips[1:2], tmp_path, withheld=nothing)[0].transcript == "bad jobs"


def test_stages_that_are_left_out_read_nothing(clips, tmp_path):
    (reading,) = read_clips(clips[:1], Stages("none"), tmp_path, withheld=nothing)
    assert (reading.transcript, reading.opinions, reading.scenes, dict(reading.features)) == (None, (), (), {})


def reading(clip, *, said=None, opinions=(), scene=None):
    return Reading(clip.clip, "", (), said, opinions, ((0.0, scene),) if scene else (), {})


def test_months_of_an_outlet_are_summed_and_those_of_few_people_left_out(clips, tmp_path):
    readings = [
        reading(clips[0], opinions=(GOOD,), scene="studio"),
        reading(clips[1], opinions=(GOOD, Opinion("health", Sentiment.NEUTRAL)), scene="studio"),
        reading(clips[2], opinions=(BAD,)),
        reading(clips[3], scene="sea"),
    ]
    cells = summarise(clips, readings, least_people=1)
    assert [(c.outlet, c.month, c.clips, c.people) for c in cells] == [
        ("north", "2026-10", 2, 2),
        ("north", "2026-11", 1, 1),
        ("south", "2026-10", 1, 1),
    ]
    assert aspects_of(cells) == ["health", "jobs"]
    assert [row[4:] for row in rows_of(cells)] == [["studio", "+0.00", "+1.00"], ["-", "-", "-1.00"], ["sea", "-", "-"]]
    assert [cell.month for cell in summarise(clips, readings, least_people=2)] == ["2026-10"]
    draw(cells, tmp_path / "one.svg")
    draw(cells, tmp_path / "two.svg")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    draw([], tmp_path / "none.svg")
    assert not (tmp_path / "none.svg").exists()


def test_scores_are_those_that_a_hand_computes(clips):
    known = [
        replace(clips[0], transcript="Kids are talking.", opinions=(GOOD,), scene="studio"),
        replace(clips[1], transcript="By the door", opinions=(GOOD,), scene="sea"),
        replace(clips[2], opinions=()),
        clips[3],
    ]
    readings = [
        reading(clips[0], said="kids are walking", opinions=(GOOD,), scene="studio"),
        reading(clips[1], said="by door", opinions=(BAD,), scene="studio"),
        reading(clips[2], said="", opinions=()),
        reading(clips[3]),
    ]
    found = score(known, readings)
    assert found["wer"] == pytest.approx(2 / 6)
    # truth: good, good, none; read: good, bad, none. F1: good 2/3, bad 0, none 1.
    assert found["aspect_macro_f1"] == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert found["scene_macro_f1"] == pytest.approx((2 / 3 + 0) / 2)
    assert set(score(known[:1], [replace(readings[0], transcript=None)])) == {"scene_macro_f1"}
    with pytest.raises(ClipError, match="truth of nothing"):
        score(known[3:], readings[3:])


def test_a_table_of_readings_is_a_cohort_in_which_text_falls_with_the_voice(clips, stages, tmp_path):
    readings = read_clips(clips, stages, tmp_path / "out", withheld=nothing)
    files = write_table(clips, readings, tmp_path / "table")
    sources = {m: Source(path) for m, path in files.items()} | {
        TEXT: Source(files[TEXT], derived_from=(AUDIO,), consent="follows")
    }
    cohort = table(
        tmp_path / "table" / "index.csv",
        sources,
        task=Task("regression", low=-3, high=3),
        name="clips",
        description=".",
    )
    assert cohort.presence.tolist() == [[True] * 3] * 3 + [[False, False, True]]
    assert cohort.closure({("ann", AUDIO)}) == {("ann", AUDIO), ("ann", TEXT)}
    homeless = [replace(clips[0], place={})]
    with pytest.raises(ClipError, match="1 clips have no label, partition, split, such as 'a'"):
        write_table(homeless, readings[:1], tmp_path / "table")
    with pytest.raises(ClipError, match="No features"):
        write_table(clips[:1], [replace(readings[0], features={})], tmp_path / "table")


LIST = "clip,subject,outlet,published,media,transcript,aspects,scene\n"


def test_a_list_says_who_when_and_what_is_true(tmp_path):
    path = tmp_path / "list.csv"
    told = "a,ann,north,2026-10-03,media/a.mp4,Good jobs,jobs:positive; health : neutral ,studio\n"
    path.write_text(LIST + told + "b,ben,north,2026-10-09,b.mp4,,,\n")
    first, second = read_manifest(path)
    assert first.media == tmp_path / "media" / "a.mp4"
    assert first.opinions == (GOOD, Opinion("health", Sentiment.NEUTRAL))
    assert (first.published, first.scene, first.place) == (date(2026, 10, 3), "studio", {})
    assert (second.transcript, second.opinions, second.scene) == (None, None, None)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,ann,north,3.10.2026,a.mp4,,,\n", r"row 0 \(clip 'a'\): '3\.10\.2026' is no date"),
        ("a,,north,2026-10-03,a.mp4,,,\n", r"row 0 \(clip 'a'\): subject is empty"),
        ("a,ann,north,2026-10-03,a.mp4,,jobs:great,\n", "'great' is not a valid Sentiment"),
        ("a,ann,north,2026-10-03,a.mp4,,,\na,ann,north,2026-10-04,b.mp4,,,\n", r"row 1 \(clip 'a'\): .* twice"),
    ],
)
def test_a_row_that_is_wrong_is_named(tmp_path, rows, message):
    path = tmp_path / "list.csv"
    path.write_text(LIST + rows)
    with pytest.raises(RowError, match=message):
        read_manifest(path)


def test_an_empty_list_and_one_without_columns_are_refused(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text(LIST)
    with pytest.raises(CohortError, match="no clips"):
        read_manifest(path)
    path.write_text("clip\na\n")
    with pytest.raises(CohortError, match="subject, outlet, published, media"):
        read_manifest(path)


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("every = 0\n", "seconds above 0"),
        ("every = true\n", "seconds above 0"),
        ("every = inf\n", "seconds above 0"),
        ("every = nan\n", "seconds above 0"),
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
    ],
)
def test_a_file_of_stages_that_is_wrong_says_where(tmp_path, text, message):
    path = tmp_path / "stages.toml"
    path.write_text(text)
    with pytest.raises(ClipError, match=message):
        load_stages(path)
