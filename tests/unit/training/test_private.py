"""The clipped unit is the person, randomness is the committed stream's, and an audit catches planted bugs."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import beta
from torch import nn

from mbd.backbones.weights import weights_digest
from mbd.cohort.batch import make_batch
from mbd.cohort.cohort import Partition, Split
from mbd.cohort.synthetic import Subjects, synthetic_cohort
from mbd.errors import ExactnessError, PrivacyError, TrainingError
from mbd.privacy.accounting import epsilon_of
from mbd.privacy.noise import NoiseSource
from mbd.training import private
from mbd.training.private import by_subject, clipped_sum, take_private_steps, train_private_tower
from mbd.training.tower import only_channel, train_headed
from mbd.training.tower_recipe import PrivateRecipe, TowerRecipe

NOISE = NoiseSource(b"n" * 32)


@pytest.fixture(scope="module")
def recipe():
    start = TowerRecipe("audio", width=6, epochs=1)
    return PrivateRecipe(start, rate=0.5, noise_multiplier=4.0, steps=4, subjects=3, learning_rate=0.1)


@pytest.fixture(scope="module")
def rows(cohort):
    """Audio, as sequences, of the revocable training people."""
    return only_channel(cohort.where(partition=Partition.REVOCABLE, split=Split.TRAIN), "audio")


@pytest.fixture
def headed(cohort, recipe):
    public = cohort.where(partition=Partition.PUBLIC, split=Split.TRAIN)
    return train_headed(recipe.start, public, 1, public=public)


def size(network):
    return sum(parameter.numel() for parameter in network.parameters())


def train(recipe, cohort, *, noise=NOISE, purpose="line demo, version 1, audio", seed=1):
    return train_private_tower(recipe, cohort, noise=noise, purpose=purpose, seed=seed)


def largest_change(recipe, headed, units_of, rows):
    """How far leaving out one person moves the clipped sum, at most over people, in units of C."""

    def total(some):
        return clipped_sum(recipe, headed, units_of(some), size=size(headed))

    whole = total(rows)
    changes = [
        np.linalg.norm(whole - total(rows.select([i for i, row in enumerate(rows.rows) if row.subject != subject])))
        for subject in rows.subjects
    ]
    return max(changes) / recipe.clip


def a_batch_a_row(rows):
    """The planted bug: clipping row by row, which is example-level and not subject-level privacy."""
    return [make_batch(rows, [i]) for i in range(len(rows))]


@pytest.mark.parametrize("clip", [1e-3, 0.1])
def test_leaving_out_one_person_changes_the_clipped_sum_by_at_most_c(recipe, headed, rows, clip):
    assert 0.99 < largest_change(replace(recipe, clip=clip), headed, by_subject, rows) <= 1.0


def test_clipping_by_row_instead_of_by_person_would_be_caught(recipe, headed, rows):
    assert largest_change(replace(recipe, clip=1e-3), headed, a_batch_a_row, rows) > 1.5


def test_the_sum_is_exact_whatever_the_order_and_each_share_is_its_own(recipe, headed, rows):
    people = by_subject(rows)
    whole = clipped_sum(recipe, headed, people, size=size(headed))
    assert np.array_equal(whole, clipped_sum(recipe, headed, people[::-1], size=size(headed)))
    shares = [clipped_sum(recipe, headed, [person], size=size(headed)) for person in people]
    assert np.array_equal(whole, sum(shares))


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")  # Opacus' hooks, on inputs without gradients
def test_subject_gradients_are_opacus_per_sample_gradients_averaged_over_the_subjects_rows(headed, rows):
    from opacus.grad_sample import GradSampleModule
    from opacus.validators import ModuleValidator

    class Scored(nn.Module):
        """One loss a row, as Opacus wants it."""

        def __init__(self):
            super().__init__()
            self.headed = headed

        def forward(self, batch):
            target = headed.tower.standardiser.target(batch.target)
            return (self.headed.head(self.headed.tower(batch)) - target).square().mean(dim=1)

    expected = [private.subject_gradient(headed, person) for person in by_subject(rows)]
    for module in headed.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    headed.train()  # Opacus looks at networks in training mode only
    assert ModuleValidator.is_valid(headed)
    sampled = GradSampleModule(Scored(), loss_reduction="sum", batch_first=True)
    torch.autograd.backward(sampled(make_batch(rows, range(len(rows)))).sum())
    per_row = torch.cat([p.grad_sample.reshape(len(rows), -1) for p in sampled.parameters()], dim=1).double().numpy()
    for subject, gradient in zip(rows.subjects, expected, strict=True):
        own = [i for i, row in enumerate(rows.rows) if row.subject == subject]
        assert np.abs(per_row[own].mean(axis=0) - gradient).max() <= 1e-6


def test_the_step_divides_by_the_public_number_and_an_empty_draw_still_moves(recipe, headed):
    before = torch.cat([p.detach().reshape(-1) for p in headed.parameters()]).double().numpy()
    one = replace(recipe, steps=1)
    take_private_steps(one, headed, [], noise=NOISE, occasion=b"nobody is left")
    after = torch.cat([p.detach().reshape(-1) for p in headed.parameters()]).double().numpy()
    moved = (after - before) / one.learning_rate * one.rate * one.subjects / one.noise_multiplier
    assert moved.std() == pytest.approx(1.0, abs=0.15)


def test_a_cohort_whose_last_person_left_still_gives_a_tower(recipe, cohort):
    nobody = cohort.select([i for i, r in enumerate(cohort.rows) if r.partition is Partition.PUBLIC])
    assert train(recipe, nobody).transcript.epsilon == train(recipe, cohort).transcript.epsilon


def test_poisson_draws_have_their_rate_and_are_independent():
    drawn = np.array([private.poisson_draw(0.2, 200, noise=NOISE, context=b"%d" % i) for i in range(500)])
    assert drawn.mean() == pytest.approx(0.2, abs=0.005)
    assert drawn.sum(axis=1).var() == pytest.approx(200 * 0.2 * 0.8, rel=0.25)
    assert private.poisson_draw(1.0, 50, noise=NOISE, context=b"all").all()


def test_the_secret_alone_decides_and_torch_s_generator_has_no_say(recipe, cohort):
    torch.manual_seed(1)
    first = train(recipe, cohort)
    torch.manual_seed(2)
    assert train(recipe, cohort).transcript.to_bytes() == first.transcript.to_bytes()
    others = (
        train(recipe, cohort, noise=NoiseSource(b"o" * 32)),
        train(recipe, cohort, purpose="line demo, version 2, audio"),
        train(recipe, cohort, seed=2),
    )
    assert len({weights_digest(tower.tower) for tower in (first, *others)}) == 4


def test_two_different_sums_never_share_noise(recipe, headed, rows, monkeypatch):
    contexts = []

    class Recording(NoiseSource):
        def standard_normal(self, context, count):
            contexts.append(context)
            return super().standard_normal(context, count)

    for people in (by_subject(rows), by_subject(rows)[1:]):
        take_private_steps(
            replace(recipe, rate=1.0), headed, people, noise=Recording(b"n" * 32), occasion=b"the same by mistake"
        )
    draws = 2 * recipe.steps
    assert len(contexts) == 2 * draws
    assert len(set(contexts)) == 2 * draws - recipe.steps  # Poisson contexts alone coincide; no noise does


def test_deleting_one_channel_of_one_person_changes_the_tower_of_that_channel_alone(recipe, cohort):
    person = next(r.subject for r in cohort.rows if r.partition is Partition.REVOCABLE and r.split is Split.TRAIN)
    without_text = cohort.without([(person, "text")])
    without_audio = cohort.without([(person, "audio")])
    audio = train(recipe, cohort).transcript
    assert train(recipe, without_text).transcript.to_bytes() == audio.to_bytes()
    after = train(recipe, without_audio).transcript
    assert after.weights_digest != audio.weights_digest
    assert replace(after, weights_digest=audio.weights_digest).digest == audio.digest  # nothing else tells them apart


def test_only_public_and_revocable_training_rows_are_read(recipe, cohort):
    read = cohort.select([i for i, row in enumerate(cohort.rows) if row.split is Split.TRAIN])
    assert train(recipe, read).transcript.to_bytes() == train(recipe, cohort).transcript.to_bytes()


def test_constants_do_not_depend_on_revocable_rows(recipe, cohort):
    revocable = cohort.where(partition=Partition.REVOCABLE, split=Split.TRAIN)
    loud = {m: tuple(None if x is None else 100 * x for x in column) for m, column in revocable.features.items()}
    public = cohort.where(partition=Partition.PUBLIC)
    both = replace(
        public,
        rows=public.rows + revocable.rows,
        features={m: public.features[m] + loud[m] for m in public.modalities},
    )
    first, second = train(recipe, cohort), train(recipe, both)
    assert weights_digest(first.tower.standardiser) == weights_digest(second.tower.standardiser)
    assert first.transcript.start_digest == second.transcript.start_digest


def test_layers_that_mix_or_remember_rows_are_refused(recipe, headed, rows):
    headed.tower.encoder.refine = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6))
    with pytest.raises(TrainingError, match=r"tower\.encoder\.refine\.1"):
        take_private_steps(recipe, headed, by_subject(rows), noise=NOISE, occasion=b"x")


def test_a_layer_that_remembers_rows_in_a_buffer_is_noticed(recipe, headed, rows):
    class Remembering(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(6))

        def forward(self, x):
            self.seen += x.detach().sum(dim=0)
            return x

    headed.tower.encoder.norm = Remembering()
    with pytest.raises(TrainingError, match="without any noise"):
        take_private_steps(replace(recipe, rate=1.0), headed, by_subject(rows), noise=NOISE, occasion=b"x")


def test_gradients_that_are_not_finite_stop_the_run(recipe, headed, rows):
    (first, *_) = by_subject(rows)
    broken = replace(first, target=first.target * float("nan"))
    with pytest.raises(TrainingError, match="not finite"):
        take_private_steps(replace(recipe, rate=1.0), headed, [broken], noise=NOISE, occasion=b"x")


def test_impossible_recipes_are_refused(recipe, headed, rows):
    for change in ({"subjects": 0}, {"clip": 0.0}, {"learning_rate": 0.0}, {"momentum": 1.0}):
        with pytest.raises(TrainingError, match="private recipe"):
            replace(recipe, **change)
    with pytest.raises(PrivacyError):
        replace(recipe, rate=0.0)
    faint = replace(recipe, noise_multiplier=1e-9)
    with pytest.raises(ExactnessError, match="could round"):
        take_private_steps(faint, headed, by_subject(rows), noise=NOISE, occasion=b"x")


def test_the_transcript_states_the_claim_and_holds_neither_secret_nor_anything_of_revocable_rows(recipe, cohort):
    transcript = train(recipe, cohort).transcript
    text = transcript.to_bytes().decode()
    told = json.loads(text)
    assert told["epsilon"] == epsilon_of(recipe.run, recipe.delta)
    assert told["recipe"]["noise_multiplier"] == 4.0
    assert told["recipe"]["clip"] == 1.0
    assert told["noise"] == {"algorithm": private.ALGORITHM, "commitment": NOISE.commitment}
    assert NOISE.secret.hex() not in text
    assert not [s for s in cohort.subjects if s in text]


def test_with_little_privacy_it_learns():
    cohort = synthetic_cohort(
        subjects=Subjects(public_train=2, public_valid=1, revocable_train=24, revocable_test=1), clips=5
    )
    rows = only_channel(cohort.where(partition=Partition.REVOCABLE, split=Split.TRAIN), "text")
    public = cohort.where(partition=Partition.PUBLIC, split=Split.TRAIN)
    start = TowerRecipe("text", width=8, epochs=0)
    recipe = PrivateRecipe(start, rate=0.5, noise_multiplier=0.5, steps=40, subjects=24, learning_rate=0.1)
    headed = train_headed(start, public, 1, public=public)

    def loss():
        with torch.no_grad():
            return headed.loss(make_batch(rows, range(len(rows)))).item()

    before = loss()
    take_private_steps(recipe, headed, by_subject(rows), noise=NOISE, occasion=b"x")
    assert loss() < 0.75 * before


class OneWeight(nn.Module):
    """A tower of one parameter whose loss is linear: everybody's gradient is their rows' mean label."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def loss(self, batch):
        return (batch.target * self.weight).mean()


