"""Decoding: what a file holds comes out, at one rate and in right times, and what it does not hold is not made up."""

import av
import numpy as np
import pytest
from matplotlib.image import imsave

from mbd.clips.media import RATE, frames, sound
from mbd.errors import ClipError

RED, GREEN, BLUE = (220, 20, 20), (20, 220, 20), (20, 20, 220)


def pitch(samples):
    return np.abs(np.fft.rfft(samples.astype(float))).argmax() * RATE / len(samples)


@pytest.mark.parametrize("name", ["video.mp4", "sound.flac"])
def test_a_tone_comes_out_at_sixteen_thousand_samples_a_second(make_media, tmp_path, name):
    heard = sound(make_media(tmp_path / name, colours=None if name.endswith("flac") else (RED, RED), tone=440.0))
    assert heard.dtype == np.int16
    assert len(heard) == pytest.approx(RATE * (1 if name.endswith("flac") else 2), rel=0.1)
    assert pitch(heard) == pytest.approx(440, abs=3)


def test_a_real_voice_has_all_its_samples(real_data):
    path = sorted((real_data("ravdess") / "clips").glob("*.flac"))[0]
    heard = sound(path)
    assert 2 < len(heard) / RATE < 6
    assert np.abs(heard).max() > 1000


def test_frames_come_at_the_times_that_were_asked_for(make_media, tmp_path):
    path = make_media(tmp_path / "clip.mp4", colours=(RED, GREEN, BLUE))
    found = list(frames(path, every=1.0))
    assert [second for second, _ in found] == pytest.approx([0.0, 1.0, 2.0])
    assert [int(image.mean(axis=(0, 1)).argmax()) for _, image in found] == [0, 1, 2]
    assert len(list(frames(path, every=0.1))) == 30
    assert len(list(frames(path, every=99))) == 1


def test_a_missing_track_is_missing(make_media, tmp_path):
    assert sound(make_media(tmp_path / "silent.mp4", tone=None)) is None
    assert list(frames(make_media(tmp_path / "sound.flac", colours=None), every=1.0)) == []


@pytest.mark.parametrize("read", [sound, lambda path: list(frames(path, every=1.0))])
def test_what_is_no_media_is_named(tmp_path, read):
    path = tmp_path / "notes.mp4"
    path.write_bytes(b"this is not a video")
    with pytest.raises(ClipError, match=r"notes\.mp4 cannot be decoded: "):
        read(path)
    with pytest.raises(ClipError, match="No such file"):
        read(tmp_path / "none.mp4")


def test_a_video_that_was_cut_off_is_an_error_or_shorter_but_never_garbage(make_media, tmp_path):
    whole = make_media(tmp_path / "clip.mp4", colours=(RED, GREEN, BLUE)).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ClipError, match="cannot be decoded"):
        sound(tmp_path / "cut.mp4")


def test_a_playlist_is_not_followed(make_media, tmp_path):
    secret = make_media(tmp_path / "secret.mp4")
    for name, text in (
        ("list.m3u8", f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{secret}\n#EXT-X-ENDLIST\n"),
        ("list.ffconcat", f"ffconcat version 1.0\nfile '{secret.name}'\n"),
    ):
        (tmp_path / name).write_text(text)
        with av.open(str(tmp_path / name), options={"allowed_extensions": "ALL", "extension_picky": "0"}) as container:
            assert container.streams.video  # FFmpeg itself would
        with pytest.raises(ClipError, match="cannot be decoded"):
            sound(tmp_path / name)


@pytest.mark.parametrize(
    ("height", "width", "shape"), [(30, 40, (30, 40)), (700, 1400, (256, 512)), (2, 9000, (1, 512))]
)
def test_a_picture_is_a_frame_and_a_large_one_is_made_smaller(tmp_path, height, width, shape):
    path = tmp_path / "picture.png"
    imsave(path, np.full((height, width, 3), BLUE, np.uint8))
    ((second, image),) = frames(path, every=1.0)
    assert second == 0.0
    assert image.shape == (*shape, 3)
    assert image.mean(axis=(0, 1)) == pytest.approx(BLUE, abs=2)


def test_a_picture_that_would_fill_the_memory_is_refused(tmp_path):
    path = tmp_path / "bomb.png"
    imsave(path, np.zeros((9000, 9000), np.uint8), cmap="gray")
    with pytest.raises(ClipError, match=r"bomb\.png cannot be decoded"):
        list(frames(path, every=1.0))
