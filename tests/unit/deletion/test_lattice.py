"""What a deletion does to a lattice model, and what it may claim."""

import dataclasses

import numpy as np
import pytest

from mbd.cohort.cohort import EVERYONE, Partition, Split
from mbd.cohort.modality import Modality, parse_pattern, pattern_name
from mbd.deletion.comparator import compare, refit
from mbd.deletion.engine import delete
from mbd.deletion.outcome import Revocation
from mbd.errors import DeletionError, NotCertifiedError
from mbd.lattice.fit import training_rows
from mbd.lattice.release import ReleasePolicy, remove_noise
from mbd.privacy.gaussian import compose, epsilon_of, mu_of
from mbd.privacy.guarantee import Certified, Exact
from mbd.privacy.noise import NoiseSource

AUDIO, TEXT = Modality.AUDIO, Modality.TEXT
NOISE = NoiseSource(b"n" * 32)
SALT = b"t" * 32


def run(model, cohort, *pairs, spent=(), noise=NOISE, occasion="line/2"):
    revocation = Revocation(frozenset(pairs), "ab" * 32)
    return delete(model, cohort, revocation, noise=noise, occasion=occasion, spent=spent, salt=SALT), revocation


def names(patterns):
    return [pattern_name(pattern) for pattern in patterns]


def test_one_voice_updates_the_heads_with_audio_and_leaves_the_others_bit_for_bit(model, cohort, someone):
    outcome, revocation = run(model, cohort, (someone, AUDIO))
    assert names(outcome.updated) == ["a", "ta", "av", "tav"]
    assert names(outcome.unchanged) == ["t", "v", "tv"]
    for pattern in outcome.unchanged:
        assert np.array_equal(outcome.model.heads[pattern].weights_DK, model.heads[pattern].weights_DK)
    assert outcome.model.statistics == refit(model, cohort, revocation).statistics
    assert outcome.model.statistics != model.statistics


def test_released_weights_lie_within_the_bound_of_a_refit(model, cohort, someone):
    outcome, revocation = run(model, cohort, (someone, AUDIO))
    distances = compare(outcome.model, refit(model, cohort, revocation))
    assert len(distances) == 7
    for head in distances.values():
        assert 0 < head.distance <= head.bound


def test_a_model_that_was_not_deleted_from_does_not_pass_for_the_refit(model, cohort, someone):
    """The comparison can fail: at a small sigma the old heads lie outside of the bound."""
    _, revocation = run(model, cohort, (someone, AUDIO))
    quiet = {p: dataclasses.replace(h, sigma=1e-9) for p, h in model.heads.items()}
    distances = compare(dataclasses.replace(model, heads=quiet), refit(model, cohort, revocation))
    audio = [head for pattern, head in distances.items() if AUDIO in pattern]
    assert all(head.distance > head.bound for head in audio)


def test_the_noise_alone_separates_the_release_from_its_certified_solution(model, cohort, someone):
    """Subtract the committed noise, as a chartered auditor can: the rest is within tau / lambda_min of the refit."""
    outcome, revocation = run(model, cohort, (someone, AUDIO))
    reference = refit(model, cohort, revocation)
    for pattern in outcome.updated:
        head = outcome.model.heads[pattern]
        mean = remove_noise(head, NOISE)
        slack = 2 * model.policy.tau / model.layout.lambda_min
        assert np.linalg.norm(mean - reference.solutions[pattern].weights_DK) <= slack
        assert outcome.released.residual_bounds[pattern] <= model.policy.tau


def test_the_guarantee_composes_the_heads_released_and_stays_within_the_policy(model, cohort, someone):
    outcome, _ = run(model, cohort, (someone, AUDIO))
    assert isinstance(outcome.guarantee, Certified)
    assert outcome.guarantee.mu == pytest.approx(mu_of(model.policy.epsilon, model.policy.delta) * np.sqrt(4 / 7))
    assert epsilon_of(outcome.guarantee.mu, model.policy.delta) <= model.policy.epsilon


def test_a_deletion_releases_at_the_noise_scale_of_training_from_the_start(model, cohort, someone):
    """Otherwise the variance alone would tell a deletion from the comparator, whatever the means are."""
    newton, _ = run(model, cohort, (someone, AUDIO))
    refitted, _ = run(model, cohort, (someone, AUDIO), spent=[1.0])
    sigmas = {head.sigma for m in (model, newton.model, refitted.model) for head in m.heads.values()}
    assert len(sigmas) == 1


