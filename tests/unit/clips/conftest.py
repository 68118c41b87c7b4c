"""Clips of three people, and stages that are easy to foresee."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import date

import numpy as np
import pytest

from mbd.clips.manifest import Clip
from mbd.clips.reading import Reading
from mbd.clips.stages import Opinion, Sentiment, Stages
from mbd.clips.stock.plain import Plain

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


@pytest.fixture(scope="module")
def make_reading():
    """A clip's reading with what is given, and nothing else in it; each clip of a file of its own."""

    def make(clip, *, said=None, opinions=None, scene=None, features=None):
        return Reading(
            clip=clip.clip,
            subject=clip.subject,
            people=(clip.subject,),
            media=clip.clip,
            stages="one",
            withheld=(),
            transcript=said,
            opinions=opinions,
            scenes=((0.0, scene),) if scene else (),
            features=features or {},
        )

    return make
