"""Words by CMU Sphinx with its own model of American English: it hears calm speech, and little of shouts.

It needs no network. What it is worth on acted emotions is in docs/clips.md. Where its detector finds no voice it makes
no words: the decoder alone would hear some in silence.
"""

import re
from collections.abc import Iterator
from importlib.metadata import version

from pocketsphinx import Decoder, Endpointer

from mbd.clips.media import RATE, Samples

_NOT_WORDS = re.compile(r"<[^>]*>|\[[^\]]*\]|\(\d+\)")
"""Silence, noise, and numbers of pronunciations."""


class Sphinx:
    """Makes a decoder for each sound: one that goes on to the next would carry what it learnt of a voice along."""

    digest = version("pocketsphinx")

    def transcribe(self, sound_N: Samples) -> str:
        """See `Transcriber`."""
        decoder = Decoder(samprate=float(RATE), loglevel="FATAL")
        return " ".join(word for utterance in _utterances(sound_N) for word in _words(decoder, utterance))


def _words(decoder: Decoder, utterance: bytes) -> list[str]:
    decoder.start_utt()
    decoder.process_raw(utterance, full_utt=True)
    decoder.end_utt()
    heard = decoder.hyp()
    return _NOT_WORDS.sub(" ", heard.hypstr if heard else "").lower().split()


def _utterances(sound_N: Samples) -> Iterator[bytes]:
    """The stretches in which somebody speaks."""
    detector, raw, spoken = Endpointer(sample_rate=RATE), sound_N.tobytes(), b""
    whole = len(raw) // detector.frame_bytes * detector.frame_bytes
    for start in range(0, whole, detector.frame_bytes):
        spoken += detector.process(raw[start : start + detector.frame_bytes]) or b""
        if spoken and not detector.in_speech:
            yield spoken
            spoken = b""
    spoken += detector.end_stream(raw[whole:] or bytes(2)) or b""  # it takes no less than a sample
    if spoken:
        yield spoken
