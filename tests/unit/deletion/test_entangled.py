"""Deletion from a line whose backbone everybody shaped: what each of the three ways gives, and never claims."""

import dataclasses
import json
from functools import partial

import numpy as np
import pytest
import torch

from mbd.backbones.weights import weights_digest
from mbd.cohort.cohort import EVERYONE, Partition, Split
from mbd.cohort.modality import Modality, pattern_name
from mbd.deletion import engine, noisy_finetuning
from mbd.deletion.engine import plan
from mbd.deletion.entangled import fine_tuning_options, surgical_options
from mbd.deletion.noisy_finetuning import NoisyFineTuning
from mbd.deletion.outcome import Revocation
from mbd.errors import DeletionError, NoMechanismError, TrainingError
from mbd.lattice.fit import Line, fit_lattice
from mbd.lattice.release import ReleasePolicy
from mbd.privacy.gaussian import epsilon_of, mu_of
from mbd.privacy.guarantee import Certified, Empirical, Exact
from mbd.privacy.noise import NoiseSource
from mbd.training.loop import train
from mbd.training.recipe import Recipe

AUDIO, TEXT, VISION = Modality.AUDIO, Modality.TEXT, Modality.VISION
NOISE = NoiseSource(b"n" * 32)
WAYS = ("retrain", "noisy-fine-tuning", "surgical")
CLASSES = {"retrain": Exact, "noisy-fine-tuning": Certified, "surgical": Empirical}


@pytest.fixture(scope="module")
def cohort(entangled_cohort):
    return entangled_cohort


@pytest.fixture(scope="module")
def recipe(quick_recipe):
    return dataclasses.replace(quick_recipe, trains_on="everyone")


def fitted(backbone, cohort, recipe, *, purpose="line/1", salt=b"s" * 32):
    line = Line(entangled=True, recipe=recipe.to_json(), seed=0)
    return fit_lattice(
        backbone,
        cohort,
        policy=ReleasePolicy(),
        noise=NOISE,
        purpose=purpose,
        salt=salt,
        indicator_penalty=2.0,
        line=line,
    )


@pytest.fixture(scope="module")
def model(cohort, recipe):
    return fitted(train(recipe, cohort, seed=0, partitions=recipe.partitions).backbone, cohort, recipe)


@pytest.fixture(scope="module")
def someone(someone_revocable):
    return someone_revocable


@pytest.fixture(scope="module")
def tester(cohort):
    return next(row.subject for row in cohort.rows if row.split is Split.TEST)


@pytest.fixture(autouse=True)
def _few_finishing_steps(monkeypatch):
    """The engine takes the default options alone; they are made quick, and their account stays what it is."""
    quick = partial(NoisyFineTuning, finishing_steps=4, largest_loss=1e9)
    monkeypatch.setattr(noisy_finetuning, "NoisyFineTuning", quick)


def asked(*pairs):
    return Revocation(frozenset(pairs), "ab" * 32)


def deleted(model, cohort, *pairs, way, **more):
    return engine.delete(
        model, cohort, asked(*pairs), noise=NOISE, occasion="line/2", spent=[], salt=b"t" * 32, entangled=way, **more
    )


def assert_same_model(one, two):
    """Every parameter, constant, sum and released weight, bit for bit, and all else that a model is."""
    ours, theirs = one.featurizer.backbone.state_dict(), two.featurizer.backbone.state_dict()
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert one.layout == two.layout
    for group, scaling in one.featurizer.scalings.items():
        assert np.array_equal(scaling.centre, two.featurizer.scalings[group].centre)
        assert np.array_equal(scaling.factor, two.featurizer.scalings[group].factor)
    assert one.statistics == two.statistics
    assert set(one.heads) == set(two.heads)
    assert all(np.array_equal(head.weights_DK, two.heads[p].weights_DK) for p, head in one.heads.items())
    assert (one.policy, one.provenance, one.recipe, one.seed) == (two.policy, two.provenance, two.recipe, two.seed)


