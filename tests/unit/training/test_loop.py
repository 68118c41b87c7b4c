"""One loop: seeded, blind to revocable and test rows, chosen on validation alone, and the same after a kill."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mbd.backbones.mbd import MissingByDesign
from mbd.backbones.standardiser import Standardiser
from mbd.backbones.tensorfile import read_tensors
from mbd.backbones.weights import weights_digest
from mbd.cohort.cohort import Partition, Split
from mbd.cohort.modality import pattern_name
from mbd.errors import TrainingError
from mbd.training.checkpoint import KIND, NAME
from mbd.training.data import data_digest, public_rows
from mbd.training.loop import train
from mbd.training.recipe import Recipe


class StoppedError(Exception):
    """Raised by a progress callback to break off a run."""


def break_off_after(epochs):
    def on_progress(done, _epochs, _metrics):
        if done == epochs:
            raise StoppedError

    return on_progress


def poison(cohort):
    """NaN in every feature and label that training must not read."""

    def hidden(row):
        return row.partition is Partition.REVOCABLE or row.split is Split.TEST

    return replace(
        cohort,
        rows=tuple(replace(row, label=float("nan")) if hidden(row) else row for row in cohort.rows),
        features={
            m: tuple(
                x if x is None or not hidden(row) else np.full_like(x, np.nan)
                for x, row in zip(column, cohort.rows, strict=True)
            )
            for m, column in cohort.features.items()
        },
    )


def test_the_same_seed_gives_the_same_weights_bit_for_bit_whatever_the_global_generator_did(cohort, recipe):
    torch.manual_seed(1)
    first = train(recipe, cohort, seed=7)
    torch.manual_seed(2)
    second = train(recipe, cohort, seed=7)
    assert first.transcript.to_bytes() == second.transcript.to_bytes()
    assert weights_digest(first.backbone) == weights_digest(second.backbone)


def test_another_seed_gives_other_weights(cohort, recipe):
    digests = {train(recipe, cohort, seed=seed).transcript.weights_digest for seed in (0, 1)}
    assert len(digests) == 2


def test_the_callers_generator_and_threads_are_left_as_they_were(cohort, recipe):
    torch.manual_seed(3)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    train(replace(recipe, epochs=1, threads=2), cohort, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_revocable_and_test_rows_are_never_read(cohort, recipe):
    clean, poisoned = train(recipe, cohort, seed=0), train(recipe, poison(cohort), seed=0)
    assert clean.transcript.to_bytes() == poisoned.transcript.to_bytes()


def test_a_cohort_without_revocable_rows_gives_the_same_weights(cohort, recipe):
    public = cohort.where(partition=Partition.PUBLIC)
    assert train(recipe, cohort, seed=0).transcript.digest == train(recipe, public, seed=0).transcript.digest


def test_revocable_rows_train_only_when_they_are_named_and_never_select(cohort, recipe):
    public = train(recipe, cohort, seed=0).transcript
    entangled = train(recipe, cohort, seed=0, partitions=tuple(Partition)).transcript
    training = cohort.where(split=Split.TRAIN)
    revocable = len(training.where(partition=Partition.REVOCABLE))
    assert entangled.rows == {"train": len(training), "valid": public.rows["valid"], "revocable": revocable}
    assert set(public.rows) == {"train", "valid"}
    assert entangled.weights_digest != public.weights_digest
    only = train(recipe, cohort, seed=0, partitions=(Partition.REVOCABLE,)).transcript
    assert only.rows == {"train": revocable, "valid": public.rows["valid"], "revocable": revocable}


def test_constants_of_an_entangled_backbone_come_from_all_its_training_rows(cohort, recipe):
    backbone = train(replace(recipe, epochs=1), cohort, seed=0, partitions=tuple(Partition)).backbone
    reference = Standardiser({m: s.dim for m, s in backbone.interface.channels.items()}, 1)
    reference.fit(cohort.where(split=Split.TRAIN))
    constants = backbone.standardiser.state_dict()
    assert all(torch.equal(constants[name], constant) for name, constant in reference.state_dict().items())


def test_test_rows_are_not_read_by_an_entangled_run_either(cohort, recipe):
    one, without = (
        train(replace(recipe, epochs=1), rows, seed=0, partitions=tuple(Partition)).transcript
        for rows in (cohort, cohort.select([i for i, row in enumerate(cohort.rows) if row.split is not Split.TEST]))
    )
    assert one.to_bytes() == without.to_bytes()


def test_partitions_without_training_rows_are_refused(cohort, recipe):
    public = cohort.where(partition=Partition.PUBLIC)
    with pytest.raises(TrainingError, match=r"has no training rows in the partitions \['revocable'\]"):
        train(recipe, public, seed=0, partitions=(Partition.REVOCABLE,))


def test_each_public_training_row_shapes_the_weights(cohort, recipe):
    rows = [i for i, r in enumerate(cohort.rows) if (r.partition, r.split) == (Partition.PUBLIC, Split.TRAIN)]
    fewer = cohort.select([i for i in range(len(cohort)) if i != rows[0]])
    assert (
        train(recipe, fewer, seed=0).transcript.weights_digest
        != train(recipe, cohort, seed=0).transcript.weights_digest
    )


def test_validation_rows_choose_the_epoch_and_shape_nothing_else(cohort, recipe):
    """Without patience to run out, other validation labels can change the choice, never the losses of training."""

    def relabel(row):
        return replace(row, label=-row.label) if row.split is Split.VALID else row

    other = replace(cohort, rows=tuple(map(relabel, cohort.rows)))
    before, after = train(recipe, cohort, seed=0).transcript, train(recipe, other, seed=0).transcript
    assert [e.losses for e in before.curve] == [e.losses for e in after.curve]
    assert [e.score for e in before.curve] != [e.score for e in after.curve]


def test_the_chosen_epoch_has_the_lowest_mean_over_all_patterns(cohort, recipe):
    transcript = train(replace(recipe, epochs=8), cohort, seed=0).transcript
    names = {pattern_name(pattern) for pattern in cohort.patterns}
    assert all(set(epoch.validation) == names for epoch in transcript.curve)
    scores = [float(np.mean(list(epoch.validation.values()))) for epoch in transcript.curve]
    assert scores == [epoch.score for epoch in transcript.curve]
    assert transcript.chosen_epoch == int(np.argmin(scores))


def test_the_weights_kept_are_those_of_the_chosen_epoch(cohort, recipe, tmp_path):
    """A learning rate this large gets worse after the first epochs, so that the last weights are not the best."""
    hasty = replace(recipe, epochs=10, learning_rate=0.1)
    trained = train(hasty, cohort, seed=0)
    chosen = trained.transcript.chosen_epoch
    assert chosen < 9
    with pytest.raises(StoppedError):
        train(hasty, cohort, seed=0, checkpoint_dir=tmp_path, on_progress=break_off_after(chosen + 1))
    tensors, _ = read_tensors(tmp_path / NAME, kind=KIND)
    assert all(torch.equal(tensors[f"weights:{name}"], w) for name, w in trained.backbone.state_dict().items())


def test_training_stops_when_patience_runs_out(cohort, recipe):
    transcript = train(replace(recipe, epochs=60, learning_rate=0.3, patience=3), cohort, seed=0).transcript
    assert len(transcript.curve) == transcript.chosen_epoch + 1 + 3


def test_training_teaches_something_about_people_never_seen(cohort):
    """The validation loss is in units of the training labels' variance: the mean alone would reach about 1."""
    transcript = train(Recipe(epochs=30), cohort, seed=0).transcript
    assert transcript.curve[transcript.chosen_epoch].score < 0.7