AUDIT_DELTA = 0.01  # a small delta hides what a few hundred runs can see


def audited_epsilon(rows, canary, recipe, *, units_of=by_subject, runs=1200):
    """A lower confidence bound (99 %) of epsilon from releases with and without a worst-case person.

    The canary's gradient points one way in every step, so the weight itself is the best statistic. Half of the runs
    choose a threshold, the other half is judged at it, by Clopper-Pearson bounds of both rates.
    """

    def releases(some, tag):
        people, released = units_of(some), []
        for run in range(runs):
            network = OneWeight()
            take_private_steps(recipe, network, people, noise=NOISE, occasion=b"%s %d" % (tag, run))
            released.append(-network.weight.item())
        return np.array(released)

    def bound(threshold, inside, outside):
        hits, falses = int((inside > threshold).sum()), int((outside > threshold).sum())
        low = beta.ppf(0.005, hits, len(inside) - hits + 1) if hits else 0.0
        high = beta.ppf(0.995, falses + 1, len(outside) - falses) if falses < len(outside) else 1.0
        return float(np.log(max(low - AUDIT_DELTA, 1e-9) / high))

    half = runs // 2
    inside = releases(rows, b"in")
    outside = releases(rows.select([i for i, row in enumerate(rows.rows) if row.subject != canary]), b"out")
    thresholds = np.quantile(outside[:half], np.linspace(0.5, 0.995, 30))
    best = max(thresholds, key=lambda threshold: bound(threshold, inside[:half], outside[:half]))
    return bound(best, inside[half:], outside[half:])


