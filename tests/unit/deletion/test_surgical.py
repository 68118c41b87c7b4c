"""The paper's update as published, what its corrections repair, and that neither ever carries an epsilon."""

import copy
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mbd.backbones.weights import weights_digest
from mbd.cohort.batch import make_batch
from mbd.cohort.cohort import EVERYONE, Partition, Split
from mbd.cohort.modality import Modality
from mbd.deletion.surgical import LARGEST_LEVERAGE, Surgical, importance, leverage, operate, select
from mbd.errors import DeletionError
from mbd.privacy.guarantee import Empirical
from mbd.privacy.noise import NoiseSource

AUDIO, TEXT = Modality.AUDIO, Modality.TEXT
NOISE = NoiseSource(b"n" * 32)
WIDE = Surgical(least_saliency=0.0, largest_importance=1e9, calibration_rows=4)


@pytest.fixture(scope="module")
def pairs(someone_revocable):
    return frozenset({(someone_revocable, AUDIO)})


def run(backbone, cohort, pairs, options, *, noise=NOISE, purpose="line/2/request"):
    return operate(backbone, cohort, pairs, noise=noise, purpose=purpose, options=options)


def weights(backbone):
    return torch.cat([p.detach().flatten() for p in backbone.parameters()]).numpy()


def test_leverage_and_importance_are_optimal_brain_surgeons_for_a_rank_one_hessian():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(6), rng.standard_normal(6)
    inverse = np.linalg.inv(np.eye(6) + np.outer(x, x))
    assert importance(w, leverage(x)) == pytest.approx(w**2 / (2 * np.diag(inverse)))


def test_leverage_is_capped():
    assert leverage(np.array([1e6, 1.0])) == pytest.approx([LARGEST_LEVERAGE, 1e-12])
    assert importance(np.array([2.0]), np.array([LARGEST_LEVERAGE])) == pytest.approx([200.0])


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=40),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0.01, 1),
)
def test_candidates_are_salient_unimportant_ascending_and_few(numbers, eta_s, eta_L, ratio):
    saliency, weight = np.array(numbers).T
    options = Surgical(least_saliency=eta_s, largest_importance=eta_L, ratio=ratio)
    chosen = select(saliency, weight, options)
    fitting = {q for q in range(len(numbers)) if saliency[q] >= eta_s and weight[q] <= eta_L}
    assert len(chosen) == min(len(fitting), math.floor(ratio * len(numbers)))
    assert set(chosen.tolist()) <= fitting
    assert (np.diff(weight[chosen]) >= 0).all()
    left_out = fitting - set(chosen.tolist())
    assert all(weight[q] >= weight[chosen].max(initial=0.0) for q in left_out) or not len(chosen)


def test_it_follows_algorithm_1_number_by_number(entangled, entangled_cohort, pairs, someone_revocable):
    """Everything again, the slow way: gradients by backward, and the formulas as they are printed."""
    network = copy.deepcopy(entangled)
    parameters = list(network.parameters())
    theirs = entangled_cohort.where(subject=someone_revocable)
    losing = [i for i in range(len(theirs)) if AUDIO in theirs.present(i) and len(theirs.present(i)) > 1][:4]
    gradients = []
    for i in losing:
        output = network(make_batch(theirs, [i]))
        network.zero_grad()
        error = network.generate(AUDIO, output.per_modality) - output.per_modality[AUDIO].detach()
        (error**2).mean().backward()
        gradients.append(
            torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in parameters])
        )
    g = torch.stack(gradients).double().numpy()
    saliency, x, w = np.abs(g).mean(axis=0), g.mean(axis=0), weights(entangled).astype(np.float64)
    chi = np.minimum(x**2 / (1 + (x**2).sum()), 0.99)
    cost = w**2 / (2 * (1 - chi))
    options = replace(WIDE, least_saliency=float(np.quantile(saliency, 0.8)), largest_importance=0.01)
    ranked = sorted(
        (q for q in range(len(w)) if saliency[q] >= options.least_saliency and cost[q] <= 0.01), key=cost.take
    )
    expected = set(ranked[: math.floor(options.ratio * len(w))])

    operated = run(entangled, entangled_cohort, pairs, options)
    changed = set(np.flatnonzero(weights(operated.backbone) != weights(entangled)).tolist())
    assert 0 < len(expected) < len(w)
    assert changed == {q for q in expected if w[q] != 0}
    assert not weights(operated.backbone)[list(changed)].any()
    assert operated.report["modalities"]["audio"]["candidates"] == len(expected)


def test_as_published_zeroing_is_not_random_at_all(entangled, entangled_cohort, pairs):
    one, other = (run(entangled, entangled_cohort, pairs, WIDE, noise=NoiseSource(bytes([b]) * 32)) for b in (1, 2))
    assert weights_digest(one.backbone) == weights_digest(other.backbone)


def test_as_published_noise_can_be_subtracted_by_anybody(entangled, entangled_cohort, pairs):
    noisy = run(entangled, entangled_cohort, pairs, replace(WIDE, update="noise"))
    difference = weights(noisy.backbone) - weights(entangled)
    count = noisy.report["modalities"]["audio"]["candidates"]
    drawn = noisy.report["noise_scale"] * np.random.default_rng(noisy.report["published_seed"]).standard_normal(count)
    assert np.sort(difference[difference != 0]) == pytest.approx(np.sort(drawn), abs=1e-6)


