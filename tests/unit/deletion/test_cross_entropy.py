"""Lines with cross-entropy heads: solved on the rows that are left, and left alone where no row of theirs changed."""

import dataclasses

import numpy as np
import pytest

from mbd.cohort.cohort import EVERYONE, Partition, Split
from mbd.cohort.modality import Modality
from mbd.deletion import downdate, lattice
from mbd.deletion.comparator import compare, refit
from mbd.deletion.engine import delete, plan
from mbd.deletion.outcome import Revocation
from mbd.errors import TrainingError
from mbd.lattice.cross_entropy import ASSUMPTIONS
from mbd.lattice.fit import fit_lattice, training_rows
from mbd.lattice.model import load_model, save_model
from mbd.lattice.release import ReleasePolicy, remove_noise, residual_bound
from mbd.privacy.guarantee import Certified, Exact
from mbd.privacy.noise import NoiseSource

NOISE = NoiseSource(b"n" * 32)
AUDIO = Modality.AUDIO


@pytest.fixture(scope="module")
def classes(random_cohort):
    return random_cohort(5, subjects=14, clips=4, classes=3)


@pytest.fixture(scope="module")
def line(classes, fit_small):
    return fit_small(classes, policy=ReleasePolicy(loss="cross-entropy"), noise=NOISE)


@pytest.fixture(scope="module")
def person(classes):
    return next(
        row.subject
        for i, row in enumerate(classes.rows)
        if (row.partition, row.split) == (Partition.REVOCABLE, Split.TRAIN) and AUDIO in classes.present(i)
    )


def deleted(model, cohort, *pairs, spent=()):
    asked = Revocation(frozenset(pairs), "ab" * 32)
    return delete(model, cohort, asked, noise=NOISE, occasion="line/2", spent=spent, salt=b"t" * 32)


def test_heads_lie_within_the_bound_of_a_refit_and_their_residual_is_certified(line, classes, person):
    outcome = deleted(line, classes, (person, AUDIO))
    assert outcome.mechanism == "lattice-newton"
    assert isinstance(outcome.guarantee, Certified)
    assert set(ASSUMPTIONS) <= set(outcome.guarantee.assumptions)
    reference = refit(line, classes, Revocation(frozenset({(person, AUDIO)}), "comparator"))
    assert all(found.distance <= found.bound for found in compare(outcome.model, reference).values())
    model = outcome.model
    rows = model.featurizer.head_rows(training_rows(classes.without({(person, AUDIO)})), salt=model.salt)
    for pattern, head in model.heads.items():
        mean = remove_noise(head, NOISE)
        bound = residual_bound(model.layout, model.statistics, pattern, mean, policy=model.policy, rows=rows)
        assert bound <= model.policy.tau


def test_the_heads_are_not_those_of_squared_errors(line, classes, fit_small):
    squared = fit_small(classes, noise=NOISE)
    pattern = line.layout.patterns[-1]
    assert np.abs(squared.heads[pattern].weights_DK - line.heads[pattern].weights_DK).max() > 0.01


def test_a_head_is_left_alone_only_where_no_row_of_its_blocks_changed(line, classes, person):
    outcome = deleted(line, classes, (person, AUDIO))
    assert set(outcome.updated) == {pattern for pattern in line.layout.patterns if AUDIO in pattern}
    for pattern in outcome.unchanged:
        assert np.array_equal(outcome.model.heads[pattern].weights_DK, line.heads[pattern].weights_DK)


def test_equal_statistics_do_not_leave_a_head_alone(line, classes, person, monkeypatch):
    """Statistics decide for squared heads; here they must not, even if they were equal by chance."""
    monkeypatch.setattr(lattice, "changed_heads", lambda layout, before, after: ())
    assert deleted(line, classes, (person, AUDIO)).updated


def test_noise_is_bound_to_the_rows_and_not_to_statistics_alone(line):
    contexts = {head.context for head in line.heads.values()}
    assert all('"rows"' in context for context in contexts)


def test_rows_without_a_heads_blocks_do_not_move_its_bits(classes, fit_small, person):
    text = frozenset({Modality.TEXT})
    policy = ReleasePolicy(loss="cross-entropy")
    without = classes.without({(person, Modality.TEXT)})
    gone = classes.select([i for i, row in enumerate(classes.rows) if row.subject != person])
    one, other = (fit_small(rows, policy=policy, noise=NOISE) for rows in (without, gone))
    assert np.array_equal(remove_noise(one.heads[text], NOISE), remove_noise(other.heads[text], NOISE))


def test_past_the_budget_and_for_everyone_it_is_exact(line, classes, person):
    past = deleted(line, classes, (person, AUDIO), spent=[10.0])
    assert (past.mechanism, type(past.guarantee)) == ("lattice-refit", Exact)
    everyone = deleted(line, classes, (EVERYONE, AUDIO))
    assert (everyone.mechanism, type(everyone.guarantee)) == ("lattice-drop", Exact)


def test_the_plan_says_that_all_rows_are_read(line, classes, person):
    asked = Revocation(frozenset({(person, AUDIO)}), "plan")
    planned = plan(line, classes, asked, spent=[])
    assert planned.mechanism == "lattice-newton"
    assert planned.rows_read == len(training_rows(classes.without({(person, AUDIO)})))


def test_a_saved_line_keeps_its_loss(line, tmp_path):
    save_model(line, tmp_path / "model", cohort_root="0" * 64)
    assert load_model(tmp_path / "model").policy == line.policy


def test_scores_have_no_cross_entropy(line, random_cohort):
    policy = dataclasses.replace(line.policy, heads=7)
    with pytest.raises(TrainingError, match="classes") as refused:
        fit_lattice(line.featurizer.backbone, random_cohort(1), policy=policy, noise=NOISE, purpose="", salt=b"s" * 32)
    assert "squared" in refused.value.remedy


def test_a_planted_bug_that_forgets_the_fallen_blocks_would_be_seen(line, classes, person, monkeypatch):
    honest = downdate.downdate

    def forgets(*given):
        return dataclasses.replace(honest(*given), fallen=frozenset())

    monkeypatch.setattr(lattice, "downdate", forgets)
    reference = refit(line, classes, Revocation(frozenset({(person, AUDIO)}), "comparator"))
    found = compare(deleted(line, classes, (person, AUDIO)).model, reference)
    assert not all(head.distance <= head.bound for head in found.values())
