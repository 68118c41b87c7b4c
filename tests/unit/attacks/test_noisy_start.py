"""The audit of noisy fine-tuning: sound noise holds, too little of it does not."""

import pytest

from mbd.attacks.canary import known_noise, small
from mbd.attacks.noisy_start import audit_noisy_fine_tuning
from mbd.cohort.synthetic import Subjects, synthetic_cohort
from mbd.deletion.noisy_finetuning import NoisyFineTuning
from mbd.errors import AttackError
from mbd.privacy.gaussian import epsilon_of
from mbd.privacy.noisy_iterations import Chain
from mbd.training.loop import train
from mbd.training.recipe import Recipe

DELTA = 1e-5


@pytest.fixture(scope="module")
def attacked():
    cohort = synthetic_cohort(0, subjects=Subjects(4, 2, 3, 1), clips=4, missing=0.0)
    network = train(small(Recipe()), cohort, seed=0).backbone

    def attack(releases=120, **changed):
        options = NoisyFineTuning(
            epsilon=epsilon_of(1.0, DELTA), delta=DELTA, finishing_steps=0, largest_loss=1e9, **changed
        )
        return audit_noisy_fine_tuning(
            network, cohort, options=options, noise=known_noise(0), releases=releases, seed=0, target="t"
        )

    return attack


def test_sound_noise_holds_and_the_starts_are_as_far_apart_as_the_bound_says(attacked):
    report = attacked()
    assert report.verdict == "held"
    assert report.claim == pytest.approx(1.0)
    distance = report.estimates[1].value
    assert 0.7 < distance < 1.4


def test_a_third_of_the_noise_is_found(attacked, monkeypatch):
    sound = Chain.sigma_for
    monkeypatch.setattr(Chain, "sigma_for", lambda chain, mu: sound(chain, mu) / 3)
    report = attacked()
    assert report.verdict == "broken"
    assert report.estimates[0].low > 1


def test_too_few_releases_are_refused(attacked):
    with pytest.raises(AttackError, match="decide nothing"):
        attacked(releases=99)