def test_numbers_outside_of_the_mask_stay_as_withdrawn_rows_made_them(entangled, entangled_cohort, pairs):
    """Why there is no epsilon."""
    for options in (WIDE, replace(WIDE, update="noise")):
        same = weights(run(entangled, entangled_cohort, pairs, options).backbone) == weights(entangled)
        assert same.mean() >= 1 - WIDE.ratio


def test_corrected_noise_comes_from_the_secret_stream_and_is_bound_to_its_occasion(entangled, entangled_cohort, pairs):
    corrected = replace(WIDE, corrected=True)
    digests = [
        weights_digest(run(entangled, entangled_cohort, pairs, corrected, noise=noise, purpose=purpose).backbone)
        for noise, purpose in ((NOISE, "a"), (NOISE, "a"), (NOISE, "b"), (NoiseSource(b"o" * 32), "a"))
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_corrected_there_is_no_zeroing_only_noise(entangled, entangled_cohort, pairs):
    operated = run(entangled, entangled_cohort, pairs, replace(WIDE, corrected=True))
    removed = set(operated.report["modalities"]["audio"]["removed"])
    before, after = dict(entangled.named_parameters()), dict(operated.backbone.named_parameters())
    changed = {name: after[name][after[name] != before[name]] for name in after if name not in removed}
    assert sum(len(numbers) for numbers in changed.values()) > 100
    assert all((numbers != 0).all() for numbers in changed.values())


def test_corrected_the_modality_cannot_be_synthesised_any_more(entangled, entangled_cohort, pairs):
    """Whatever the other channels are, the same comes out; as published, the generator is still there."""
    batch = make_batch(entangled_cohort, range(20))
    for corrected in (True, False):
        network = run(entangled, entangled_cohort, pairs, replace(WIDE, corrected=corrected)).backbone
        with torch.no_grad():
            generated = network.generate(AUDIO, network(batch).per_modality)
            other = network.generate(TEXT, network(batch).per_modality)
        assert torch.equal(generated, generated[:1].expand_as(generated)) is corrected
        assert not torch.equal(other, other[:1].expand_as(other))
        left = [n for n in network.synthesis(AUDIO) if network.get_parameter(n).any()]
        assert (left == []) is corrected


def test_what_can_synthesise_is_every_tensor_of_p_g_de_and_b(entangled):
    parts = {name.split(".")[0] for name in entangled.synthesis(AUDIO)}
    assert parts == {"properties", "generators", "decompose", "recompose", "back_translate"}
    assert all(name.split(".")[1] == "audio" for name in entangled.synthesis(AUDIO))


@pytest.mark.parametrize("corrected", [False, True])
def test_it_is_always_empirical_and_never_carries_an_epsilon(entangled, entangled_cohort, pairs, corrected):
    operated = run(entangled, entangled_cohort, pairs, replace(WIDE, corrected=corrected))
    assert isinstance(operated.guarantee, Empirical)
    assert operated.guarantee.report == operated.report
    assert operated.report["proved"] == "nothing"
    text = json.dumps(operated.report)
    assert not any(word in text for word in ("epsilon", "delta", '"mu"', "sigma"))


def test_the_report_measures_the_reconstruction_before_and_after(entangled, entangled_cohort, pairs, someone_revocable):
    operated = run(entangled, entangled_cohort, pairs, replace(WIDE, corrected=True))
    measured = operated.report["modalities"]["audio"]
    theirs = entangled_cohort.where(subject=someone_revocable)
    losing = [i for i in range(len(theirs)) if AUDIO in theirs.present(i) and len(theirs.present(i)) > 1]
    output = entangled(make_batch(theirs, losing))
    error = entangled.generate(AUDIO, output.per_modality) - output.per_modality[AUDIO]
    assert measured["rows"] == len(losing)
    assert measured["reconstruction_before"] == pytest.approx(error.square().mean().item(), rel=1e-5)
    assert measured["reconstruction_after"] != measured["reconstruction_before"]


def test_a_modality_withdrawn_by_everyone_and_several_at_once(entangled, entangled_cohort, someone_revocable):
    pairs = frozenset({(EVERYONE, AUDIO), (someone_revocable, TEXT)})
    modalities = run(entangled, entangled_cohort, pairs, WIDE).report["modalities"]
    revocable = entangled_cohort.where(partition=Partition.REVOCABLE, split=Split.TRAIN)
    having = sum(AUDIO in revocable.present(i) and len(revocable.present(i)) > 1 for i in range(len(revocable)))
    assert modalities["audio"]["rows"] == having
    assert 0 < modalities["text"]["rows"] < having


def test_the_network_before_is_left_alone(entangled, entangled_cohort, pairs):
    before = weights_digest(entangled)
    run(entangled, entangled_cohort, pairs, WIDE)
    assert weights_digest(entangled) == before


def test_a_network_without_generators_is_refused(entangled_cohort, pairs):
    class Other(nn.Module):
        name = "other"

    with pytest.raises(DeletionError, match="'other' has none"):
        run(Other(), entangled_cohort, pairs, WIDE)


def test_a_withdrawal_that_touches_no_training_row_is_refused(entangled, entangled_cohort):
    with pytest.raises(DeletionError, match="No training row loses"):
        run(entangled, entangled_cohort, frozenset({("nobody", AUDIO)}), WIDE)


@pytest.mark.parametrize("wrong", [{"ratio": 0.0}, {"ratio": 1.5}, {"calibration_rows": 0}, {"noise_scale": 0.0}])
def test_options_that_make_no_sense_are_refused(wrong):
    with pytest.raises(DeletionError, match="correct the line's options"):
        replace(WIDE, **wrong)
