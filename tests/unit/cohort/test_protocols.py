import hashlib
import math

import numpy as np
import pytest

from mbd.cohort.modality import Modality, pattern_name, subsets
from mbd.cohort.protocols import (
    Condition,
    Protocol,
    all_conditions,
    availability,
    fixed,
    frames,
    imbalanced,
    imbalanced_missing,
    random_missing,
    rates,
    shared,
    spans,
    spectrum,
)
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


def test_the_masks_of_earlier_results_come_out_bit_for_bit(people):
    masks = b"".join(random_missing(people, rate, seed).tobytes() for rate in (0.1, 0.5) for seed in (0, 3))
    assert hashlib.sha256(masks).hexdigest() == "70aabb9600e2dd46098168dd0a85bce56096677a84f5f0c8577cda7db4deac08"


def test_each_modality_can_have_a_rate_of_its_own_and_loses_the_rows_it_loses_at_that_shared_rate(people):
    mask = imbalanced_missing(people, (0.3, 0.5, 0.7), seed=1)
    for column, rate in enumerate((0.3, 0.5, 0.7)):
        assert np.array_equal(mask[:, column], random_missing(people, rate, seed=1)[:, column])
    with pytest.raises(CohortError, match="no rate"):
        imbalanced_missing(people, (0.3, 1.5, 0.7), seed=1)


@pytest.mark.parametrize("modalities", subsets(Modality), ids=pattern_name)
def test_every_condition_has_a_name_of_its_own_in_its_protocol(modalities):
    conditions = all_conditions(modalities)
    assert len({(c.protocol, c.name) for c in conditions}) == len(conditions)
    assert {c.protocol for c in conditions} == set(Protocol)
    assert len(fixed(modalities)) == 2 ** len(modalities) - 1


def test_the_protocols_are_what_their_names_say():
    assert [c.name for c in fixed(Modality)] == ["t", "a", "v", "ta", "tv", "av", "tav"]
    assert [c.missing for c in rates()] == [(r, r, r) for r in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)]
    assert [(c.lost, c.span) for c in frames((0.2,))] == [(0.2, 0.0)]
    assert [(c.lost, c.span) for c in spans((0.2,))] == [(0.0, 0.2)]
    assert [c.missing for c in shared()] == [(0.3, 0.3, 0.3), (0.5, 0.5, 0.5), (0.7, 0.7, 0.7)]
    assert [(c.noise, c.lost) for c in spectrum((0.0, 1.0), (0.0, 0.5))] == [(0, 0), (0, 0.5), (1, 0), (1, 0.5)]
    assert imbalanced(Modality)[1].name == "t0.3-a0.7-v0.5"
    assert imbalanced({Modality.AUDIO, Modality.VISION})[0].missing == (0.0, 0.3, 0.7)


@pytest.mark.parametrize("modalities", subsets(Modality), ids=pattern_name)
def test_imbalanced_rates_have_the_mean_of_the_shared_one_and_come_in_every_order(modalities):
    columns = [column for column, m in enumerate(Modality) if m in modalities]
    found = np.array([c.missing for c in imbalanced(modalities)])
    assert np.allclose(found[:, columns].mean(axis=1), 0.5)
    assert np.allclose(found[:, columns].mean(axis=0), 0.5)
    assert not np.delete(found, columns, axis=1).any()
    assert len({tuple(row) for row in found}) == math.factorial(len(modalities))


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"missing": (0.0, 0.0, 2.0)}, "missing channels"),
        ({"lost": -0.1}, "lost frames"),
        ({"span": math.nan}, "one piece"),
        ({"noise": -1.0}, "noise"),
        ({"noise": math.inf}, "noise"),
    ],
)
def test_a_condition_that_cannot_be_is_refused(wrong, match):
    with pytest.raises(CohortError, match=match):
        Condition(Protocol.SPECTRUM, "wrong", **wrong)
