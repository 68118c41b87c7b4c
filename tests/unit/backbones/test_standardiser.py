"""Constants of the rows given, the identity before, and zero wherever nothing was observed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mbd.backbones.standardiser import LIMIT, Standardiser
from mbd.cohort.cohort import Channel, Cohort, Partition, Row, Split, Task
from mbd.cohort.modality import Modality

TEXT, AUDIO, _ = Modality


@pytest.fixture
def cohort():
    """Two channels, a sequence among them; a feature that never varies; row 1 has no text."""
    return Cohort(
        name="three rows",
        description="",
        synthetic=True,
        task=Task("regression", low=-3.0, high=3.0),
        channels={TEXT: Channel(TEXT, "vector", 2, "none"), AUDIO: Channel(AUDIO, "sequence", 1, "none")},
        rows=tuple(
            Row(f"clip-{i}", "someone", label, Partition.PUBLIC, Split.TRAIN) for i, label in enumerate([1, 2, 3])
        ),
        features={
            TEXT: (np.array([1, 7], np.float32), None, np.array([3, 7], np.float32)),
            AUDIO: tuple(np.array(x, np.float32).reshape(-1, 1) for x in ([0.0], [0.0, 0.0, 10.0], [10.0, 10.0])),
        },
    )


@pytest.fixture
def fitted(cohort):
    standardiser = Standardiser({TEXT: 2, AUDIO: 1}, outputs=1)
    standardiser.fit(cohort)
    return standardiser


def test_means_and_deviations_count_present_rows_and_single_frames(fitted):
    assert fitted.text_mean.tolist() == [2.0, 7.0]
    assert fitted.text_scale.tolist() == [1.0, 1.0]
    assert fitted.audio_mean.tolist() == [5.0]
    assert fitted.audio_scale.tolist() == [5.0]
    assert fitted.target_mean.tolist() == [2.0]
    assert fitted.target_scale.item() == pytest.approx(np.sqrt(2 / 3))


def test_a_constant_feature_stays_finite(fitted):
    standard = fitted.features(TEXT, torch.tensor([[[2.0, 7.0]]]), torch.tensor([[True]]))
    assert standard.tolist() == [[[0.0, 0.0]]]


def test_a_feature_of_small_numbers_is_not_mistaken_for_a_constant(cohort, fitted):
    small = replace(
        cohort,
        features={**cohort.features, TEXT: tuple(None if x is None else x * 1e-9 for x in cohort.features[TEXT])},
    )
    fitted.fit(small)
    assert fitted.text_scale.tolist() == pytest.approx([1e-9, 1.0])


def test_outliers_are_clipped(fitted):
    standard = fitted.features(AUDIO, torch.tensor([[[1e9], [-1e9]]]), torch.ones(1, 2, dtype=torch.bool))
    assert standard.flatten().tolist() == [LIMIT, -LIMIT]


def test_what_was_not_observed_is_zero_even_where_a_nan_stands(fitted):
    standard = fitted.features(AUDIO, torch.tensor([[[torch.nan], [10.0]]]), torch.tensor([[False, True]]))
    assert standard.flatten().tolist() == [0.0, 1.0]


def test_predictions_undo_what_is_done_to_targets(fitted):
    target = torch.tensor([[-3.0], [0.5]])
    assert torch.allclose(fitted.prediction(fitted.target(target)), target)


def test_it_is_the_identity_until_it_is_fitted():
    standardiser, x = Standardiser({AUDIO: 1}, outputs=2), torch.tensor([[[0.5]]])
    assert torch.equal(standardiser.features(AUDIO, x, torch.tensor([[True]])), x)
    assert torch.equal(standardiser.target(torch.tensor([[1.0, 2.0]])), torch.tensor([[1.0, 2.0]]))