def test_what_is_published_names_no_statistics_without_a_salt(model, cohort, someone):
    """The commitments of two versions differ even where the statistics are equal, and die with their salt."""
    outcome, _ = run(model, cohort, (someone, AUDIO))
    assert outcome.model.salt == SALT
    assert all(outcome.model.commitment in outcome.model.heads[p].context for p in outcome.updated)
    bare = outcome.model.statistics.commitment(b"")
    assert not any(bare in head.context for head in outcome.model.heads.values())


def test_every_coordinate_of_every_updated_head_carries_noise(model, cohort, someone):
    loud, _ = run(model, cohort, (someone, AUDIO))
    other, _ = run(model, cohort, (someone, AUDIO), noise=NoiseSource(b"m" * 32))
    for pattern in loud.updated:
        assert (loud.model.heads[pattern].weights_DK != other.model.heads[pattern].weights_DK).all()


def test_sigma_follows_tau_and_never_the_measured_residual(random_cohort, fit_small, someone):
    cohort = random_cohort(3, subjects=14, clips=4)
    sigmas = {}
    for tau in (1e-6, 1e-5):
        model = fit_small(cohort, policy=ReleasePolicy(tau=tau))
        outcome, _ = run(model, cohort, (someone, AUDIO))
        head = outcome.model.heads[parse_pattern("a")]
        sigmas[tau] = head.sigma
        assert head.sigma == pytest.approx(2 * tau / model.layout.lambda_min / head.mu)
        assert outcome.released.residual_bounds[parse_pattern("a")] < tau / 100
    assert sigmas[1e-5] == pytest.approx(10 * sigmas[1e-6])


def test_two_heads_or_two_versions_never_share_a_noise_stream(model, cohort, someone):
    first, _ = run(model, cohort, (someone, AUDIO))
    second, _ = run(model, cohort, (someone, AUDIO), occasion="line/3")
    contexts = [o.model.heads[p].context for o in (first, second) for p in o.updated]
    assert len(set(contexts)) == len(contexts) == 8


def test_everyones_voice_is_dropped_without_solving_anything(model, cohort):
    outcome, revocation = run(model, cohort, (EVERYONE, AUDIO))
    assert (outcome.mechanism, names(outcome.updated)) == ("lattice-drop", [])
    assert names(outcome.dropped) == ["a", "ta", "av", "tav"]
    assert names(outcome.unchanged) == names(outcome.model.heads) == ["t", "v", "tv"]
    assert isinstance(outcome.guarantee, Exact)
    assert outcome.rows_touched == 0
    assert outcome.model.statistics == refit(model, cohort, revocation).statistics


def test_after_everyones_voice_left_a_row_with_voice_is_answered_without_it(model, cohort):
    outcome, _ = run(model, cohort, (EVERYONE, AUDIO))
    full = cohort.select([i for i in range(len(cohort)) if len(cohort.present(i)) == 3])
    predictions = outcome.model.predict(full)
    assert set(predictions.patterns) == {parse_pattern("tv")}
    assert np.array_equal(predictions.outputs_NK, model.predict(full.restrict([TEXT, Modality.VISION])).outputs_NK)


def test_everyones_voice_and_one_persons_text_together(model, cohort, someone):
    has_text = next(
        row.subject
        for i, row in enumerate(training_rows(cohort).rows)
        if row.partition is Partition.REVOCABLE and TEXT in training_rows(cohort).present(i)
    )
    outcome, revocation = run(model, cohort, (EVERYONE, AUDIO), (has_text, TEXT))
    assert names(outcome.dropped) == ["a", "ta", "av", "tav"]
    assert names(outcome.updated) == ["t", "tv"]
    assert outcome.model.statistics == refit(model, cohort, revocation).statistics
    assert isinstance(outcome.guarantee, Certified)


def test_everything_of_a_person_leaves_no_row_of_theirs(model, cohort, someone):
    pairs = [(someone, m) for m in Modality]
    outcome, revocation = run(model, cohort, *pairs)
    assert outcome.model.statistics == refit(model, cohort, revocation).statistics
    without = training_rows(cohort)
    without = without.select([i for i, row in enumerate(without.rows) if row.subject != someone])
    assert outcome.model.statistics == model.featurizer.statistics(without)


