import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbd.cohort.cohort import Partition, Split
from mbd.cohort.modality import Modality, pattern_name
from mbd.errors import CohortError, ExactnessError
from mbd.lattice.featurizer import Featurizer
from mbd.lattice.statistics import Grid


@pytest.fixture(scope="module")
def cohort(random_cohort):
    return random_cohort(1, subjects=12, clips=5)


@pytest.fixture(scope="module")
def featurizer(cohort, fit_small):
    return fit_small(cohort).featurizer


def test_features_are_integers_on_the_grid(cohort, featurizer):
    phi = featurizer.features(cohort, range(len(cohort)))
    assert np.array_equal(phi, np.rint(phi))
    assert np.abs(phi).max() == 2**11


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32))
def test_a_row_has_the_same_bits_in_every_batch_alone_and_in_any_order(cohort, featurizer, seed):
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(cohort))[: rng.integers(1, len(cohort))].tolist()
    alone = np.concatenate([featurizer.features(cohort, [i]) for i in rows])
    assert np.array_equal(featurizer.features(cohort, rows), alone)


def test_values_near_a_rounding_boundary_are_settled_by_the_row_alone(cohort, featurizer, monkeypatch):
    """With every value declared ambiguous, the careful path and the quick path still agree bit for bit."""
    quick = featurizer.features(cohort, range(len(cohort)))
    monkeypatch.setattr("mbd.lattice.featurizer._AMBIGUOUS", 1.0)
    assert np.array_equal(featurizer.features(cohort, range(len(cohort))), quick)


def shortened(feature):
    return feature if feature.ndim == 1 else feature[:1]


def test_a_block_is_a_function_of_its_own_channels_alone(cohort, featurizer):
    """Change every channel outside of a block: the block's integers stay the same bits."""
    full = next(i for i in range(len(cohort)) if len(cohort.present(i)) == 3)
    before = featurizer.features(cohort, [full])[0]
    for block in featurizer.layout.blocks:
        others = [m for m in Modality if m not in block.channels]
        noise = {
            m: tuple(None if f is None else (f if f.ndim == 1 else f[:1]) * -7 + 3 for f in cohort.features[m])
            for m in others
        }
        changed = dataclasses.replace(cohort, features={**cohort.features, **noise})
        after = featurizer.features(changed, [full])[0]
        assert np.array_equal(after[block.start : block.stop], before[block.start : block.stop]), pattern_name(
            block.channels
        )
        if others:
            assert not np.array_equal(after, before)


def test_an_absent_block_is_all_zeros_indicator_included(cohort, featurizer):
    phi = featurizer.features(cohort, range(len(cohort)))
    for i in range(len(cohort)):
        for block in featurizer.layout.blocks:
            part = phi[i, block.start : block.stop]
            assert part[-1] == (2**11 if block.channels <= cohort.present(i) else 0)
            assert block.channels <= cohort.present(i) or not part.any()


def test_every_constant_comes_from_public_rows(cohort, featurizer):
    """Revocable rows, replaced by something absurd, change no constant."""
    absurd = {
        m: tuple(
            f if f is None or row.partition is Partition.PUBLIC else f * 1e6
            for f, row in zip(column, cohort.rows, strict=True)
        )
        for m, column in cohort.features.items()
    }
    changed = dataclasses.replace(cohort, features=absurd)
    public = changed.where(partition=Partition.PUBLIC, split=Split.TRAIN)
    again = Featurizer.fit(featurizer.backbone, public)
    for group, scaling in featurizer.scalings.items():
        assert np.array_equal(scaling.centre, again.scalings[group].centre)
        assert np.array_equal(scaling.factor, again.scalings[group].factor)


@pytest.mark.parametrize("chunk_rows", [1, 7, 1000])
def test_chunks_of_any_size_give_the_same_statistics(cohort, featurizer, chunk_rows):
    assert featurizer.statistics(cohort, chunk_rows=chunk_rows) == featurizer.statistics(cohort)


def test_too_many_rows_are_refused_before_a_single_one_is_summed(cohort, featurizer):
    coarse = dataclasses.replace(featurizer, grid=Grid(feature_bits=25, label_limit=3072))
    with pytest.raises(ExactnessError, match="fewer feature bits"):
        coarse.statistics(cohort)


def test_a_combination_that_no_public_row_shows_is_refused(cohort, featurizer):
    public = cohort.where(partition=Partition.PUBLIC, split=Split.TRAIN)
    alone = [i for i in range(len(public)) if len(public.present(i)) == 1]
    with pytest.raises(CohortError, match="every combination"):
        Featurizer.fit(featurizer.backbone, public.select(alone))
