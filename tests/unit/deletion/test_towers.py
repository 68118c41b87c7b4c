"""What a deletion does to sharded towers, and how they come back. Each planted bug has to be noticed."""

import dataclasses

import numpy as np
import pytest

from mbd.cohort.cohort import EVERYONE, Partition, Split
from mbd.cohort.modality import Modality, pattern_name
from mbd.deletion import engine
from mbd.deletion.towers import bring_back, missing_towers
from mbd.errors import NoMechanismError
from mbd.lattice.towers import Sharded, part_of, shard_of
from mbd.privacy.gaussian import mu_of
from mbd.privacy.guarantee import Exact

AUDIO, TEXT, VISION = Modality.AUDIO, Modality.TEXT, Modality.VISION
SHARDS = ("a.shard0", "a.shard1", "a.shard2")


@pytest.fixture(scope="module")
def people(cohort):
    """Revocable training subjects with a voice, by shard: 0, 0, 1, 2."""
    rows = cohort.where(partition=Partition.REVOCABLE, split=Split.TRAIN).restrict([AUDIO])
    by_shard = {n: [s for s in rows.subjects if shard_of(s, 3, b"k" * 32) == n] for n in range(3)}
    return [*by_shard[0][:2], by_shard[1][0], by_shard[2][0]]


@pytest.fixture(scope="module")
def tester(cohort):
    return next(row.subject for row in cohort.rows if row.split is Split.TEST)


@pytest.fixture(scope="module")
def requests(people, tester):
    return {
        "one": [(people[0], AUDIO)],
        "two of one shard": [(people[0], AUDIO), (people[1], AUDIO)],
        "two of two shards": [(people[0], AUDIO), (people[2], AUDIO)],
        "one of every shard": [(person, AUDIO) for person in people],
        "text": [(people[0], TEXT)],
        "all of one": [(people[3], m) for m in Modality],
        "test split": [(tester, AUDIO)],
        "everyone": [(EVERYONE, AUDIO)],
        "everyone and one": [(EVERYONE, TEXT), (people[2], AUDIO)],
        "everyone's face": [(EVERYONE, VISION)],
    }


REQUESTS = (
    "one",
    "two of one shard",
    "two of two shards",
    "one of every shard",
    "text",
    "all of one",
    "test split",
    "everyone",
    "everyone and one",
    "everyone's face",
)


@pytest.mark.parametrize("name", REQUESTS)
def test_the_towers_of_the_people_concerned_go_and_everything_left_is_of_the_rest(
    towered, towers_model, cohort, requests, name
):
    outcome = towered.deleted(towers_model, cohort, *requests[name])
    towered.assert_towers_of_the_rest(towers_model, cohort, outcome, *requests[name])
    towered.assert_statistics_and_heads_of_the_rest(towers_model, cohort, outcome, *requests[name])


@pytest.mark.parametrize(
    ("name", "gone", "mechanism"),
    [
        ("one", {"a.shard0"}, "tower-drop"),
        ("two of one shard", {"a.shard0"}, "tower-drop"),
        ("two of two shards", {"a.shard0", "a.shard1"}, "tower-drop"),
        ("one of every shard", set(SHARDS), "tower-drop"),
        ("text", set(), "lattice-newton"),
        ("test split", set(), "lattice-drop"),
        ("everyone", set(SHARDS), "lattice-drop"),
        ("everyone's face", {"v.private"}, "lattice-drop"),
    ],
)
def test_what_goes_and_by_which_mechanism(towered, towers_model, cohort, *, requests, name, gone, mechanism):
    """The same as above in plain words, so that a mistake in the definition does not hide."""
    outcome = towered.deleted(towers_model, cohort, *requests[name])
    assert (set(outcome.towers), outcome.mechanism) == (gone, mechanism)
    if mechanism != "lattice-newton":
        assert isinstance(outcome.guarantee, Exact)


def test_heads_that_see_no_withdrawn_channel_keep_their_bits(towered, towers_model, cohort, requests):
    outcome = towered.deleted(towers_model, cohort, *requests["one"])
    assert {pattern_name(p) for p in outcome.unchanged} == {"t", "v", "tv"}
    for pattern in outcome.unchanged:
        assert np.array_equal(outcome.model.heads[pattern].weights_DK, towers_model.heads[pattern].weights_DK)
    assert {pattern_name(p) for p in outcome.updated} == {"a", "ta", "av", "tav"}


