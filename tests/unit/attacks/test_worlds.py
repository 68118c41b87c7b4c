"""Worlds of a line: what they find before a deletion, what they do not find after it, and a line's own people."""

from dataclasses import replace

import numpy as np
import pytest

from mbd.attacks.canary import known_noise, make_line
from mbd.attacks.membership import compare_membership, likelihood_ratio_membership
from mbd.attacks.own_people import attack_people, attack_private_towers
from mbd.attacks.report import Effort
from mbd.attacks.suite import plain_line
from mbd.attacks.worlds import look_into_worlds, membership_report, relearning_report
from mbd.cohort.cohort import EVERYONE, Partition, Split
from mbd.cohort.modality import Modality
from mbd.cohort.synthetic import Subjects, synthetic_cohort
from mbd.deletion import engine
from mbd.deletion.outcome import Revocation
from mbd.errors import AttackError
from mbd.lattice.release import ReleasePolicy
from mbd.training.recipe import Recipe
from mbd.training.tower_recipe import PrivateRecipe, TowerRecipe

VOICE = Modality.AUDIO
COHORT = synthetic_cohort(0, subjects=Subjects(6, 3, 12, 1), clips=5, missing=0.0)
PEOPLE = COHORT.where(partition=Partition.REVOCABLE, split=Split.TRAIN).subjects


def unheard(done, about):
    """Nobody waits."""


@pytest.fixture(scope="module")
def worlds():
    return look_into_worlds(plain_line, COHORT, PEOPLE, VOICE, worlds=8, seed=0, on_progress=unheard)


def test_each_person_is_exposed_in_half_of_the_worlds(worlds):
    exposed_WS = np.stack([world.exposed_S for world in worlds])
    assert exposed_WS.sum(axis=0).tolist() == [4] * len(PEOPLE)
    assert len({world.exposed_S.tobytes() for world in worlds}) > 1


def test_the_attack_sees_what_a_line_knows_before_the_deletion(worlds):
    undeleted = [replace(world, after_S=world.before_S) for world in worlds]
    report = membership_report(undeleted, target="t", seed=0, confidence=0.95)
    assert report.verdict == "broken"
    assert report.estimates[0].value > 0.9


def test_after_the_deletion_there_is_nothing_to_see(worlds):
    report = membership_report(worlds, target="t", seed=0, confidence=0.95)
    assert report.verdict == "held"
    by_name = {estimate.name: estimate.value for estimate in report.estimates}
    assert by_name["area under the curve before the deletion"] > 0.9
    assert report.details["epsilon_claimed"] > 0
    score, null = (
        by_name[f"{name}"] for name in ("forgetting score of the NeurIPS 2023 challenge", "the same of the null")
    )
    assert score > null / 2
    assert report.seconds > 0


def test_heads_that_kept_what_they_knew_learn_it_again_at_once(worlds):
    assert relearning_report(worlds, target="t", seed=0, confidence=0.95).verdict == "held"
    kept = [replace(world, steps=(0.0, world.steps[1])) for world in worlds]
    assert relearning_report(kept, target="t", seed=0, confidence=0.95).verdict == "broken"


def test_a_deletion_that_claims_nothing_has_no_claim_to_break(worlds):
    empirical = [replace(world, epsilon=None, after_S=world.before_S) for world in worlds]
    report = membership_report(empirical, target="t", seed=0, confidence=0.95)
    assert report.verdict == "measured"
    assert report.details["epsilon_claimed"] is None


def test_worlds_without_people_or_too_few_are_refused():
    for people, worlds in (((), 8), (PEOPLE, 3)):
        with pytest.raises(AttackError, match="too few"):
            look_into_worlds(plain_line, COHORT, people, VOICE, worlds=worlds, seed=0, on_progress=unheard)


ONE = Recipe(options={"width": 4, "property_width": 4}, epochs=2, batch_size=32)


def line(recipe):
    return make_line(COHORT, recipe, policy=ReleasePolicy(), noise=known_noise(0), purpose="before")


def attacks_on(model, pairs, only=("membership", "relearning", "reconstruction"), cohort=COHORT, entangled="retrain"):
    return list(
        attack_people(
            model,
            cohort,
            frozenset(pairs),
            line="main",
            effort=Effort(worlds=4),
            only=only,
            entangled=entangled,
            tell=unheard,
        )
    )


