"""Numbers that need no model: hashed words, loudness by frequency, colours.

They are fixed beforehand, so that nobody's clip shapes anybody else's features; for results, plug in a real extractor.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from mbd.clips.media import Image, Samples
from mbd.clips.stages import Vector
from mbd.clips.stock.palette import histogram

WORDS, BANDS = 256, 24
_WINDOW = 400
"""Samples: 25 ms at 16 kHz."""


class Plain:
    """See `Featurizer`: 256, 48 and 64 numbers."""

    def of_text(self, transcript: str) -> Vector:
        """[256]: how often each of 256 groups of words occurs, to length 1; zeros without words."""
        counts = np.zeros(WORDS, np.float32)
        for word in transcript.lower().split():
            counts[hashlib.sha256(word.encode()).digest()[0]] += 1
        return np.asarray(counts / max(float(np.linalg.norm(counts)), 1.0), np.float32)

    def of_sound(self, sound_N: Samples) -> Vector:
        """[48]: mean and standard deviation over windows of 25 ms of the log energy in 24 equal bands up to 8 kHz."""
        whole = np.zeros(max(len(sound_N), _WINDOW))
        whole[: len(sound_N)] = sound_N / 32768.0
        windows = whole[: len(whole) // _WINDOW * _WINDOW].reshape(-1, _WINDOW) * np.hanning(_WINDOW)
        power = np.abs(np.fft.rfft(windows, axis=1)[:, 1:]) ** 2
        bands = np.stack([part.sum(axis=1) for part in np.array_split(power, BANDS, axis=1)], axis=1)
        loud = np.log(bands + 1e-8)
        return np.asarray(np.concatenate([loud.mean(axis=0), loud.std(axis=0)]), np.float32)

    def of_frames(self, images: Sequence[Image]) -> Vector:
        """[64]: the mean of the frames' colour histograms."""
        return np.asarray(np.mean([histogram(image) for image in images], axis=0), np.float32)