@pytest.mark.parametrize("what", ["one channel", "everything", "a modality of everyone"])
def test_a_retraining_is_the_line_that_never_had_the_channels(model, cohort, recipe, someone, what):
    """Stage one and stage two, from the definition: `train` and `fit_lattice` on D' with the purpose of the release."""
    pairs = {
        "one channel": [(someone, AUDIO)],
        "everything": [(someone, m) for m in Modality],
        "a modality of everyone": [(EVERYONE, AUDIO)],
    }[what]
    outcome = deleted(model, cohort, *pairs, way="retrain")
    rest = cohort.without(pairs) if what != "a modality of everyone" else cohort.restrict([TEXT, VISION])
    backbone = train(recipe, rest, seed=0, partitions=tuple(Partition)).backbone
    anew = fitted(backbone, rest, recipe, purpose=f"line/2/{'ab' * 32}", salt=b"t" * 32)
    assert_same_model(outcome.model, anew)
    assert isinstance(outcome.guarantee, Exact)
    assert weights_digest(outcome.model.featurizer.backbone) != weights_digest(model.featurizer.backbone)
    assert {pattern_name(p) for p in outcome.dropped} == ({"a", "ta", "av", "tav"} if len(anew.heads) == 3 else set())
    assert outcome.report["rows"]["train"] == len(rest.where(split=Split.TRAIN))


def test_a_retraining_reads_nothing_that_is_withdrawn(model, cohort, someone):
    """The withdrawn voice, replaced by numbers that would ruin any training, changes no bit."""
    column = tuple(
        x if row.subject != someone or x is None else np.full_like(x, 1e30)
        for row, x in zip(cohort.rows, cohort.features[AUDIO], strict=True)
    )
    ruined = dataclasses.replace(cohort, features={**cohort.features, AUDIO: column})
    usual, odd = (deleted(model, rows, (someone, AUDIO), way="retrain") for rows in (cohort, ruined))
    assert_same_model(usual.model, odd.model)


@pytest.mark.parametrize("way", WAYS)
def test_the_plan_is_what_delete_does_and_changes_nothing(model, cohort, someone, way):
    before = weights_digest(model.featurizer.backbone)
    planned = engine.plan(model, cohort, asked((someone, AUDIO)), spent=[], entangled=way)
    assert weights_digest(model.featurizer.backbone) == before
    outcome = deleted(model, cohort, (someone, AUDIO), way=way)
    assert weights_digest(model.featurizer.backbone) == before, "the live version is not worked on"
    assert planned.mechanism == outcome.mechanism == way
    assert planned.rows_touched == outcome.rows_touched > 0
    assert type(planned.guarantee) is type(outcome.guarantee) is CLASSES[way]
    if way != "surgical":
        assert planned.guarantee == outcome.guarantee
    assert {step.guarantee for step in planned.steps} == {planned.guarantee.name}
    heads = {s.part.removeprefix("head ") for s in planned.steps if s.action == "released again"}
    assert heads == {pattern_name(p) for p in outcome.updated} == {pattern_name(p) for p in model.layout.patterns}
    assert {other.mechanism for other in planned.alternatives} == set(WAYS) - {way}
    assert planned.rows_read == len(cohort.without([(someone, AUDIO)]).where(split=Split.TRAIN))


@pytest.mark.parametrize("way", WAYS)
def test_no_head_and_no_statistic_survives_from_before(model, cohort, someone, way):
    """Everything above the backbone is a function of it and D': nonsense in the old heads changes nothing."""
    nonsense = {
        p: dataclasses.replace(head, weights_DK=np.full_like(head.weights_DK, 9.0)) for p, head in model.heads.items()
    }
    usual = deleted(model, cohort, (someone, AUDIO), way=way)
    odd = deleted(dataclasses.replace(model, heads=nonsense), cohort, (someone, AUDIO), way=way)
    assert_same_model(usual.model, odd.model)
    rest = cohort.without([(someone, AUDIO)]).where(split=Split.TRAIN)
    assert usual.model.statistics == usual.model.featurizer.statistics(rest)


