"""Retraining equals never having had the channels, and reads nothing else."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mbd.backbones.weights import weights_digest
from mbd.cohort.cohort import Partition, Split
from mbd.cohort.modality import Modality
from mbd.deletion.retrain import retrain
from mbd.errors import TrainingError
from mbd.privacy.guarantee import Exact
from mbd.training.loop import train

AUDIO = Modality.AUDIO


def never_had(cohort, subject, modality):
    """The cohort of a world in which the subject never gave the channel; built without `Cohort.without`."""
    column = tuple(
        None if row.subject == subject else x for row, x in zip(cohort.rows, cohort.features[modality], strict=True)
    )
    other = replace(cohort, features={**cohort.features, modality: column})
    return other.select([i for i in range(len(other)) if any(f[i] is not None for f in other.features.values())])


def test_it_equals_training_on_a_cohort_that_never_had_the_channels_bit_for_bit(
    entangled, entangled_cohort, someone_revocable, quick_recipe
):
    retrained = retrain(quick_recipe, entangled_cohort.without([(someone_revocable, AUDIO)]), seed=0)
    imagined = never_had(entangled_cohort, someone_revocable, AUDIO)
    reference = train(quick_recipe, imagined, seed=0, partitions=tuple(Partition))
    ours, theirs = retrained.backbone.state_dict(), reference.backbone.state_dict()
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert retrained.transcript.to_bytes() == reference.transcript.to_bytes()
    assert weights_digest(retrained.backbone) != weights_digest(entangled)


def test_it_is_exact_and_says_what_equals_what(entangled_cohort, someone_revocable, quick_recipe):
    after = entangled_cohort.without([(someone_revocable, AUDIO)])
    retrained = retrain(quick_recipe, after, seed=0)
    assert isinstance(retrained.guarantee, Exact)
    assert any("bit for bit" in text for text in retrained.guarantee.equalities)
    trained_on = after.where(split=Split.TRAIN)
    revocable = len(trained_on.where(partition=Partition.REVOCABLE))
    assert retrained.report["rows"] == {"train": len(trained_on), "valid": 16, "revocable": revocable}
    assert "epsilon" not in str(retrained.report)


def test_rows_of_test_people_are_not_read(entangled_cohort, quick_recipe):
    features = {
        m: tuple(
            np.full_like(x, np.nan) if x is not None and row.split is Split.TEST else x
            for row, x in zip(entangled_cohort.rows, column, strict=True)
        )
        for m, column in entangled_cohort.features.items()
    }
    one_epoch = replace(quick_recipe, epochs=1)
    poisoned = retrain(one_epoch, replace(entangled_cohort, features=features), seed=0)
    assert poisoned.transcript.to_bytes() == retrain(one_epoch, entangled_cohort, seed=0).transcript.to_bytes()


def test_a_checkpoint_of_the_run_with_the_withdrawn_channels_is_refused(
    entangled_cohort, someone_revocable, quick_recipe, tmp_path
):
    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        retrain(quick_recipe, entangled_cohort, seed=0, checkpoint_dir=tmp_path, on_progress=stop)
    with pytest.raises(TrainingError, match="belongs to another run: data differ"):
        retrain(quick_recipe, entangled_cohort.without([(someone_revocable, AUDIO)]), seed=0, checkpoint_dir=tmp_path)