def test_a_channel_that_no_training_row_holds_changes_nothing(model, cohort):
    tester = next(row.subject for row in cohort.rows if row.split is Split.TEST)
    outcome, _ = run(model, cohort, (tester, AUDIO))
    assert (outcome.mechanism, outcome.updated, outcome.rows_touched) == ("lattice-drop", (), 0)
    assert outcome.model.statistics == model.statistics
    assert isinstance(outcome.guarantee, Exact)


def test_a_label_that_falls_takes_its_row_out_of_every_head(random_cohort, fit_small, someone):
    cohort = random_cohort(3, subjects=14, clips=4, label_policy="falls")
    model = fit_small(cohort)
    outcome, revocation = run(model, cohort, (someone, AUDIO))
    assert len(outcome.updated) == 7
    assert outcome.model.statistics == refit(model, cohort, revocation).statistics
    assert someone not in training_rows(cohort.revoke(revocation.pairs)).subjects


def test_past_the_budget_the_cheap_path_is_refused_for_an_exact_refit(model, cohort, someone):
    policy = model.policy
    one = policy.head_mu * 2  # four heads
    allowed = int((mu_of(policy.budget_epsilon, policy.delta) / one) ** 2)
    last, _ = run(model, cohort, (someone, AUDIO), spent=[one] * (allowed - 1))
    assert last.mechanism == "lattice-newton"
    assert compose([one] * allowed) <= mu_of(policy.budget_epsilon, policy.delta)
    over, revocation = run(model, cohort, (someone, AUDIO), spent=[one] * allowed)
    assert over.mechanism == "lattice-refit"
    assert isinstance(over.guarantee, Exact)
    assert over.model.statistics == refit(model, cohort, revocation).statistics


def test_a_refit_owes_nothing_to_the_weights_before_it(model, cohort, someone):
    """The release of an exact refit is the same whatever the live heads were."""
    spoiled = {p: dataclasses.replace(h, weights_DK=h.weights_DK + 1) for p, h in model.heads.items()}
    spent = [1.0]
    first, _ = run(model, cohort, (someone, AUDIO), spent=spent)
    second, _ = run(dataclasses.replace(model, heads=spoiled), cohort, (someone, AUDIO), spent=spent)
    for pattern in first.updated:
        assert np.array_equal(first.model.heads[pattern].weights_DK, second.model.heads[pattern].weights_DK)


def test_statistics_that_are_not_the_cohorts_stop_a_refit_before_anything_is_released(model, cohort, someone):
    gram = model.statistics.gram.copy()
    gram[0, 0] += 1
    damaged = dataclasses.replace(model, statistics=dataclasses.replace(model.statistics, gram=gram))
    with pytest.raises(DeletionError, match="other bits"):
        run(damaged, cohort, (someone, AUDIO), spent=[1.0])


def test_a_tau_that_cannot_be_certified_releases_nothing(model, cohort, someone):
    strict = dataclasses.replace(model, policy=ReleasePolicy(tau=1e-19))
    with pytest.raises(NotCertifiedError):
        run(strict, cohort, (someone, AUDIO))


def test_the_last_modality_cannot_be_dropped(model, cohort):
    with pytest.raises(DeletionError, match="take the line out of service"):
        run(model, cohort, *((EVERYONE, m) for m in Modality))


def test_deleting_for_a_classification_task_keeps_one_column_per_class(random_cohort, fit_small):
    cohort = random_cohort(5, subjects=12, classes=4)
    model = fit_small(cohort)
    subject = next(row.subject for row in training_rows(cohort).rows if row.partition is Partition.REVOCABLE)
    modality = next(m for i, r in enumerate(cohort.rows) if r.subject == subject for m in cohort.present(i))
    outcome, revocation = run(model, cohort, (subject, modality))
    assert outcome.model.predict(cohort).outputs_NK.shape == (len(cohort), 4)
    assert outcome.model.statistics == refit(model, cohort, revocation).statistics


def test_the_cost_follows_the_persons_rows_and_not_the_cohorts(model, cohort, someone, monkeypatch):
    """A deletion featurizes the rows that change, before and after, and no other row."""
    from mbd.lattice.featurizer import Featurizer

    seen = []
    featurize = Featurizer.features

    def counting(self, rows_of, rows):
        seen.append(len(rows))
        return featurize(self, rows_of, rows)

    monkeypatch.setattr(Featurizer, "features", counting)
    outcome, _ = run(model, cohort, (someone, AUDIO))
    mine = training_rows(cohort).where(subject=someone)
    touched = sum(AUDIO in mine.present(i) for i in range(len(mine)))
    assert outcome.rows_touched == touched
    assert sum(seen) <= 2 * touched
