"""Readings: each once, whole, and never of what was withdrawn."""

import json
import os
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

import pytest

from mbd.clips.pipeline import load_readings, read_clips
from mbd.clips.stages import Opinion, Sentiment, Stages
from mbd.cohort.modality import Modality
from mbd.durable import locked
from mbd.errors import ClipError

TEXT, AUDIO, VISION = Modality
GOOD = Opinion("jobs", Sentiment.POSITIVE)


def nothing(_subject, _modality):
    return False


def of(subject, *modalities):
    return lambda who, modality: who == subject and modality in modalities


def read(clips, stages, out, withheld=nothing, **more):
    return read_clips(clips, stages, out, withheld=lambda: withheld, **more)


def load(clips, out, withheld=nothing):
    return load_readings(clips, out, withheld=lambda: withheld)


def kept(out):
    """The names of clips of which something is kept; of an emptied one nothing is."""
    stored = [json.loads(path.read_bytes()) for path in (out / "readings").glob("*.json")]
    return {r["clip"] for r in stored if r["transcript"] or r["opinions"] or r["scenes"] or r["features"]}


def test_every_stage_reads_what_is_there(clips, stages, counting, tmp_path):
    told = []
    first, second, _, silent = read(clips, stages, tmp_path, on_progress=lambda *x: told.append(x))
    assert (first.transcript, first.opinions, first.scene) == ("good jobs", (GOOD,), "studio")
    assert second.scenes == ((0.0, "studio"), (1.0, "sea"), (2.0, "sea"))
    assert second.scene == "sea"
    assert set(first.features) == set(Modality)
    assert (silent.transcript, silent.opinions, set(silent.features)) == (None, None, {VISION})
    assert counting.asked == {"sound": 3, "text": 3, "frame": 6}
    assert told == [(0.25, "a"), (0.5, "b"), (0.75, "c"), (1.0, "d")]


def test_what_was_read_is_not_read_again(clips, stages, counting, tmp_path):
    before = read(clips[:2], stages, tmp_path)
    asked = counting.asked.copy()
    assert read(clips[:2], stages, tmp_path) == before
    assert counting.asked == asked
    read(clips[:3], stages, tmp_path)
    assert counting.asked["sound"] == 3
    read(clips[:3], stages, tmp_path, fresh=True)
    assert counting.asked["sound"] == 6
    read(clips[:3], replace(stages, digest="two"), tmp_path)
    assert counting.asked["sound"] == 9


def test_another_file_of_the_same_name_is_another_clip(clips, stages, make_media, tmp_path):
    moved = replace(clips[0], media=tmp_path / "a.mp4")
    make_media(moved.media, tone=2000.0)
    (before,) = read([moved], stages, tmp_path / "out")
    make_media(moved.media, tone=300.0)
    with pytest.raises(ClipError, match="no reading of clip 'a'"):
        load([moved], tmp_path / "out")
    (after,) = read([moved], stages, tmp_path / "out")
    assert (before.transcript, after.transcript) == ("good jobs", "bad jobs")


def test_a_damaged_reading_is_made_again(clips, stages, tmp_path):
    before = read(clips[:1], stages, tmp_path)
    (path,) = (tmp_path / "readings").iterdir()
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ClipError, match="no reading of clip 'a'"):
        load(clips[:1], tmp_path)
    assert read(clips[:1], stages, tmp_path) == before


