"""The distinguishing audit reaches the claim from below on sound code, and passes it on broken releases."""

from dataclasses import replace

import numpy as np
import pytest

from mbd.attacks.distinguishing import HISTORIES, Arms, audit_release, deletion_arms, loud, worst_start
from mbd.cohort.modality import Modality
from mbd.deletion.outcome import Revocation
from mbd.errors import AttackError
from mbd.lattice.release import Unhidden, residual_bound, solve_head
from mbd.privacy.gaussian import compose

VOICE = frozenset({Modality.AUDIO})


def audit(arms, heads, noise, releases=4000):
    return audit_release(arms, heads, noise=noise, releases=releases, target="test")


def estimates(report):
    return {estimate.name: estimate.value for estimate in report.estimates}


def test_the_loud_policy_has_a_mu_of_one_a_head_and_the_same_tau(canary_line):
    policy = canary_line[0].policy
    assert loud(policy).head_mu == pytest.approx(1.0, rel=1e-9)
    assert loud(policy).tau == policy.tau


@pytest.mark.parametrize("history", ["flattest", "dense"])
def test_a_worst_history_lies_just_inside_of_tau_and_the_solver_takes_it_as_it_is(canary_line, history):
    model, _ = canary_line
    model = replace(model, policy=loud(model.policy))
    start_DK = worst_start(model, model.statistics, VOICE, history, sign=1.0, seed=1)
    bound = residual_bound(model.layout, model.statistics, VOICE, start_DK, policy=model.policy)
    assert 0.99 * model.policy.tau < bound <= model.policy.tau
    taken = solve_head(model.layout, model.statistics, VOICE, policy=model.policy, start_DK=start_DK)
    np.testing.assert_allclose(taken.weights_DK, start_DK, atol=1e-3 * model.policy.tau)
    assert taken.candidates == 0


def test_along_the_flattest_direction_two_solutions_are_as_far_apart_as_the_proof_allows(arms_of, audit_noise):
    report = audit(arms_of("flattest"), (VOICE,), audit_noise)
    distance = estimates(report)["distance of the two solutions, in stated standard deviations"]
    assert 0.999 * report.claim < distance <= report.claim


@pytest.mark.parametrize("history", HISTORIES)
def test_a_sound_release_holds_from_every_history(arms_of, audit_noise, history):
    arms = arms_of(history)
    for heads in ((VOICE,), tuple(arms.unlearned.solved)):
        report = audit(arms, heads, audit_noise, releases=2000)
        assert report.verdict == "held"
        assert report.claim == pytest.approx(compose([1.0] * len(heads)))
        assert estimates(report)["lower bound of mu"] <= report.claim


def test_the_bound_comes_close_to_the_claim_with_more_releases(arms_of, audit_noise):
    few, many = (audit(arms_of("flattest"), (VOICE,), audit_noise, releases=n) for n in (1000, 12_000))
    assert estimates(few)["lower bound of mu"] < estimates(many)["lower bound of mu"]
    assert 0.8 < estimates(many)["lower bound of mu"] < 1.0


def test_a_deletion_starts_at_the_real_heads_and_the_comparator_trains_all_of_them(canary_line, arms_of):
    model, _ = canary_line
    arms = arms_of("real")
    assert set(arms.unlearned.solved) < set(arms.never.solved) == set(model.layout.patterns)
    for pattern in arms.unlearned.solved:
        assert arms.unlearned.bound[pattern]["start"] is not None
        assert arms.never.bound[pattern]["start"] is None


@pytest.mark.parametrize(
    ("history", "make", "name"),
    [
        ("flattest", lambda u: replace(u, sigma=u.sigma / 2), "lower bound of mu"),
        ("dense", lambda u: _WithoutNoise(u.solved, u.bound, u.sigma, u.mu), "lower bound of mu"),
        ("real", lambda u: _SameNoise(u.solved, u.bound, u.sigma, u.mu), "noise that was drawn twice"),
        ("real", lambda u: _OffGrid(u.solved, u.bound, u.sigma, u.mu), "numbers off the public grid"),
    ],
    ids=["half the noise", "one coordinate bare", "one stream", "low bits"],
)
def test_broken_releases_are_caught(arms_of, audit_noise, history, make, name):
    arms = arms_of(history)
    broken = Arms(make(arms.unlearned), make(arms.never), arms.claim)
    report = audit(broken, (VOICE,), audit_noise, releases=2000)
    assert report.verdict == "broken"
    assert estimates(report)[name] > (report.claim if name == "lower bound of mu" else 0.0)


def test_a_scale_that_differs_between_the_arms_is_caught_although_the_means_agree(arms_of, audit_noise):
    arms = arms_of("real")
    louder = replace(arms.never, sigma=arms.never.sigma * 1.3)
    report = audit(Arms(arms.unlearned, louder, arms.claim), (VOICE,), audit_noise, releases=2000)
    assert report.verdict == "broken"


def test_the_same_audit_gives_the_same_report(arms_of, audit_noise):
    one, two = (audit(arms_of("flattest"), (VOICE,), audit_noise, releases=1000) for _ in range(2))
    assert replace(one, seconds=0.0) == replace(two, seconds=0.0)


def test_nothing_to_attack_and_too_few_releases_say_so(canary_line, arms_of, audit_noise):
    model, people = canary_line
    public = next(row.subject for row in people.cohort.rows if row.partition == "public")
    nothing = Revocation(frozenset({(public, Modality.AUDIO)}), "audit")
    with pytest.raises(AttackError, match="no noise to attack"):
        deletion_arms(model, people.cohort, nothing, history="real", policy=model.policy, seed=0)
    with pytest.raises(AttackError, match="999 releases"):
        audit(arms_of("real"), (VOICE,), audit_noise, releases=999)
    with pytest.raises(AttackError, match="not in both arms"):
        audit(arms_of("real"), (frozenset({Modality.TEXT}),), audit_noise)


class _WithoutNoise(Unhidden):
    def release(self, purpose, noise):
        released = super().release(purpose, noise)
        for pattern, head in released.heads.items():
            head.weights_DK[-1] = self.solved[pattern].weights_DK[-1]
        return released


class _SameNoise(Unhidden):
    def release(self, purpose, noise):
        return super().release("always the same", noise)


class _OffGrid(Unhidden):
    def release(self, purpose, noise):
        released = super().release(purpose, noise)
        for head in released.heads.values():
            head.weights_DK[:] *= 1 + 1e-15
        return released