def test_an_entangled_line_is_attacked_by_networks_trained_anew():
    reports = attacks_on(line(replace(ONE, trains_on="everyone")), [(PEOPLE[0], VOICE)])
    assert [report.attack for report in reports] == ["membership", "relearning", "reconstruction"]
    assert {report.verdict for report in reports} == {"held"}
    assert reports[2].trials == 14  # 160 trials of 12 people


def test_the_worlds_of_a_public_backbone_do_not_train_it(monkeypatch):
    model = line(ONE)
    monkeypatch.setattr("mbd.attacks.own_people.make_line", None)
    reports = attacks_on(model, [(PEOPLE[0], VOICE)])
    assert [report.attack for report in reports] == ["membership", "relearning"]
    assert {report.target for report in reports} == {"main: audio"}


def test_where_everybody_withdraws_nobody_is_left_to_compare_with():
    assert attacks_on(line(ONE), [(EVERYONE, VOICE)]) == []
    assert attacks_on(line(ONE), [(PEOPLE[0], VOICE)], only=["one-run"]) == []


def test_private_towers_are_audited_at_their_own_constants():
    tower = PrivateRecipe(
        TowerRecipe("audio", width=3, epochs=1), rate=0.5, noise_multiplier=4.0, steps=2, subjects=20, learning_rate=0.1
    )
    model = line(replace(ONE, private=(tower,)))
    pairs = frozenset({(PEOPLE[0], VOICE)})
    (report,) = attack_private_towers(model, pairs, line="main", seed=0, tell=unheard)
    assert (report.attack, report.verdict) == ("one-run", "held")
    assert report.target.startswith("main: tower")
    assert report.claim > 0
    text = frozenset({(PEOPLE[0], Modality.TEXT)})
    assert list(attack_private_towers(model, text, line="main", seed=0, tell=unheard)) == []
    assert list(attack_private_towers(line(ONE), pairs, line="main", seed=0, tell=unheard)) == []


def test_a_way_that_proves_nothing_is_attacked_as_it_is():
    model = line(replace(ONE, trains_on="everyone"))
    (report,) = attacks_on(model, [(PEOPLE[0], VOICE)], only=["membership"], entangled="surgical")
    assert report.verdict == "measured"
    assert "surgical" in report.details["mechanisms"]


def test_a_single_person_is_attacked_by_what_can_be_said_of_one():
    alone = COHORT.select(
        [i for i, r in enumerate(COHORT.rows) if r.partition is Partition.PUBLIC or r.subject == PEOPLE[0]]
    )
    recipe = replace(ONE, epochs=1)
    model = make_line(alone, recipe, policy=ReleasePolicy(), noise=known_noise(0), purpose="before")
    (member, again) = attacks_on(model, [(PEOPLE[0], VOICE)], cohort=alone)
    assert member.details["worlds"] == 160
    assert (member.verdict, again.verdict) == ("held", "held")


def test_a_line_that_lost_a_channel_is_attacked_as_it_is_now():
    model = line(ONE)
    outcome = engine.delete(
        model,
        COHORT,
        Revocation(frozenset({(EVERYONE, VOICE)}), "all"),
        noise=known_noise(0),
        occasion="main/2",
        spent=[],
        salt=bytes(32),
    )
    left = COHORT.without([(EVERYONE, VOICE)])
    text = [(PEOPLE[0], Modality.TEXT)]
    (report,) = attacks_on(outcome.model, text, only=["membership"], cohort=left)
    assert report.verdict == "held"


@pytest.mark.parametrize("people", [1, 2, 20])
def test_chance_alone_breaks_no_claim(people):
    rng = np.random.default_rng(people)
    worlds = max(8, -(-160 // people))
    for _ in range(15):
        exposed_WS = np.stack([rng.permutation(worlds) < worlds // 2 for _ in range(people)], axis=1)
        attacked, null = (
            likelihood_ratio_membership(
                rng.normal(size=(worlds, people)), exposed_WS, delta=1e-5, seed=0, confidence=0.999
            )
            for _ in range(2)
        )
        assert compare_membership(attacked, null, claim=0.1, target="t", seed=0).verdict == "held"
