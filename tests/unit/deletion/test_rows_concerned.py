"""A deletion reads the rows of the people concerned and nobody else's, and ends in the same bits as if it read all."""

import dataclasses
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbd.cohort.cohort import EVERYONE, Partition, Split
from mbd.cohort.modality import Modality
from mbd.deletion import downdate as downdating
from mbd.deletion import lattice
from mbd.deletion.downdate import changed_heads, downdate
from mbd.deletion.engine import delete
from mbd.deletion.outcome import Revocation
from mbd.errors import DeletionError
from mbd.lattice import featurizer as featurizing
from mbd.lattice.fit import training_rows
from mbd.privacy.noise import NoiseSource


def run(model, cohort, pairs, *, spent=()):
    return delete(
        model,
        cohort,
        Revocation(frozenset(pairs), "ab" * 32),
        noise=NoiseSource(b"n" * 32),
        occasion="line/2",
        spent=spent,
        salt=b"t" * 32,
    )


@pytest.fixture(scope="module")
def made(random_cohort, fit_small):
    """``made(seed, label_policy)``: a random cohort and its model."""

    @cache
    def make(seed, label_policy):
        cohort = random_cohort(seed, subjects=11, label_policy=label_policy)
        return cohort, fit_small(cohort)

    return make


class Sealed(tuple):
    """A column of a cohort in which, once ``readable`` is set, reading any other entry is an error."""

    readable = None

    def __getitem__(self, i):
        if self.readable is not None and i not in self.readable:
            raise AssertionError(f"row {i} was read")
        return super().__getitem__(i)

    def __iter__(self):
        if self.readable is not None:
            raise AssertionError("all rows were read")
        return super().__iter__()


def sealed_but_for(cohort, subjects):
    """The same cohort, whose rows and features of everyone else cannot be read any more."""
    sealed = dataclasses.replace(
        cohort, rows=Sealed(cohort.rows), features={m: Sealed(column) for m, column in cohort.features.items()}
    )
    index = sealed.rows_of  # made once a cohort
    readable = {i for subject in subjects for i in index[subject]}
    for column in (sealed.rows, *sealed.features.values()):
        column.readable = readable
    return sealed


def speaker(cohort):
    """A revocable training subject who has a voice."""
    return next(
        row.subject
        for i, row in enumerate(cohort.rows)
        if (row.partition, row.split) == (Partition.REVOCABLE, Split.TRAIN) and Modality.AUDIO in cohort.present(i)
    )


def summary(outcome):
    """Everything that an outcome says, weights and contexts included, in comparable form."""
    heads = {pattern: (head.weights_DK.tobytes(), head.context) for pattern, head in outcome.model.heads.items()}
    return (
        heads,
        {name: array.tobytes() for name, array in outcome.model.statistics.arrays().items()},
        (outcome.mechanism, outcome.guarantee, outcome.updated, outcome.unchanged, outcome.dropped),
        outcome.rows_touched,
        outcome.released.residual_bounds,
    )


@settings(max_examples=40)
@given(
    seed=st.integers(0, 3),
    label_policy=st.sampled_from(["keeps", "falls"]),
    subjects=st.sets(st.sampled_from([EVERYONE, "nobody", *(f"s{k}" for k in range(11))]), min_size=1, max_size=4),
    modalities=st.sets(st.sampled_from(list(Modality)), min_size=1, max_size=3),
    past_the_budget=st.booleans(),
)
def test_reading_only_the_people_concerned_changes_no_bit_of_the_outcome(
    made, *, seed, label_policy, subjects, modalities, past_the_budget
):
    cohort, model = made(seed, label_policy)
    pairs = {(subject, modality) for subject in subjects for modality in modalities}
    if EVERYONE in subjects and modalities == set(Modality):
        with pytest.raises(DeletionError, match="take the line out of service"):
            run(model, cohort, pairs)
        return
    spent = [1.0] if past_the_budget else []
    narrow = run(model, cohort, pairs, spent=spent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lattice, "_concerned", lambda everybody, closure: everybody)
        wide = run(model, cohort, pairs, spent=spent)
    assert summary(narrow) == summary(wide)


def test_nobody_elses_row_is_read(made):
    cohort, model = made(0, "keeps")
    someone = speaker(cohort)
    sealed = sealed_but_for(cohort, [someone])
    outcome = run(model, sealed, {(someone, Modality.AUDIO)})
    assert outcome.mechanism == "lattice-newton"
    assert outcome.rows_touched > 0
    with pytest.raises(AssertionError, match="read"):
        sealed.where(subject=someone)


def test_a_modality_of_everyone_leaves_without_a_row_being_read(made):
    cohort, model = made(0, "keeps")
    outcome = run(model, sealed_but_for(cohort, []), {(EVERYONE, Modality.AUDIO)})
    assert (outcome.mechanism, outcome.rows_touched) == ("lattice-drop", 0)


def test_a_refit_reads_every_row(made):
    cohort, model = made(0, "keeps")
    someone = speaker(cohort)
    with pytest.raises(AssertionError, match="read"):
        run(model, sealed_but_for(cohort, [someone]), {(someone, Modality.AUDIO)}, spent=[1.0])


@pytest.mark.parametrize("chunk", [1, 3])
def test_rows_are_taken_out_in_chunks_of_any_size(made, monkeypatch, chunk):
    cohort, model = made(1, "keeps")
    before = training_rows(cohort)
    after = before.without({(subject, Modality.TEXT) for subject in before.subjects})
    monkeypatch.setattr(downdating, "CHUNK_ROWS", chunk)
    monkeypatch.setattr(featurizing, "BATCH_ROWS", 2)
    down = downdate(model.featurizer, model.statistics, before, after)
    assert down.statistics == model.featurizer.statistics(after)
    assert down.rows_touched > chunk


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32))
def test_a_head_counts_as_changed_exactly_when_a_number_of_its_own_changed(made, seed):
    _, model = made(0, "keeps")
    rng = np.random.default_rng(seed)
    layout, before = model.layout, model.statistics
    gram, moment = before.gram.copy(), before.moment.copy()
    i, j, k = rng.integers(layout.width, size=3)
    if rng.random() < 0.5:
        gram[i, j] += 1
        touched = {i, j}
    else:
        moment[k, 0] += 1
        touched = {k}
    changed = changed_heads(layout, before, dataclasses.replace(before, gram=gram, moment=moment))
    assert changed == tuple(p for p in layout.patterns if touched <= set(layout.coordinates(p).tolist()))
