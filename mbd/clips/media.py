"""Sound and frames of a media file, decoded by FFmpeg's libraries (PyAV). It knows nothing of what they show.

A file is one file: playlists, which would make FFmpeg open others, are not read. The picture on a record's sleeve is no
frame.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, groupby
from pathlib import Path
from typing import TypeVar

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition, Stream
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
        decoded = container.decode(_decodable(container.streams.audio[0]))
        return np.concatenate([np.zeros(0, np.int16), *_pieces(decoded)])


def _pieces(frames_: Iterable[av.AudioFrame]) -> Iterator[Samples]:
    """The same at one rate; whenever a track changes its own, a new resampler takes over."""
    for _, alike in groupby(frames_, key=lambda frame: (frame.format.name, frame.layout.name, frame.sample_rate)):
        resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
        for frame in chain(alike, (None,)):
            yield from (piece.to_ndarray()[0] for piece in resampler.resample(frame))


def frames(path: Path, *, every: float) -> Iterator[tuple[float, Image]]:
    """Pictures of the first video track with their times [s]: the first one, and then one each ``every`` seconds.

    Nothing without a video track.

    Raises:
        ClipError: the file cannot be decoded.
    """
    with _opened(path) as container:
        shown = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        first, due = None, 0
        for frame in container.decode(_decodable(shown[0])) if shown else ():
            second = frame.time or 0.0
            first = second if first is None else first
            if second - first >= due * every - _ROUNDING:
                yield second, _image(frame)
                due = int((second - first + _ROUNDING) / every) + 1


def _image(frame: av.VideoFrame) -> Image:
    smaller = min(1.0, LONGEST / max(frame.width, frame.height))
    width, height = (max(1, round(side * smaller)) for side in (frame.width, frame.height))
    return np.asarray(frame.reformat(width, height, format="rgb24").to_ndarray(), np.uint8)


_Stream = TypeVar("_Stream", bound=Stream)


def _decodable(stream: _Stream) -> _Stream:
    if stream.codec_context is None:
        raise ValueError("nothing here decodes its first track of this kind")
    return stream


@contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    most = {"max_pixels": str(_MOST_PIXELS)}  # when opening as well: FFmpeg decodes frames to find out what a file is
    try:
        if "\0" in str(path):
            raise ValueError("its name has a null character, where FFmpeg would stop reading")
        file = f"file:{path.absolute()}"  # FFmpeg would take a name with a colon for an address
        with av.open(file, options={"protocol_whitelist": "file", "format_whitelist": _FORMATS, **most}) as found:
            for stream in found.streams.video:
                if stream.codec_context is not None:
                    stream.codec_context.options = most
            yield found
    except (av.FFmpegError, OSError, ValueError) as error:
        raise ClipError(
            f"{path} cannot be decoded: {getattr(error, 'strerror', None) or error}.",
            remedy="check the path, that `ffmpeg` could play it, and that docs/clips.md names its format",
        ) from error
