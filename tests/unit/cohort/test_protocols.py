import numpy as np
import pytest

from mbd.cohort.modality import Modality
from mbd.cohort.protocols import availability, random_missing
from mbd.cohort.synthetic import Subjects, synthetic_cohort
from mbd.errors import CohortError


@pytest.fixture(scope="module")
def people():
    return synthetic_cohort(subjects=Subjects(10, 5, 10, 5), clips=10, missing=0.0)


def test_a_pattern_keeps_what_rows_have_and_adds_nothing(small):
    mask = availability(small, {Modality.AUDIO, Modality.VISION})
    assert mask.shape == (15, 3)
    assert mask[0].tolist() == [False, True, False]
    assert not mask[9].any()


def test_random_missing_meets_its_rate_in_every_modality(people):
    for rate in (0.0, 0.3, 0.7, 1.0):
        mask = random_missing(people, rate, seed=1)
        assert np.abs(1 - mask.mean(axis=0) - rate).max() < 0.1


def test_modalities_go_missing_independently(people):
    mask = random_missing(people, 0.5, seed=1).astype(float)
    correlation = np.corrcoef(mask.T)
    assert np.abs(correlation[~np.eye(3, dtype=bool)]).max() < 0.2


def test_a_clip_keeps_the_same_channels_whatever_happens_to_other_rows(people):
    whole = random_missing(people, 0.5, seed=1)
    some = np.random.default_rng(0).permutation(len(people))[:50]
    assert np.array_equal(random_missing(people.select(some), 0.5, seed=1), whole[some])


def test_another_seed_or_rate_draws_another_mask(people):
    masks = [random_missing(people, rate, seed) for rate, seed in ((0.5, 1), (0.5, 2), (0.5000001, 1))]
    assert len({mask.tobytes() for mask in masks}) == 3


def test_an_absent_channel_stays_absent(small):
    assert not random_missing(small, 0.0, seed=0)[9, 1]


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_that_is_none_is_refused(small, rate):
    with pytest.raises(CohortError, match="no rate"):
        random_missing(small, rate, seed=0)