@pytest.mark.parametrize("name", ["one", "one of every shard", "two of two shards", "everyone and one"])
def test_a_tower_drop_takes_nothing_from_the_heads_before(towered, towers_model, cohort, requests, name):
    """Exact: with nonsense in place of all old weights, the released ones are the same bits."""
    usual = towered.deleted(towers_model, cohort, *requests[name])
    odd = towered.deleted(towered.with_nonsense_heads(towers_model), cohort, *requests[name])
    assert usual.mechanism == "tower-drop"
    for pattern in usual.updated:
        assert np.array_equal(odd.model.heads[pattern].weights_DK, usual.model.heads[pattern].weights_DK)


def test_the_same_nonsense_changes_a_newton_release(towered, towers_model, cohort, requests):
    """The comparison can fail: Newton starts from the old weights, and then the nonsense is not certified or shows."""
    usual = towered.deleted(towers_model, cohort, *requests["text"])
    odd = towered.deleted(towered.with_nonsense_heads(towers_model), cohort, *requests["text"])
    assert any(
        not np.array_equal(odd.model.heads[p].weights_DK, usual.model.heads[p].weights_DK) for p in usual.updated
    )


def test_a_tower_drop_spends_nothing_whatever_the_budget(towered, towers_model, cohort, requests):
    policy = towers_model.policy
    spent = [mu_of(policy.budget_epsilon, policy.delta)]
    outcome = towered.deleted(towers_model, cohort, *requests["one"], spent=spent)
    assert (outcome.mechanism, type(outcome.guarantee)) == ("tower-drop", Exact)


def test_a_label_that_falls_takes_the_towers_of_all_channels_of_its_rows_along(towered, random_cohort, fit_towers):
    """The rows leave with their labels: who trained the face's tower by them has left it too."""
    cohort = random_cohort(3, subjects=10, clips=4, label_policy="falls")
    model = fit_towers(cohort)
    rows = cohort.where(partition=Partition.REVOCABLE, split=Split.TRAIN)
    person = next(s for s in rows.subjects if rows.of_subjects([s]).presence.any(axis=0).all())
    outcome = towered.deleted(model, cohort, (person, AUDIO))
    towered.assert_towers_of_the_rest(model, cohort, outcome, (person, AUDIO))
    towered.assert_statistics_and_heads_of_the_rest(model, cohort, outcome, (person, AUDIO))
    assert len(outcome.towers) == 1
    assert outcome.model.origins["v.private"].departed == 1
    everyone = towered.deleted(model, cohort, (EVERYONE, AUDIO))
    towered.assert_statistics_and_heads_of_the_rest(model, cohort, everyone, (EVERYONE, AUDIO))
    left = everyone.model.origins.get("v.private")
    assert left is None or left.departed == len(rows.restrict([VISION]).subjects), "public people never leave"


def test_a_tower_that_is_missing_already_does_not_go_again(towered, towers_model, cohort, people):
    once = towered.deleted(towers_model, cohort, (people[0], AUDIO)).model
    rest = cohort.without([(people[0], AUDIO)])
    again = towered.deleted(once, rest, (people[1], AUDIO))
    assert (again.towers, again.mechanism) == ((), "lattice-newton")
    towered.assert_statistics_and_heads_of_the_rest(once, rest, again, (people[1], AUDIO))


@pytest.mark.parametrize("name", REQUESTS)
def test_the_plan_is_what_delete_does(towered, towers_model, cohort, requests, name):
    asked = towered.asked(*requests[name])
    planned = engine.plan(towers_model, cohort, asked, spent=[])
    outcome = towered.deleted(towers_model, cohort, *requests[name])
    assert (planned.mechanism, planned.rows_touched) == (outcome.mechanism, outcome.rows_touched)
    assert planned.guarantee == outcome.guarantee
    steps = {step.part: step for step in planned.steps}
    towers = {name: steps.pop(part_of(name)) for name in towers_model.origins}
    assert {name for name, step in towers.items() if step.action == "dropped"} == set(outcome.towers)
    assert {name for name, step in towers.items() if step.action == "kept"} == set(outcome.model.origins)
    for action, patterns in (
        ("released again", outcome.updated),
        ("kept", outcome.unchanged),
        ("dropped", outcome.dropped),
    ):
        heads = {part for part, step in steps.items() if step.action == action and part.startswith("head ")}
        assert heads == {f"head {pattern_name(p)}" for p in patterns}
    for pattern in outcome.updated:
        assert steps[f"head {pattern_name(pattern)}"].coordinates == len(outcome.model.heads[pattern].weights_DK)
    if isinstance(outcome.guarantee, Exact):
        assert {step.guarantee for step in planned.steps} == {"exact"}
        assert (planned.budget.this, planned.budget.after) == (0, planned.budget.spent)


