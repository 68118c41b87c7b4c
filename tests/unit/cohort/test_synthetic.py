import numpy as np
import pytest

from mbd.cohort.cohort import Partition, Split
from mbd.cohort.modality import Modality, in_order, parse_pattern
from mbd.cohort.synthetic import DIMS, Subjects, planted_trait, synthetic_cohort
from mbd.cohort.validation import validate


@pytest.fixture(scope="module")
def cohort():
    return synthetic_cohort()


def design(cohort, pattern):
    columns = [np.stack([np.zeros(DIMS[m]) if x is None else x for x in cohort.features[m]]) for m in in_order(pattern)]
    return np.hstack([np.ones((len(cohort), 1)), *columns])


def ridge_correlation(cohort, pattern):
    """Correlation on test subjects of a ridge fitted on all train rows, absent channels as zeros."""
    train, test = cohort.where(split=Split.TRAIN), cohort.where(split=Split.TEST)
    x = design(train, pattern)
    weights = np.linalg.solve(x.T @ x + 10 * np.eye(x.shape[1]), x.T @ train.targets)
    return np.corrcoef((design(test, pattern) @ weights)[:, 0], test.targets[:, 0])[0, 1]


def test_it_says_synthetic_everywhere(cohort):
    assert cohort.synthetic
    assert "synthetic" in cohort.name
    assert cohort.description.startswith("Synthetic")
    assert all("synthetic" in row.clip and "synthetic" in row.subject for row in cohort.rows)
    assert all("synthetic" in channel.extractor for channel in cohort.channels.values())


def test_the_same_seed_makes_the_same_cohort_and_another_seed_another(same):
    few = Subjects(2, 1, 2, 1)
    assert same(synthetic_cohort(3, subjects=few), synthetic_cohort(3, subjects=few))
    assert not same(synthetic_cohort(3, subjects=few), synthetic_cohort(4, subjects=few))


def test_it_has_the_people_asked_for(cohort):
    validate(cohort)
    counts = {(p, s): len(cohort.where(partition=p, split=s).subjects) for p in Partition for s in Split}
    assert counts == {
        (Partition.PUBLIC, Split.TRAIN): 24,
        (Partition.PUBLIC, Split.VALID): 8,
        (Partition.PUBLIC, Split.TEST): 0,
        (Partition.REVOCABLE, Split.TRAIN): 40,
        (Partition.REVOCABLE, Split.VALID): 0,
        (Partition.REVOCABLE, Split.TEST): 12,
    }


def test_channels_go_missing_at_the_rate_asked_for():
    for rate in (0.0, 0.3):
        assert np.abs(1 - synthetic_cohort(missing=rate).presence.mean(axis=0) - rate).max() < 0.05


def test_every_clip_keeps_a_channel_even_if_nearly_all_are_missing():
    assert synthetic_cohort(missing=0.95).presence.any(axis=1).all()


def test_each_channel_tells_something_and_more_channels_tell_more(cohort):
    told = {name: ridge_correlation(cohort, parse_pattern(name)) for name in ("t", "a", "v", "ta", "tv", "av", "tav")}
    assert all(told[name] > 0.3 for name in "tav")
    assert told["ta"] > max(told["t"], told["a"]) + 0.03
    assert told["tv"] > max(told["t"], told["v"]) + 0.03
    assert told["av"] > max(told["a"], told["v"]) + 0.03
    assert told["tav"] > max(told["ta"], told["tv"], told["av"])


def test_a_planted_trait_is_found_in_its_subject_and_in_nobody_else(cohort):
    for m in Modality:
        traits = np.stack([planted_trait(0, subject, m) for subject in cohort.subjects])
        assert np.allclose(np.linalg.norm(traits, axis=1), 1)
        present = [i for i in range(len(cohort)) if m in cohort.present(i)]
        strength = np.stack([cohort.feature(i, m) for i in present]) @ traits.T
        own = np.array([[cohort.rows[i].subject == subject for subject in cohort.subjects] for i in present])
        assert strength[own].mean() == pytest.approx(1.5, abs=0.15)
        assert strength[~own].mean() == pytest.approx(0, abs=0.15)


def test_without_strength_no_trait_is_planted(cohort):
    plain = synthetic_cohort(trait_strength=0.0)
    for i in (0, 900):
        for m in cohort.present(i):
            planted = cohort.feature(i, m) - plain.feature(i, m)
            expected = 1.5 * planted_trait(0, cohort.rows[i].subject, m)
            assert np.allclose(planted, expected, atol=1e-5)


def test_voice_and_face_can_be_sequences(same):
    cohort = synthetic_cohort(subjects=Subjects(2, 1, 2, 1), sequence=True)
    assert {m: c.kind for m, c in cohort.channels.items()} == {
        "text": "vector",
        "audio": "sequence",
        "vision": "sequence",
    }
    lengths = {len(x) for x in cohort.features[Modality.AUDIO] if x is not None}
    assert min(lengths) >= 3
    assert max(lengths) <= 12
    assert len(lengths) > 1