def test_noisy_fine_tuning_claims_what_its_account_says(model, cohort, someone):
    outcome = deleted(model, cohort, (someone, AUDIO), way="noisy-fine-tuning")
    options, report = NoisyFineTuning(), outcome.report
    chain = options.chain(sum(p.numel() for p in model.featurizer.backbone.parameters()))
    assert report["coordinates"] == chain.coordinates
    assert chain.mu(report["sigma"]) <= outcome.guarantee.mu == report["mu"]
    assert epsilon_of(outcome.guarantee.mu, options.delta) == pytest.approx(options.epsilon)
    planned = engine.plan(model, cohort, asked((someone, AUDIO)), spent=[0.5], entangled="noisy-fine-tuning")
    assert planned.budget.this == epsilon_of(outcome.guarantee.mu, model.policy.delta)
    assert planned.budget.after > planned.budget.this


def test_beyond_the_utility_limit_nothing_is_released_and_nothing_changed(model, cohort, someone, monkeypatch):
    monkeypatch.setattr(noisy_finetuning, "NoisyFineTuning", partial(NoisyFineTuning, largest_loss=1e-6))
    before = weights_digest(model.featurizer.backbone)
    with pytest.raises(DeletionError, match="No model was released") as refused:
        deleted(model, cohort, (someone, AUDIO), way="noisy-fine-tuning")
    assert "retrain" in refused.value.remedy
    assert weights_digest(model.featurizer.backbone) == before


@pytest.mark.parametrize("pairs", ["one", "everyone"])
def test_the_surgical_update_never_has_a_mu_or_an_epsilon(model, cohort, someone, pairs):
    pair = (someone if pairs == "one" else EVERYONE, AUDIO)
    outcome = deleted(model, cohort, pair, way="surgical")
    assert type(outcome.guarantee) is Empirical
    assert {field.name for field in dataclasses.fields(outcome.guarantee)} == {"report"}
    for report in (outcome.report, outcome.guarantee.report):
        words = json.dumps(report).lower()
        assert "epsilon" not in words
        assert '"mu"' not in words
    planned = engine.plan(model, cohort, asked(pair), spent=[], entangled="surgical")
    assert planned.guarantee == Empirical({})
    assert (planned.budget.this, planned.budget.after) == (0, planned.budget.spent)


@pytest.mark.parametrize("way", WAYS)
def test_a_person_whom_no_training_row_held_costs_nothing_and_is_exact(model, cohort, tester, way):
    outcome = deleted(model, cohort, (tester, AUDIO), way=way)
    planned = engine.plan(model, cohort, asked((tester, AUDIO)), spent=[], entangled=way)
    assert planned.mechanism == outcome.mechanism == "lattice-drop"
    assert planned.guarantee == outcome.guarantee
    assert isinstance(outcome.guarantee, Exact)
    assert (outcome.rows_touched, outcome.report, outcome.updated) == (0, None, ())
    assert weights_digest(outcome.model.featurizer.backbone) == weights_digest(model.featurizer.backbone)


def test_what_an_exact_drop_says_of_the_backbone_is_true(model, cohort, tester):
    """The backbone is not a function of public rows alone, so no equality may say so."""
    outcome = deleted(model, cohort, (tester, AUDIO), way="retrain")
    assert not any("public rows alone" in text for text in outcome.guarantee.equalities)


@pytest.mark.parametrize("way", WAYS)
def test_a_modality_that_nobody_withdraws_alone_leaves_for_everyone(model, cohort, way):
    outcome = deleted(model, cohort, (EVERYONE, AUDIO), way=way)
    assert set(outcome.model.layout.modalities) == {TEXT, VISION}
    assert {pattern_name(p) for p in outcome.dropped} == {"a", "ta", "av", "tav"}
    planned = engine.plan(model, cohort, asked((EVERYONE, AUDIO)), spent=[], entangled=way)
    dropped = {s.part for s in planned.steps if s.action == "dropped"}
    assert dropped == {f"head {name}" for name in ("a", "ta", "av", "tav")}
    rest = cohort.restrict([TEXT, VISION])
    assert np.isfinite(outcome.model.predict(rest).outputs_NK).all()