@pytest.mark.parametrize("seed", [0, 1])
def test_towers_that_come_back_make_the_line_that_the_rest_would_have_trained(
    towered, cohort, fit_towers, people, seed
):
    """Statistics, towers, scales and layout bit for bit those of a line that never knew the withdrawn voices."""
    model = fit_towers(cohort, seed=seed)
    pairs = [(people[0], AUDIO), (people[2], AUDIO)]
    after, rest = towered.deleted(model, cohort, *pairs).model, cohort.without(pairs)
    assert missing_towers(after) == ("a.shard0", "a.shard1")
    made = towered.trained(after, rest, missing_towers(after))
    back = bring_back(after, rest, made, noise=towered.noise, purpose="line/3", salt=b"u" * 32)
    anew = fit_towers(rest, seed=seed)
    assert missing_towers(back) == ()
    sharded = [name for name in back.origins if isinstance(back.origins[name], Sharded)]
    assert {n: back.origins[n] for n in sharded} == {n: anew.origins[n] for n in sharded}
    networks = ({n: m.featurizer.towers[n] for n in sharded} for m in (back, anew))
    assert len({tuple(sorted(towered.digests(each).items())) for each in networks}) == 1
    for name in sharded:
        assert np.array_equal(back.featurizer.scalings[name].factor, anew.featurizer.scalings[name].factor)
    assert list(back.layout.towers.items()) == list(anew.layout.towers.items())
    without_private = ({"v.private"}, (back, anew))
    narrow = [m.statistics.at(m.layout.kept_in(m.layout.without_towers(without_private[0]))) for m in (back, anew)]
    assert narrow[0] == narrow[1]
    for pattern in model.layout.patterns:
        same = np.array_equal(back.heads[pattern].weights_DK, after.heads[pattern].weights_DK)
        assert same == (AUDIO not in pattern), "heads of other channels keep their bits"
    towered.assert_statistics_and_heads_of_the_rest(
        back, rest, dataclasses.replace(towered.deleted(back, rest), model=back)
    )


def test_a_shard_that_nobody_is_left_to_train_stays_away(towered, towers_model, cohort):
    voices = cohort.where(partition=Partition.REVOCABLE).restrict([AUDIO]).subjects
    pairs = [(s, AUDIO) for s in voices if shard_of(s, 3, towers_model.shard_key) == 2]
    after, rest = towered.deleted(towers_model, cohort, *pairs).model, cohort.without(pairs)
    assert missing_towers(after) == ("a.shard2",)
    assert towered.trained(after, rest, missing_towers(after)) == {}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"tower a.shard1": None}, "tower a.shard1"),
        ({"tower a.shard1": "private"}, "tower a.shard1"),
        ({"tower v.private": "public"}, "tower v.private"),
        ({"tower v.private": "hearsay"}, "tower v.private"),
        ({"tower t.shard0": "sharded"}, "tower t.shard0"),
    ],
)
def test_a_tower_without_a_known_provenance_is_refused(towered, towers_model, cohort, *, people, change, named):
    provenance = {k: v for k, v in {**towers_model.provenance, **change}.items() if v is not None}
    odd = dataclasses.replace(towers_model, provenance=provenance)
    for attempt in (
        lambda: engine.plan(odd, cohort, towered.asked((people[0], TEXT)), spent=[]),
        lambda: towered.deleted(odd, cohort, (people[0], TEXT)),
    ):
        with pytest.raises(NoMechanismError, match=named) as refused:
            attempt()
        assert "train a new line" in refused.value.remedy


def test_a_tower_that_nobody_accounts_for_is_refused(towered, towers_model, cohort, people):
    """A network in the featurizer without an origin: nobody knows who trained it."""
    origins = {n: o for n, o in towers_model.origins.items() if n != "a.shard1"}
    known = {part: value for part, value in towers_model.provenance.items() if part != "tower a.shard1"}
    odd = dataclasses.replace(towers_model, origins=origins, provenance=known)
    with pytest.raises(NoMechanismError, match=r"no mechanism: tower a\.shard1"):
        towered.deleted(odd, cohort, (people[0], TEXT))


def test_what_an_exact_deletion_says_of_the_towers_that_remain_is_true(towered, towers_model, cohort, people):
    """The private tower did see the person's face, and not in a shard: nothing else may be claimed of it."""
    outcome = towered.deleted(towers_model, cohort, (people[0], AUDIO))
    (said,) = [text for text in outcome.guarantee.equalities if "towers" in text]
    assert "v.private" in outcome.model.origins
    assert said.startswith("sharded towers")
    assert "read anything that is withdrawn" in said