def test_progress_is_told_after_each_epoch(cohort, recipe):
    told = []
    train(recipe, cohort, seed=0, on_progress=lambda *news: told.append(news))
    assert [(done, epochs) for done, epochs, _ in told] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert all({"task", "validation"} <= set(metrics) for *_, metrics in told)


@pytest.mark.parametrize("epochs_before", [1, 2, 3])
def test_a_run_that_was_broken_off_ends_with_the_same_transcript(cohort, recipe, tmp_path, epochs_before):
    whole = train(recipe, cohort, seed=0)
    with pytest.raises(StoppedError):
        train(recipe, cohort, seed=0, checkpoint_dir=tmp_path, on_progress=break_off_after(epochs_before))
    told = []
    resumed = train(recipe, cohort, seed=0, checkpoint_dir=tmp_path, on_progress=lambda done, *_: told.append(done))
    assert told == list(range(epochs_before + 1, 5))
    assert resumed.transcript.to_bytes() == whole.transcript.to_bytes()
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_resume_starts_again(cohort, recipe, tmp_path):
    with pytest.raises(StoppedError):
        train(recipe, cohort, seed=0, checkpoint_dir=tmp_path, on_progress=break_off_after(2))
    told = []
    train(recipe, cohort, seed=0, checkpoint_dir=tmp_path, resume=False, on_progress=lambda done, *_: told.append(done))
    assert told == [1, 2, 3, 4]


@pytest.mark.parametrize("what", ["recipe", "data", "seed"])
def test_another_runs_checkpoint_is_refused_and_named(cohort, recipe, tmp_path, what):
    with pytest.raises(StoppedError):
        train(recipe, cohort, seed=0, checkpoint_dir=tmp_path, on_progress=break_off_after(1))
    other_recipe = replace(recipe, weight_decay=0.5) if what == "recipe" else recipe
    other_cohort = cohort.where(subject=cohort.subjects[0]) if what == "data" else cohort
    if what == "data":
        other_cohort = cohort.select(range(1, len(cohort)))
    with pytest.raises(TrainingError, match=f"belongs to another run: {what} differ"):
        train(other_recipe, other_cohort, seed=1 if what == "seed" else 0, checkpoint_dir=tmp_path)


