"""At least 1,000 random deletion sequences: statistics equal a recomputation on D', bit for bit, at every step."""

import numpy as np
import pytest

from mbd.cohort.cohort import EVERYONE, Partition
from mbd.cohort.modality import Modality
from mbd.deletion.engine import delete
from mbd.deletion.outcome import Revocation
from mbd.errors import DeletionError
from mbd.lattice.fit import training_rows
from mbd.privacy.noise import NoiseSource

NOISE = NoiseSource(b"n" * 32)
SALT = b"t" * 32
COHORTS, SEQUENCES = 20, 51  # 1,020 sequences


def random_pairs(rng, cohort):
    """One or several subjects, modalities, everything of a person, or now and then a modality of everyone."""
    revocable = sorted({row.subject for row in cohort.rows if row.partition is Partition.REVOCABLE})
    kind = rng.random()
    if kind < 0.08 or not revocable:
        return {(EVERYONE, Modality(rng.choice(list(Modality))))}
    if kind < 0.2:
        subject = str(rng.choice(revocable))
        return {(subject, m) for m in Modality}
    return {(str(rng.choice(revocable)), Modality(rng.choice(list(Modality)))) for _ in range(rng.integers(1, 4))}


def check_heads(before, outcome, closure, *, falls):
    """Heads without a revoked modality keep their bits; a modality of everyone takes its heads; tau holds."""
    revoked = {modality for _, modality in closure}
    gone = {modality for subject, modality in closure if subject == EVERYONE}
    assert set(outcome.dropped) == {pattern for pattern in before.heads if pattern & gone}
    assert (
        {*outcome.updated, *outcome.unchanged} == set(outcome.model.heads) == set(before.heads) - set(outcome.dropped)
    )
    for pattern in outcome.unchanged:
        assert np.array_equal(outcome.model.heads[pattern].weights_DK, before.heads[pattern].weights_DK)
    if not falls:  # a label that falls takes its whole row along
        assert all(pattern & revoked for pattern in outcome.updated)
    assert all(bound <= before.policy.tau for bound in outcome.released.residual_bounds.values())


@pytest.mark.parametrize("seed", range(COHORTS))
def test_every_step_of_every_sequence_leaves_the_statistics_of_the_rows_that_remain(seed, random_cohort, fit_small):
    policy = "falls" if seed % 4 == 3 else "keeps"
    cohort = random_cohort(1000 + seed, subjects=9, clips=2, label_policy=policy, classes=3 if seed % 5 == 4 else 0)
    original = fit_small(cohort)
    rng = np.random.default_rng(seed)
    steps = 0
    for _ in range(SEQUENCES):
        model, remaining, spent = original, cohort, []
        for step in range(int(rng.integers(1, 5))):
            pairs = random_pairs(rng, remaining)
            revocation = Revocation(frozenset(pairs), f"{step:064x}")
            try:
                outcome = delete(
                    model, remaining, revocation, noise=NOISE, occasion=f"l/{step}", spent=spent, salt=SALT
                )
            except DeletionError as error:
                assert "without a single channel" in error.message  # a whole-modality request took the last one
                break
            remaining = remaining.without(pairs)
            kept = set(outcome.model.layout.modalities)
            order = rng.permutation(len(remaining)).tolist()
            recomputed = outcome.model.featurizer.statistics(
                training_rows(remaining.select(order)).restrict(kept), chunk_rows=int(rng.integers(1, 40))
            )
            assert outcome.model.statistics == recomputed
            check_heads(model, outcome, remaining.closure(pairs), falls=policy == "falls")
            model = outcome.model
            steps += 1
    assert steps >= SEQUENCES


def test_any_order_of_the_same_revocations_ends_in_the_same_bits(random_cohort, fit_small):
    rng = np.random.default_rng(0)
    for seed in range(10):
        cohort = random_cohort(seed, subjects=10)
        original = fit_small(cohort)
        revocable = sorted({row.subject for row in cohort.rows if row.partition is Partition.REVOCABLE})
        pairs = [(s, m) for s in revocable for m in Modality if rng.random() < 0.4]
        digests = set()
        for _ in range(3):
            model, remaining = original, cohort
            for index in rng.permutation(len(pairs)):
                revocation = Revocation(frozenset([pairs[index]]), f"{index:064x}")
                model = delete(model, remaining, revocation, noise=NOISE, occasion="l", spent=[], salt=SALT).model
                remaining = remaining.without([pairs[index]])
            digests.add(model.commitment)
        assert len(digests) == 1


def test_the_sequences_can_fail(random_cohort, fit_small):
    """A downdate that forgets one row is caught by the same equality."""
    cohort = random_cohort(1)
    model = fit_small(cohort)
    rows = training_rows(cohort)
    forgot = model.featurizer.statistics(rows.select(range(1, len(rows))))
    assert forgot != model.statistics
