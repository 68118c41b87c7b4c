"""Decoding: what a file holds comes out, at one rate and in right times, and what it does not hold is not made up."""

import struct
from fractions import Fraction

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


def test_times_that_do_not_begin_at_zero_change_no_step(tmp_path):
    with av.open(str(tmp_path / "late.mkv"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for n in range(30):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), BLUE, np.uint8), format="rgb24")
            frame.pts, frame.time_base = n + 6, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    found = [second for second, _ in frames(tmp_path / "late.mkv", every=1.0)]
    assert found[0] == pytest.approx(0.6)
    assert found == pytest.approx([0.6, 1.6, 2.6])


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


def test_a_name_that_no_file_can_have_is_named(tmp_path):
    with pytest.raises(ClipError, match=r"cannot be decoded: .*null"):
        sound(tmp_path / "a\0b.mp4")


def test_the_picture_on_a_sleeve_is_no_frame(make_media, tmp_path):
    path, cover = make_media(tmp_path / "song.flac", colours=None), tmp_path / "cover.png"
    imsave(cover, np.full((8, 8, 3), RED, np.uint8))
    picture = cover.read_bytes()
    words = b"".join(len(word).to_bytes(4, "big") + word for word in (b"image/png", b""))
    block = (3).to_bytes(4, "big") + words + bytes(16) + len(picture).to_bytes(4, "big") + picture
    flac = path.read_bytes()
    first = 4 + 4 + int.from_bytes(flac[5:8], "big")  # the stream's own block, which other blocks follow
    assert not flac[4] & 0x80
    path.write_bytes(flac[:first] + b"\x06" + len(block).to_bytes(3, "big") + block + flac[first:])
    with av.open(str(path)) as container:
        assert container.streams.video  # FFmpeg calls it one
    assert list(frames(path, every=1.0)) == []
    assert pitch(sound(path)) == pytest.approx(440, abs=3)


def test_a_track_that_changes_its_rate_is_heard_to_its_end(make_media, tmp_path):
    """Two ADTS streams one after the other are one file, in which the rate and the channels change."""
    path = tmp_path / "both.aac"
    parts = []
    for rate, layout in ((16_000, "mono"), (48_000, "stereo")):
        part = tmp_path / f"{rate}.aac"
        with av.open(str(part), "w", format="adts") as container:
            stream = container.add_stream("aac", rate=rate, layout=layout)
            wave = (np.sin(2 * np.pi * 440 * np.arange(rate) / rate) * 8000).astype(np.int16)
            channels = 2 if layout == "stereo" else 1
            frame = av.AudioFrame.from_ndarray(np.repeat(wave, channels)[None], format="s16", layout=layout)
            frame.sample_rate = rate
            for piece in av.AudioResampler(format=stream.format, layout=layout, rate=rate).resample(frame):
                container.mux(stream.encode(piece))
            container.mux(stream.encode(None))
        parts.append(part.read_bytes())
    path.write_bytes(b"".join(parts))
    heard = sound(path)
    assert len(heard) == pytest.approx(2 * RATE, rel=0.15)
    assert pitch(heard[: RATE // 2]) == pytest.approx(440, abs=4)
    assert pitch(heard[-RATE // 2 :]) == pytest.approx(440, abs=4)


def test_a_track_in_a_code_that_nobody_knows_is_named(tmp_path):
    samples = bytes(3200)
    code = struct.pack("<HHIIHH", 0x9999, 1, RATE, 2 * RATE, 2, 16)
    chunks = b"".join(
        name + len(body).to_bytes(4, "little") + body for name, body in ((b"fmt ", code), (b"data", samples))
    )
    path = tmp_path / "odd.wav"
    path.write_bytes(b"RIFF" + (4 + len(chunks)).to_bytes(4, "little") + b"WAVE" + chunks)
    with pytest.raises(ClipError, match=r"odd\.wav cannot be decoded: nothing here decodes its first track"):
        sound(path)
    assert list(frames(path, every=1.0)) == []