@pytest.mark.parametrize("way", WAYS)
def test_the_last_modality_cannot_leave_for_everyone(model, cohort, way):
    pairs = [(EVERYONE, m) for m in Modality]
    for attempt in (
        lambda: deleted(model, cohort, *pairs, way=way),
        lambda: engine.plan(model, cohort, asked(*pairs), spent=[], entangled=way),
    ):
        with pytest.raises(DeletionError, match="without a single channel"):
            attempt()


@pytest.mark.parametrize("part", ["constants", "statistics", "heads"])
@pytest.mark.parametrize("provenance", [None, "public", "hearsay"])
def test_a_part_of_another_provenance_is_refused(model, cohort, someone, part, provenance):
    known = {name: value for name, value in model.provenance.items() if name != part}
    odd = dataclasses.replace(model, provenance=known if provenance is None else {**known, part: provenance})
    with pytest.raises(NoMechanismError, match=part):
        deleted(odd, cohort, (someone, AUDIO), way="retrain")


def test_a_killed_retraining_goes_on_to_the_same_bits(model, cohort, someone, tmp_path):
    class Killed(BaseException):
        pass

    def kill(*_):
        raise Killed

    with pytest.raises(Killed):
        deleted(model, cohort, (someone, AUDIO), way="retrain", checkpoint_dir=tmp_path, on_progress=kill)
    assert list(tmp_path.iterdir())
    epochs = []

    def seen(epoch, *_):
        epochs.append(epoch)

    again = deleted(
        model,
        cohort,
        (someone, AUDIO),
        way="retrain",
        checkpoint_dir=tmp_path,
        on_progress=seen,
    )
    assert epochs == [2], "the first epoch is not trained again"
    assert not list(tmp_path.iterdir()), "a checkpoint is a network of those who may leave next"
    assert_same_model(again.model, deleted(model, cohort, (someone, AUDIO), way="retrain").model)


def test_an_entangled_line_without_its_people_cannot_be_trained_again(model, cohort):
    pairs = [(s, m) for s in cohort.where(partition=Partition.PUBLIC).subjects for m in Modality]
    nobody = cohort.where(partition=Partition.REVOCABLE)
    assert pairs
    with pytest.raises(TrainingError):
        deleted(model, nobody, (nobody.subjects[0], AUDIO), way="retrain")


def test_the_recipe_sets_the_constants_and_the_plan_knows(model, cohort, someone):
    recipe = Recipe.from_json(model.recipe)
    table = {"epsilon": 30.0, "finishing_steps": 2, "largest_loss": 1e9}
    line = dataclasses.replace(model, recipe=dataclasses.replace(recipe, noisy_fine_tuning=table).to_json())
    outcome = deleted(line, cohort, (someone, AUDIO), way="noisy-fine-tuning")
    assert {name: outcome.report[name] for name in table} == table
    asked = Revocation(frozenset({(someone, AUDIO)}), "plan")
    planned = plan(line, cohort, asked, spent=[], entangled="noisy-fine-tuning")
    assert planned.guarantee.mu == outcome.guarantee.mu == mu_of(30.0, NoisyFineTuning().delta)
    line = dataclasses.replace(model, recipe=dataclasses.replace(recipe, surgical={"corrected": True}).to_json())
    assert deleted(line, cohort, (someone, AUDIO), way="surgical").report["variant"] == "corrected"


@pytest.mark.parametrize(
    ("options_of", "table"),
    [
        (fine_tuning_options, {"noisy_fine_tuning": {"epsilom": 1.0}}),
        (fine_tuning_options, {"noisy_fine_tuning": {"steps": "many"}}),
        (fine_tuning_options, {"noisy_fine_tuning": {"batch_size": 0}}),
        (surgical_options, {"surgical": {"update": "prune"}}),
        (surgical_options, {"surgical": {"ratio": 2.0}}),
    ],
)
def test_constants_that_are_none_are_refused(options_of, table):
    with pytest.raises(DeletionError) as refused:
        options_of(Recipe(**table))
    assert refused.value.remedy
