"""The bits of named streams are for ever: stored digests of masks stand on them."""

import numpy as np

from mbd.cohort.streams import generator, uniform


def test_the_first_bits_of_a_stream_are_those_of_its_name():
    assert uniform("mbd random missing v1", 1, "test", "audio", "clip", 0.5) == 0.10081964490887374
    assert generator("mbd lost frames v1", 1, "test", "audio", "clip", 0.5).random(2).tolist() == [
        0.9216248814141539,
        0.6061755609551485,
    ]


def test_every_part_of_a_name_counts():
    names = [("a", 1, "b"), ("b", 1, "b"), ("a", 2, "b"), ("a", 1, "c"), ("a", 1, 0.5), ("a", 1, "b", "")]
    assert len({uniform(purpose, *name) for purpose, *name in names}) == len(names)
    assert len({generator(purpose, *name).random() for purpose, *name in names}) == len(names)


def test_uniform_numbers_fill_the_unit_interval_evenly():
    drawn = np.sort([uniform("test", n) for n in range(2000)])
    assert drawn[0] >= 0
    assert drawn[-1] < 1
    assert np.abs(drawn - (np.arange(2000) + 0.5) / 2000).max() < 0.035  # Kolmogorov and Smirnov, at one in a hundred