def test_a_voice_that_was_withdrawn_takes_its_transcript_along_and_leaves_the_rest(clips, stages, counting, tmp_path):
    read(clips, stages, tmp_path)
    counting.asked.clear()
    withdrawn = of("ann", AUDIO)
    with pytest.raises(ClipError, match="no reading of clip 'a' that may be used"):
        load(clips, tmp_path, withdrawn)
    first, second, third, _ = read(clips, stages, tmp_path, withdrawn)
    for reading in (first, third):
        assert (reading.transcript, reading.opinions, set(reading.features)) == (None, None, {VISION})
    assert second.transcript == "bad jobs"
    assert counting.asked == {"frame": 2}
    kept = {path.name: json.loads(path.read_bytes()) for path in (tmp_path / "readings").iterdir()}
    assert [each["transcript"] for each in kept.values() if each["clip"] in "ac"] == [None, None]
    assert load(clips, tmp_path, withdrawn) == [
        first,
        second,
        third,
        *load(clips[3:], tmp_path),
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
    (found,) = read(clips[:1], stages, tmp_path, of("ann", modality))
    assert (found.transcript, len(found.scenes), set(found.features)) == left
    assert found.withheld == (modality,)


def test_a_clip_that_left_the_list_leaves_no_reading_and_other_files_stay(clips, stages, tmp_path):
    mine = [tmp_path / "mine.json", tmp_path / "readings" / "mine.json", tmp_path / "readings" / ".notes"]
    (tmp_path / "readings").mkdir()
    for path in mine:
        path.write_text("{}")
    read(clips, stages, tmp_path)
    left = next((tmp_path / "readings").glob("?" * 64 + ".json"))
    left.with_name(f".{left.name}.partial-1-1").write_text("{")
    read(clips[1:], stages, tmp_path)
    assert len(list((tmp_path / "readings").iterdir())) == 3 + 2
    assert all(path.exists() for path in mine)


def test_clips_that_cannot_be_read_are_named_and_the_others_kept(clips, stages, counting, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"nothing")
    listed = [
        replace(clips[0], clip="x", media=broken),
        *clips[:2],
        replace(clips[0], clip="y", media=tmp_path / "none"),
    ]
    with pytest.raises(ClipError, match=r"^2 of 4 clips could not be read\. x: .*broken\.mp4.* y: .*none' is no file"):
        read(listed, stages, tmp_path / "out")
    assert counting.asked["sound"] == 2
    assert len(load(clips[:2], tmp_path / "out")) == 2
    with pytest.raises(ClipError, match="no reading of clip 'x'"):
        load(listed, tmp_path / "out")


def test_a_stage_that_fails_on_one_clip_is_named_and_the_others_are_read(clips, stages, counting, tmp_path):
    hear = counting.transcribe

    def fail_once(sound_N):
        if counting.asked["sound"]:
            return hear(sound_N)
        counting.asked["sound"] += 1
        raise ValueError("too shrill")

    counting.transcribe = fail_once
    with pytest.raises(ClipError, match=r"1 of 2 clips .* a: a stage could not take it \(ValueError: too shrill\)"):
        read(clips[:2], stages, tmp_path)
    assert load(clips[1:2], tmp_path)[0].transcript == "bad jobs"


def test_stages_that_are_left_out_read_nothing(clips, tmp_path):
    (reading,) = read(clips[:1], Stages("none"), tmp_path)
    assert (reading.transcript, reading.opinions, reading.scenes, dict(reading.features)) == (None, None, (), {})


@pytest.fixture
def stopping(stages, counting):
    """The same stages, which are interrupted at the first clip that they see."""

    class Stopping:
        def scene(self, image):
            raise KeyboardInterrupt

    return replace(stages, scenes=Stopping(), digest="stopping")


def test_what_was_withdrawn_is_gone_before_anything_is_read(clips, stages, stopping, tmp_path):
    read(clips, stages, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        read(clips, stopping, tmp_path, of("ann", AUDIO))
    assert kept(tmp_path) == {"b", "d"}
    with pytest.raises(ClipError, match="no reading of clip 'a'"):
        load(clips, tmp_path, of("ann", AUDIO))
    with pytest.raises(ClipError, match="2 readings, such as that of 'a', withhold"):  # that was not forgotten
        read(clips, stages, tmp_path)
    assert kept(tmp_path) == {"b", "d"}
    assert read(clips, stages, tmp_path, of("ann", AUDIO))[0].withheld == (AUDIO,)


def test_what_one_deployment_withholds_is_not_lost_to_another_s_withdrawal(clips, stages, tmp_path):
    read(clips[:1], stages, tmp_path, of("ann", AUDIO))
    for _ in range(2):
        with pytest.raises(ClipError, match="withhold what this deployment does not"):
            read(clips[:1], stages, tmp_path, of("ann", VISION))
        assert kept(tmp_path) == set()
    assert read(clips[:1], stages, tmp_path, of("ann", AUDIO, VISION))[0].withheld == (AUDIO, VISION)


def test_a_reading_is_the_person_s_of_whom_it_was_made(clips, stages, stopping, tmp_path):
    read(clips, stages, tmp_path, of("ann", AUDIO))
    renamed = [replace(clips[0], subject="ben"), *clips[1:]]
    with pytest.raises(ClipError, match="no reading of clip 'a' that may be used"):
        load(renamed, tmp_path, of("ben", AUDIO))
    with pytest.raises(KeyboardInterrupt):
        read(renamed, stopping, tmp_path, of("ann", AUDIO))
    assert kept(tmp_path) == {"b", "c", "d"}


def test_a_file_shows_everybody_under_whom_it_is_listed(clips, stages, tmp_path):
    both = [clips[0], replace(clips[0], clip="a2", subject="ben")]
    assert [reading.transcript for reading in read(both, stages, tmp_path)] == ["good jobs", "good jobs"]
    with pytest.raises(ClipError, match="no reading of clip 'a'"):
        load(both, tmp_path, of("ben", AUDIO))
    found = read(both, stages, tmp_path, of("ben", AUDIO))
    assert [(reading.withheld, reading.transcript) for reading in found] == [((AUDIO,), None)] * 2
    found = read(both, stages, tmp_path, lambda who, m: (who, m) in {("ann", VISION), ("ben", AUDIO)})
    assert [reading.withheld for reading in found] == [(AUDIO, VISION)] * 2


def test_a_deployment_that_withholds_less_does_not_bring_a_voice_back_by_mistake(clips, stages, counting, tmp_path):
    read(clips, stages, tmp_path, of("ann", AUDIO))
    counting.asked.clear()
    with pytest.raises(ClipError, match="2 readings, such as that of 'a', withhold what this deployment does not") as e:
        read(clips, stages, tmp_path)
    assert "--home" in e.value.remedy
    assert "--fresh" in e.value.remedy
    assert kept(tmp_path) == {"a", "b", "c", "d"}
    assert not counting.asked
    assert read(clips, stages, tmp_path, fresh=True)[0].transcript == "good jobs"


def test_a_withdrawal_that_comes_while_clips_are_read_counts_from_the_next_one_on(clips, stages, tmp_path):
    asked = []

    def ask():
        asked.append(True)
        return of("ann", AUDIO) if len(asked) > 2 else nothing

    found = read_clips(clips[:3], stages, tmp_path, withheld=ask)
    assert [reading.transcript for reading in found] == ["good jobs", "bad jobs", None]
    found = read(clips[:3], stages, tmp_path, of("ann", AUDIO))
    assert [reading.transcript for reading in found] == [None, "bad jobs", None]


def test_two_runs_in_one_folder_come_one_after_the_other(clips, stages, tmp_path):
    begun, done = Event(), Event()

    def second():
        begun.set()
        read(clips[:1], stages, tmp_path)
        done.set()

    thread = Thread(target=second)
    with locked(tmp_path / ".lock"):
        thread.start()
        assert begun.wait(30)
        assert not done.wait(0.3)
        assert not list((tmp_path / "readings").glob("*"))
    thread.join(30)
    assert done.is_set()


def test_an_answer_that_is_none_is_named_with_its_clip_and_the_others_are_read(clips, stages, counting, tmp_path):
    counting.scene = lambda image: None if image.mean(axis=(0, 1)).argmax() else "studio"
    with pytest.raises(ClipError, match=r"3 of 4 clips .* b: The reader of scenes answered None\. c: .* d: "):
        read(clips, stages, tmp_path)
    assert kept(tmp_path) == {"a"}


def test_a_stage_is_one_also_where_it_has_no_length(clips, counting, tmp_path):
    class Empty:
        def __len__(self):
            return 0

        def transcribe(self, sound_N):
            return counting.transcribe(sound_N)

    (reading,) = read(clips[:1], Stages("one", transcriber=Empty()), tmp_path)
    assert reading.transcript == "good jobs"


def test_a_name_that_no_file_can_have_is_an_error_like_others(clips, stages, tmp_path):
    with pytest.raises(ClipError, match=r"1 of 2 clips could not be read\. a: .*b\.mp4' is no file"):
        read([replace(clips[0], media=tmp_path / "a\0b.mp4"), clips[1]], stages, tmp_path)
    assert kept(tmp_path) == {"b"}


def test_it_does_not_either_where_the_file_was_changed_or_was_away(clips, stages, make_media, tmp_path):
    moved = replace(clips[0], media=tmp_path / "a.mp4")
    make_media(moved.media, tone=2000.0)
    read([moved], stages, tmp_path / "out", of("ann", AUDIO))
    moved.media.rename(tmp_path / "away.mp4")
    with pytest.raises(ClipError, match=r"1 of 1 clips .* is no file"):
        read([moved], stages, tmp_path / "out", of("ann", AUDIO))
    make_media(moved.media, tone=2500.0)
    with pytest.raises(ClipError, match="withhold what this deployment does not"):
        read([moved], stages, tmp_path / "out")


def test_what_was_withdrawn_goes_also_where_another_reading_withholds_too_much(clips, stages, tmp_path):
    read(clips, stages, tmp_path, of("ann", AUDIO))
    with pytest.raises(ClipError, match="2 readings"):
        read(clips, stages, tmp_path, of("ben", AUDIO))
    assert kept(tmp_path) == {"a", "c", "d"}


def test_a_deployment_that_goes_away_in_the_middle_brings_nothing_back(clips, stages, counting, tmp_path):
    read(clips[:1], stages, tmp_path, of("ann", AUDIO))
    counting.asked.clear()
    answers = iter([of("ann", AUDIO)])
    found = read_clips(clips[:3], stages, tmp_path, withheld=lambda: next(answers, nothing))
    assert [reading.transcript for reading in found] == [None, "bad jobs", None]
    assert counting.asked["sound"] == 1


def test_a_person_whose_row_left_the_list_is_still_in_the_file(clips, stages, tmp_path):
    both = [clips[0], replace(clips[0], clip="a2", subject="ben")]
    read(both, stages, tmp_path)
    (left,) = read(both[1:], stages, tmp_path)
    assert left.people == ("ann", "ben")
    with pytest.raises(ClipError, match="no reading of clip 'a2'"):
        load(both[1:], tmp_path, of("ann", AUDIO))
    for fresh in (False, True):
        (left,) = read(both[1:], stages, tmp_path, of("ann", AUDIO), fresh=fresh)
        assert (left.withheld, left.transcript) == ((AUDIO,), None)


def test_what_cannot_be_read_now_leaves_what_was_read_before(clips, stages, counting, make_media, tmp_path):
    moved = replace(clips[0], media=tmp_path / "a.mp4")
    make_media(moved.media, tone=2000.0)
    before = read([moved, clips[1]], stages, tmp_path / "out")
    counting.asked.clear()
    moved.media.rename(tmp_path / "away.mp4")
    with pytest.raises(ClipError, match="what was read is kept"):
        read([moved, clips[1]], stages, tmp_path / "out")
    with pytest.raises(ClipError, match="no reading of clip 'a'"):
        load([moved, clips[1]], tmp_path / "out")
    (tmp_path / "away.mp4").rename(moved.media)
    assert read([moved, clips[1]], stages, tmp_path / "out") == before
    assert not counting.asked


def test_a_file_that_changes_while_it_is_read_is_named(clips, stages, counting, make_media, tmp_path):
    moved = replace(clips[0], media=tmp_path / "a.mp4")
    make_media(moved.media, tone=2000.0)
    hear = counting.transcribe

    def hear_and_change(sound_N):
        make_media(moved.media, tone=300.0)
        return hear(sound_N)

    counting.transcribe = hear_and_change
    with pytest.raises(ClipError, match=r"a\.mp4 changed while it was read"):
        read([moved], stages, tmp_path / "out")
    assert kept(tmp_path / "out") == set()


def test_readings_of_different_stages_are_not_mixed(clips, stages, counting, tmp_path):
    read(clips[:2], stages, tmp_path)

    def stop(sound_N):
        raise KeyboardInterrupt

    counting.transcribe = stop
    with pytest.raises(KeyboardInterrupt):
        read([replace(clips[3]), *clips[:2]], replace(stages, digest="two"), tmp_path)
    with pytest.raises(ClipError, match="not all by the same stages"):
        load([clips[3], *clips[:2]], tmp_path)
    assert len(load(clips[:2], tmp_path)) == 2


def test_a_name_with_a_colon_is_a_file_and_a_pipe_is_none(clips, stages, make_media, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    make_media(tmp_path / "clip.mp4", tone=2000.0).rename(tmp_path / "10:30.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    (found,) = read([replace(clips[0], media=Path("10:30.mp4"))], stages, tmp_path / "out")
    assert found.transcript == "good jobs"
    with pytest.raises(ClipError, match=r"pipe\.mp4' is no file"):
        read([replace(clips[0], media=Path("pipe.mp4"))], stages, tmp_path / "out")


def test_with_the_words_withdrawn_a_sound_is_decoded_only_for_its_features(clips, stages, monkeypatch, tmp_path):
    monkeypatch.setitem(read_clips.__globals__, "sound", lambda path: pytest.fail("it was"))
    (found,) = read(clips[:1], replace(stages, features=None), tmp_path, of("ann", TEXT))
    assert found.transcript is None