@pytest.mark.parametrize("split", [Split.TRAIN, Split.VALID])
def test_a_cohort_without_public_rows_is_refused(cohort, recipe, split):
    kept = [i for i, r in enumerate(cohort.rows) if r.partition is Partition.REVOCABLE or r.split is not split]
    with pytest.raises(TrainingError, match="has no public rows to"):
        train(recipe, cohort.select(kept), seed=0)


def test_an_unknown_backbone_is_refused(cohort, recipe):
    with pytest.raises(TrainingError, match="There is no backbone 'guess'"):
        train(replace(recipe, backbone="guess"), cohort, seed=0)


def test_features_that_are_not_finite_are_refused_instead_of_trained_on(cohort, recipe):
    def spoil(column):
        return tuple(None if x is None else np.full_like(x, np.nan) for x in column)

    spoilt = replace(cohort, features={m: spoil(column) for m, column in cohort.features.items()})
    with pytest.raises(TrainingError, match="Training diverged"):
        train(recipe, spoilt, seed=0)


def test_the_data_digest_follows_every_value_and_no_name(cohort):
    part, _ = public_rows(cohort)
    digest = data_digest(part)
    renamed = replace(part, rows=tuple(replace(row, clip=f"x{row.clip}", subject="who") for row in part.rows))
    assert data_digest(renamed) == digest
    assert data_digest(renamed, context=True) == data_digest(part, context=True) != digest
    backwards = tuple(replace(row, clip=f"x{1000 - i}") for i, row in enumerate(part.rows))
    assert data_digest(replace(part, rows=backwards), context=True) != data_digest(part, context=True)
    relabelled = replace(part, rows=(replace(part.rows[0], label=0.1), *part.rows[1:]))
    assert data_digest(relabelled) != digest
    for modality in part.modalities:
        column = part.features[modality]
        first = next(i for i, x in enumerate(column) if x is not None)
        moved = tuple(np.nextafter(x, np.inf, dtype=np.float32) if i == first else x for i, x in enumerate(column))
        absent = tuple(None if i == first else x for i, x in enumerate(column))
        for changed in (moved, absent):
            assert data_digest(replace(part, features={**part.features, modality: changed})) != digest


def test_each_step_is_shown_with_its_gradients_and_looking_changes_nothing(cohort, recipe):
    norms = []

    def look(backbone):
        norms.append(sum(float(p.grad.square().sum()) for p in backbone.parameters() if p.grad is not None))

    seen, unseen = train(recipe, cohort, seed=0, on_step=look), train(recipe, cohort, seed=0)
    rows = len(public_rows(cohort)[0])
    assert len(norms) == len(seen.transcript.curve) * -(-rows // recipe.batch_size)
    assert min(norms) > 0
    assert weights_digest(seen.backbone) == weights_digest(unseen.backbone)


def test_a_network_is_told_each_epoch_before_it(cohort, recipe, monkeypatch):
    told = []
    monkeypatch.setattr(MissingByDesign, "begin_epoch", lambda self, epoch, epochs: told.append((epoch, epochs)))
    done = train(recipe, cohort, seed=0)
    assert told == [(n, recipe.epochs) for n in range(len(done.transcript.curve))]


def test_weights_of_a_later_stage_are_kept_also_where_those_of_an_earlier_one_are_better(cohort, recipe, monkeypatch):
    scores = [epoch.score for epoch in train(recipe, cohort, seed=0).transcript.curve]
    assert scores[1] != min(scores)
    for later, kept in ({1}, 1), ({0, 1}, min((0, 1), key=scores.__getitem__)), (set(), scores.index(min(scores))):
        monkeypatch.setattr(MissingByDesign, "stage", lambda self, epoch, epochs, later=later: int(epoch in later))
        assert train(recipe, cohort, seed=0).transcript.chosen_epoch == kept


def test_a_network_that_reads_the_clip_before_is_given_it_in_training_and_selection(cohort, recipe, monkeypatch):
    seen = {True: 0, False: 0}
    forward = MissingByDesign.forward

    def watched(self, batch):
        assert batch.context is not None
        assert len(batch.context.present) == len(batch.present)
        seen[self.training] += int(batch.context.present.any())
        return forward(self, batch)

    monkeypatch.setattr(MissingByDesign, "reads_context", True)
    monkeypatch.setattr(MissingByDesign, "forward", watched)
    before = train(recipe, cohort, seed=0)
    assert min(seen.values()) > 0
    monkeypatch.undo()
    alone = train(recipe, cohort, seed=0)
    assert weights_digest(before.backbone) == weights_digest(alone.backbone)
    assert before.transcript.data_digest != alone.transcript.data_digest
