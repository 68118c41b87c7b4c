"""A tower sees one channel and the labels; its constants come from public rows; rows and seed decide every bit."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mbd.backbones.weights import weights_digest
from mbd.cohort.batch import make_batch
from mbd.cohort.cohort import Partition, Split
from mbd.cohort.modality import Modality
from mbd.errors import CohortError, TrainingError
from mbd.training.tower import only_channel, train_headed, train_tower
from mbd.training.tower_recipe import TowerRecipe

every_modality = pytest.mark.parametrize("modality", list(Modality))


@pytest.fixture(scope="module")
def public(cohort):
    return cohort.where(partition=Partition.PUBLIC, split=Split.TRAIN)


@pytest.fixture(scope="module")
def rows(cohort):
    return cohort.where(partition=Partition.REVOCABLE, split=Split.TRAIN)


def quick(modality, **changes):
    return TowerRecipe(modality, width=6, epochs=2, **changes)


@every_modality
def test_the_other_channels_are_never_read(rows, public, modality):
    def poison(cohort):
        others = {
            m: tuple(None if x is None else np.full_like(x, np.nan) for x in column) if m != modality else column
            for m, column in cohort.features.items()
        }
        return replace(cohort, features=others)

    before = train_tower(quick(modality), rows, 3, public=public)
    after = train_tower(quick(modality), poison(rows), 3, public=poison(public))
    assert weights_digest(before) == weights_digest(after)
    batch, poisoned = make_batch(rows, range(5)), make_batch(poison(rows), range(5))
    assert torch.equal(before(batch), before(poisoned))


@every_modality
def test_an_embedding_depends_on_its_own_row_alone_and_is_zero_without_the_channel(rows, public, modality):
    tower = train_tower(quick(modality), rows, 3, public=public).double()
    together = tower(make_batch(rows, range(len(rows)), torch.float64))
    assert together.shape == (len(rows), tower.embedding_dim)
    for i in range(len(rows)):
        alone = tower(make_batch(rows, [i], torch.float64))[0]
        assert torch.allclose(alone, together[i], rtol=0, atol=1e-12)
        assert bool(alone.any()) == (modality in rows.present(i))


def test_the_same_rows_and_seed_give_the_same_bits_and_leave_the_callers_generator_alone(rows, public):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = train_tower(quick("audio"), rows, 3, public=public)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert weights_digest(train_tower(quick("audio"), rows, 3, public=public)) == weights_digest(first)
    assert weights_digest(train_tower(quick("audio"), rows, 4, public=public)) != weights_digest(first)


def test_constants_of_standardisation_come_from_public_rows_alone(rows, public):
    def constants(some_rows):
        return weights_digest(train_tower(quick("text"), some_rows, 3, public=public).standardiser)

    assert constants(rows) == constants(public)


def test_it_learns(rows, public):
    def loss(epochs):
        headed = train_headed(replace(quick("text"), epochs=epochs), rows, 3, public=public)
        own = only_channel(rows, "text")
        with torch.no_grad():
            return headed.loss(make_batch(own, range(len(own)))).item()

    assert loss(40) < 0.8 * loss(1)


def test_no_epochs_leave_the_initial_weights(rows, public):
    untrained = replace(quick("text"), epochs=0)
    on_rows = train_tower(untrained, rows, 3, public=public)
    assert weights_digest(on_rows) == weights_digest(train_tower(untrained, public, 3, public=public))


def test_a_tower_without_rows_or_without_its_channel_is_refused(rows, public):
    nobody = rows.select([])
    with pytest.raises(TrainingError, match="no rows with audio to train"):
        train_tower(quick("audio"), nobody, 0, public=public)
    with pytest.raises(TrainingError, match="no rows with audio to take public constants"):
        train_tower(quick("audio"), rows, 0, public=nobody)
    with pytest.raises(TrainingError, match="no channel audio"):
        train_tower(quick("audio"), rows.restrict([Modality.TEXT]), 0, public=public)


def test_an_impossible_recipe_is_refused():
    with pytest.raises(TrainingError, match="batch_size, width"):
        TowerRecipe("text", width=0, batch_size=0)
    with pytest.raises(CohortError, match="not a modality"):
        TowerRecipe("smell")