@pytest.fixture(scope="module")
def canary_rows(rows):
    """Everybody's label is 0, except that the first person's rows all say 3: a gradient far over C."""
    canary = rows.subjects[0]
    labelled = tuple(replace(row, label=3.0 if row.subject == canary else 0.0) for row in rows.rows)
    return replace(rows, rows=labelled), canary


@pytest.fixture(scope="module")
def audited(recipe):
    return replace(recipe, rate=1.0, noise_multiplier=2.0, steps=3, momentum=0.0)


# With q = 0.5 and sigma = 2 an audit of this size sees nothing (its bound is about 0): there the noise is less.
@pytest.mark.parametrize(("rate", "sigma"), [(0.5, 0.7), (1.0, 2.0)])
def test_an_audit_with_a_worst_case_person_stays_under_the_claimed_epsilon(audited, canary_rows, rate, sigma):
    honest = replace(audited, rate=rate, noise_multiplier=sigma)
    claimed = epsilon_of(honest.run, AUDIT_DELTA)
    assert 0.25 * claimed < audited_epsilon(*canary_rows, honest) <= claimed


@pytest.mark.parametrize("bug", ["clipping by row", "a quarter of the noise"])
def test_the_same_audit_catches_planted_bugs(audited, canary_rows, bug):
    claimed = epsilon_of(audited.run, AUDIT_DELTA)
    if bug == "clipping by row":
        found = audited_epsilon(*canary_rows, audited, units_of=a_batch_a_row, runs=500)
    else:
        found = audited_epsilon(*canary_rows, replace(audited, noise_multiplier=audited.noise_multiplier / 4), runs=500)
    assert found > claimed
