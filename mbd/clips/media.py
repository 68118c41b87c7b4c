"""Sound and frames of a media file, decoded by FFmpeg's libraries (PyAV). It knows nothing of what they show.

A file is one file: playlists, which would make FFmpeg open others, are not read.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from mbd.errors import ClipError

Samples = NDArray[np.int16]
"""[N]: mono, at `RATE`."""

Image = NDArray[np.uint8]
"""[height, width, 3]: red, green, blue."""

RATE = 16_000
"""Samples a second."""

LONGEST = 512
"""Pixels of a frame's longer side at most: what is larger is made smaller, so that many fit into memory."""

_FORMATS = (
    "aac,aiff,amr,asf,avi,caf,flac,flv,gif,matroska,mov,mp3,mp4,mpeg,mpegts,ogg,wav,webm,"
    "bmp_pipe,jpeg_pipe,png_pipe,tiff_pipe,webp_pipe"
)
_MOST_PIXELS = 2**26

_ROUNDING = 1e-6
"""Seconds: times are fractions, and multiples of them hardly ever equal."""


def sound(path: Path) -> Samples | None:
    """All of the first sound track; None without one.

    Raises:
        ClipError: the file cannot be decoded.
    """
    with _opened(path) as container:
        if not container.streams.audio:
            return None
        resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
        pieces = [piece for frame in container.decode(audio=0) for piece in resampler.resample(frame)]
        pieces += resampler.resample(None)
        return np.concatenate([np.zeros(0, np.int16), *(piece.to_ndarray()[0] for piece in pieces)])


def frames(path: Path, *, every: float) -> Iterator[tuple[float, Image]]:
    """Pictures of the first video track with their times [s]: the first one, and then one each ``every`` seconds.

    Nothing without a video track.

    Raises:
        ClipError: the file cannot be decoded.
    """
    with _opened(path) as container:
        due = 0
        for frame in container.decode(video=0) if container.streams.video else ():
            second = frame.time or 0.0
            if second >= due * every - _ROUNDING:
                yield second, _image(frame)
                due = int((second + _ROUNDING) / every) + 1


def _image(frame: av.VideoFrame) -> Image:
    smaller = min(1.0, LONGEST / max(frame.width, frame.height))
    width, height = (max(1, round(side * smaller)) for side in (frame.width, frame.height))
    return np.asarray(frame.reformat(width, height, format="rgb24").to_ndarray(), np.uint8)


@contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    try:
        with av.open(str(path), options={"protocol_whitelist": "file", "format_whitelist": _FORMATS}) as container:
            for stream in container.streams.video:
                stream.codec_context.options = {"max_pixels": str(_MOST_PIXELS)}
            yield container
    except (av.FFmpegError, OSError) as error:
        raise ClipError(
            f"{path} cannot be decoded: {error.strerror or error}.",
            remedy="check the path, and that `ffmpeg` could play it",
        ) from error
