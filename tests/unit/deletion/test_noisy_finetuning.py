"""Every number that is not public carries noise, nothing of the start survives beside it, and refusals leak nothing."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch import nn

from mbd.backbones.standardiser import Standardiser
from mbd.backbones.weights import weights_digest
from mbd.backbones.zoo import build
from mbd.cohort.cohort import EVERYONE, Partition, Split
from mbd.cohort.modality import Modality
from mbd.deletion.noisy_finetuning import PUBLIC_ASSUMPTION, NoisyFineTuning, fine_tune
from mbd.errors import DeletionError, PrivacyError, UtilityError
from mbd.privacy.gaussian import epsilon_of
from mbd.privacy.guarantee import Certified
from mbd.privacy.noise import NoiseSource

AUDIO = Modality.AUDIO
NOISE, OTHER_NOISE = NoiseSource(b"n" * 32), NoiseSource(b"o" * 32)
QUICK = NoisyFineTuning(steps=2, finishing_steps=0, largest_loss=1e9)


@pytest.fixture(scope="module")
def after(entangled_cohort, someone_revocable):
    return entangled_cohort.without([(someone_revocable, AUDIO)])


def run(backbone, cohort, *, options=QUICK, noise=NOISE, purpose="line/2/request", **kwargs):
    return fine_tune(backbone, cohort, noise=noise, purpose=purpose, seed=1, options=options, **kwargs)


class Silence(NoiseSource):
    """A planted bug: the stream is zeros."""

    def standard_normal(self, context, count):
        return np.zeros(count)


def weights(backbone):
    return torch.cat([p.detach().double().flatten() for p in backbone.parameters()]).numpy()


def test_it_is_certified_with_the_mu_that_was_asked_for(entangled, after):
    tuned = run(entangled, after)
    assert isinstance(tuned.guarantee, Certified)
    assert epsilon_of(tuned.guarantee.mu, QUICK.delta) <= QUICK.epsilon * (1 + 1e-9)
    chain = QUICK.chain(sum(p.numel() for p in entangled.parameters()))
    assert chain.mu(tuned.report["sigma"]) <= tuned.guarantee.mu == tuned.report["mu"]


def test_every_number_gets_the_gaussian_of_its_scale(entangled, after):
    """Two secrets, one start, one step: the difference of two releases is noise of sigma sqrt(2), and nothing else."""
    one_step = replace(QUICK, steps=1)
    tuned = run(entangled, after, options=one_step)
    other = run(entangled, after, options=one_step, noise=OTHER_NOISE)
    scaled = (weights(tuned.backbone) - weights(other.backbone)) / (tuned.report["sigma"] * math.sqrt(2))
    assert len(scaled) == tuned.report["coordinates"]
    assert (scaled != 0).all()
    assert kstest(scaled, "norm").pvalue > 1e-4


def test_each_parameter_on_its_own_is_noisy(entangled, after):
    tuned, other = (run(entangled, after, noise=noise).backbone for noise in (NOISE, OTHER_NOISE))
    for (name, a), b in zip(tuned.named_parameters(), other.parameters(), strict=True):
        assert (a != b).all(), name


def test_without_noise_the_release_would_stay_within_the_bounds(entangled, after):
    last = weights(run(entangled, after, noise=Silence(b"s" * 32)).backbone)
    reach = QUICK.start_bound + QUICK.steps * QUICK.rate * QUICK.gradient_bound
    assert 0.9 * QUICK.start_bound < np.linalg.norm(last) <= reach * (1 + 1e-6)


def test_the_ball_of_the_start_lies_around_the_public_centre(entangled, after):
    torch.manual_seed(4)
    centre = build("mbd", entangled.interface, {"width": 8, "property_width": 8})
    silent = run(entangled, after, noise=Silence(b"s" * 32), centre=centre)
    reach = QUICK.start_bound + QUICK.steps * QUICK.rate * QUICK.gradient_bound
    assert 0.9 * QUICK.start_bound < np.linalg.norm(weights(silent.backbone) - weights(centre)) <= reach * (1 + 1e-4)
    assert PUBLIC_ASSUMPTION in silent.guarantee.assumptions
    tuned, around_origin = run(entangled, after, centre=centre), run(entangled, after)
    assert tuned.report["sigma"] == around_origin.report["sigma"]
    scaled = (weights(tuned.backbone) - weights(silent.backbone)) / (tuned.report["sigma"] * math.sqrt(QUICK.steps))
    assert kstest(scaled, "norm").pvalue > 1e-4


def test_a_centre_of_another_shape_is_refused(entangled, after):
    centre = build("mbd", entangled.interface, {"width": 4, "property_width": 8})
    with pytest.raises(DeletionError, match="The centre has other parameters"):
        run(entangled, after, centre=centre)


def test_the_network_before_is_left_alone_and_the_callers_generator_too(entangled, after):
    before, state = weights_digest(entangled), torch.get_rng_state()
    run(entangled, after)
    assert weights_digest(entangled) == before
    assert torch.equal(torch.get_rng_state(), state)


def test_the_same_purpose_gives_the_same_release_and_another_purpose_another(entangled, after):
    first, again, other = (run(entangled, after, purpose=p) for p in ("a", "a", "b"))
    assert weights_digest(first.backbone) == weights_digest(again.backbone)
    assert weights_digest(first.backbone) != weights_digest(other.backbone)


def test_whatever_shapes_the_mean_keys_the_noise(entangled, after):
    """Otherwise two releases with one stream would cancel their noise."""
    contexts = []

    class Listening(NoiseSource):
        def standard_normal(self, context, count):
            contexts.append(context)
            return super().standard_normal(context, count)

    noise, moved = Listening(b"n" * 32), copy.deepcopy(entangled)
    with torch.no_grad():
        moved.head.bias.add_(1.0)
    one_step = replace(QUICK, steps=1)
    run(entangled, after, noise=noise)
    run(moved, after, noise=noise, options=one_step)
    run(entangled, after, noise=noise, options=one_step)
    run(entangled, after.select(range(1, len(after))), noise=noise, options=one_step)
    fine_tune(entangled, after, noise=noise, purpose="line/2/request", seed=2, options=one_step)
    assert len(contexts) == len(set(contexts)) == QUICK.steps + 4


def test_the_standardiser_is_fitted_again_to_what_is_left(entangled, after):
    tuned = run(entangled, after).backbone.standardiser.state_dict()
    reference = Standardiser({m: s.dim for m, s in entangled.interface.channels.items()}, 1)
    reference.fit(after.where(split=Split.TRAIN))
    assert all(torch.equal(tuned[name], constant) for name, constant in reference.state_dict().items())
    assert not torch.equal(tuned["audio_mean"], entangled.standardiser.audio_mean)


def test_constants_of_a_channel_that_nobody_has_any_more_do_not_survive(entangled, entangled_cohort):
    gone = entangled_cohort.without([(EVERYONE, AUDIO)], partitions=tuple(Partition))
    tuned = run(entangled, gone).backbone.standardiser
    assert not tuned.audio_mean.any()
    assert (tuned.audio_scale == 1).all()


def test_withdrawn_rows_and_test_rows_are_not_read(entangled, entangled_cohort, after):
    def hide(row, x):
        return np.full_like(x, np.nan) if x is not None and row.split is Split.TEST else x

    features = {m: tuple(map(hide, after.rows, column)) for m, column in after.features.items()}
    poisoned = run(entangled, replace(after, features=features))
    assert weights_digest(poisoned.backbone) == weights_digest(run(entangled, after).backbone)


def test_finishing_steps_teach_the_rest_and_draw_no_noise(entangled, after):
    """Post-processing: the claim is the same, the loss falls."""
    rough = run(entangled, after)
    finished = run(entangled, after, options=replace(QUICK, finishing_steps=60))
    assert finished.guarantee == rough.guarantee
    assert finished.report["sigma"] == rough.report["sigma"]
    assert finished.report["public_validation_loss"] < rough.report["public_validation_loss"]


def test_a_broken_network_is_refused_by_its_loss_on_public_rows_alone(entangled, after):
    loss = run(entangled, after).report["public_validation_loss"]
    strict = replace(QUICK, largest_loss=loss * 0.5)
    with pytest.raises(UtilityError, match="above the line's limit") as refusal:
        run(entangled, after, options=strict)
    assert "retrain" in refusal.value.remedy
    assert refusal.value.mu == run(entangled, after).guarantee.mu
    assert f"{loss:.3g}" not in refusal.value.message


def test_a_network_that_is_not_a_number_is_refused(entangled, after):
    """Clipping maps it to zero and noise makes numbers of it; constants that are not numbers still give no release."""
    broken = copy.deepcopy(entangled)
    with torch.no_grad():
        broken.standardiser.target_scale.fill_(math.nan)
    with pytest.raises(UtilityError, match="above the line's limit"):
        run(broken, after, public=["standardiser.target_scale"])


def test_what_is_declared_public_stays_and_everything_else_moves(entangled, after):
    public = [name for name in entangled.state_dict() if not name.startswith("head.")]
    tuned = run(entangled, after, public=public)
    before, now = entangled.state_dict(), tuned.backbone.state_dict()
    assert {name for name in now if not torch.equal(now[name], before[name])} == {"head.weight", "head.bias"}
    assert tuned.report["coordinates"] == entangled.head.weight.numel() + 1
    assert PUBLIC_ASSUMPTION in tuned.guarantee.assumptions
    assert PUBLIC_ASSUMPTION not in run(entangled, after).guarantee.assumptions


def test_fewer_numbers_take_the_same_noise_each(entangled, after):
    public = [name for name, _ in entangled.named_parameters() if not name.startswith("head.")]
    assert run(entangled, after, public=public).report["sigma"] == pytest.approx(
        run(entangled, after).report["sigma"], rel=1e-5
    )


def test_nothing_in_the_report_or_the_guarantee_knows_the_network_before(entangled, after):
    """Those figures would carry no noise. What is published beside the weights is public, or made from them."""
    tuned = run(entangled, after)
    assert set(tuned.report) == {
        "mechanism", "epsilon", "delta", "start_bound", "gradient_bound", "rate", "steps", "finishing_steps",
        "finishing_rate", "batch_size", "largest_loss", "coordinates", "mu", "sigma", "public_validation_loss",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("public", "message"),
    [(["head.wieght"], "has no tensors head.wieght"), (None, "Every parameter of the network is declared public")],
)
def test_declarations_that_cannot_be_true_are_refused(entangled, after, public, message):
    public = [name for name, _ in entangled.named_parameters()] if public is None else public
    with pytest.raises(DeletionError, match=message):
        run(entangled, after, public=public)


def test_a_tensor_of_no_class_is_refused(entangled, after):
    odd = copy.deepcopy(entangled)
    odd.add_module("running", nn.BatchNorm1d(2))
    with pytest.raises(DeletionError, match=r"running\.running_mean"):
        run(odd, after)


@pytest.mark.parametrize(
    "wrong", [{"batch_size": 0}, {"finishing_steps": -1}, {"finishing_rate": 0.0}, {"largest_loss": math.inf}]
)
def test_options_that_make_no_sense_are_refused(wrong):
    with pytest.raises(DeletionError, match="correct the line's options"):
        replace(QUICK, **wrong)


@pytest.mark.parametrize("wrong", [{"epsilon": 0.0}, {"start_bound": -1.0}, {"steps": 0}])
def test_options_without_an_account_are_refused(entangled, after, wrong):
    with pytest.raises(PrivacyError):
        run(entangled, after, options=replace(QUICK, **wrong))
