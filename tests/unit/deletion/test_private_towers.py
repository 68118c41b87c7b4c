"""What a deletion does to a private tower and its account; and planted bugs that the assertions must notice."""

import dataclasses

import pytest

from mbd.cohort.cohort import EVERYONE, Partition, Split
from mbd.cohort.modality import Modality
from mbd.deletion import engine, lattice
from mbd.deletion.towers import bring_back, departed, drop_towers, missing_towers, touched
from mbd.errors import ExactnessError
from mbd.lattice.layout import Layout
from mbd.lattice.towers import Private, part_of, shard_of
from mbd.privacy.accounting import joint_epsilon
from mbd.privacy.gaussian import compose
from mbd.privacy.guarantee import Certified, Departed, Exact

AUDIO, TEXT, VISION = Modality.AUDIO, Modality.TEXT, Modality.VISION
PRIVATE = "v.private"


@pytest.fixture(scope="module")
def people(cohort):
    """Revocable training subjects with voice and face, of the shards 0, 0 and 1."""
    rows = cohort.where(partition=Partition.REVOCABLE, split=Split.TRAIN)
    both = [s for s in rows.subjects if rows.of_subjects([s]).presence.any(axis=0).all()]
    by_shard = {n: [s for s in both if shard_of(s, 3, b"k" * 32) == n] for n in range(3)}
    return [*by_shard[0][:2], by_shard[1][0]]


def with_budget(model, **changes):
    return dataclasses.replace(model, policy=dataclasses.replace(model.policy, **changes))


def assert_account(model, outcome, departed):
    """The tower stays, its account says how many have left, the guarantee carries it."""
    origin = outcome.model.origins[PRIVATE]
    assert origin == dataclasses.replace(model.origins[PRIVATE], departed=departed)
    assert isinstance(outcome.guarantee, Certified)
    assert outcome.guarantee.departed == (Departed(PRIVATE, origin.run, departed),)


def test_each_person_counts_once_whatever_they_withdraw(towered, towers_model, cohort, people):
    """Three people, six pairs, many rows: two of them leave the private tower of the face."""
    pairs = [(people[0], VISION), (people[0], TEXT), (people[2], VISION), (people[2], TEXT), (people[1], TEXT)]
    outcome = towered.deleted(towers_model, cohort, *pairs)
    assert_account(towers_model, outcome, 2)
    towered.assert_towers_of_the_rest(towers_model, cohort, outcome, *pairs)
    towered.assert_statistics_and_heads_of_the_rest(towers_model, cohort, outcome, *pairs)
    kept = outcome.model.featurizer.towers[PRIVATE]
    assert towered.digests({"": kept}) == towered.digests({"": towers_model.featurizer.towers[PRIVATE]})


def test_epsilon_is_that_of_the_accountant_with_heads_and_towers_together(towered, towers_model, cohort, people):
    outcome = towered.deleted(towers_model, cohort, (people[0], VISION), spent=[0.1])
    planned = engine.plan(towers_model, cohort, towered.asked((people[0], VISION)), spent=[0.1])
    assert outcome.mechanism == planned.mechanism == "lattice-newton"
    assert planned.guarantee == outcome.guarantee
    run, mu = towers_model.origins[PRIVATE].run, outcome.guarantee.mu
    delta = towers_model.policy.delta
    assert mu == compose([towers_model.policy.head_mu] * 4)
    assert planned.budget.this == joint_epsilon([(run, 1)], delta, mu=mu)
    assert planned.budget.after == joint_epsilon([(run, 1)], delta, mu=compose([0.1, mu]))
    assert planned.budget.after > planned.budget.this > joint_epsilon([], delta, mu=mu)


def test_a_later_deletion_adds_up(towered, towers_model, cohort, people):
    once = towered.deleted(towers_model, cohort, (people[0], VISION)).model
    rest = cohort.without([(people[0], VISION)])
    twice = towered.deleted(once, rest, (people[1], VISION))
    assert_account(once, twice, 2)
    steps = {s.part: s for s in engine.plan(once, rest, towered.asked((people[1], VISION)), spent=[]).steps}
    step = steps[part_of(PRIVATE)]
    assert (step.action, step.guarantee) == ("kept", "certified")
    assert "2 people" in step.reason
    other = towered.deleted(once, rest, (people[1], TEXT))
    assert other.mechanism == "lattice-newton"
    assert_account(once, other, 1)


def test_a_person_without_a_face_in_training_leaves_nobodys_account(towered, towers_model, cohort):
    tester = next(row.subject for row in cohort.rows if row.split is Split.TEST)
    outcome = towered.deleted(towers_model, cohort, (tester, VISION))
    assert (outcome.model.origins, type(outcome.guarantee)) == (towers_model.origins, Exact)


def test_few_rows_refit_the_heads_and_the_account_alone_remains(towered, towers_model, cohort, people):
    line = with_budget(towers_model, exact_rows=1000)
    outcome = towered.deleted(line, cohort, (people[0], VISION))
    assert outcome.mechanism == "lattice-refit"
    assert_account(line, outcome, 1)
    assert outcome.guarantee.mu == 0
    planned = engine.plan(line, cohort, towered.asked((people[0], VISION)), spent=[])
    assert planned.guarantee == outcome.guarantee
    assert planned.budget.this == joint_epsilon([(line.origins[PRIVATE].run, 1)], line.policy.delta) > 0


def test_a_shard_and_an_account_in_one_deletion_are_certified_without_a_mu(towered, towers_model, cohort, people):
    pairs = [(people[0], AUDIO), (people[0], VISION)]
    outcome = towered.deleted(towers_model, cohort, *pairs)
    assert (outcome.mechanism, outcome.towers) == ("tower-drop", ("a.shard0",))
    assert_account(towers_model, outcome, 1)
    assert outcome.guarantee.mu == 0
    towered.assert_towers_of_the_rest(towers_model, cohort, outcome, *pairs)
    towered.assert_statistics_and_heads_of_the_rest(towers_model, cohort, outcome, *pairs)


@pytest.mark.parametrize("why", ["used up", "no epsilon at this delta"])
def test_beyond_the_budget_the_tower_goes_and_the_class_is_exact_again(towered, towers_model, cohort, people, why):
    """Also where the accountant cannot state any epsilon: a deletion never fails because of what it would cost."""
    line = with_budget(towers_model, **({"budget_epsilon": 1e-3} if why == "used up" else {"delta": 1e-12}))
    pair = (people[0], VISION)
    outcome = towered.deleted(line, cohort, pair)
    planned = engine.plan(line, cohort, towered.asked(pair), spent=[])
    assert (outcome.mechanism, outcome.towers) == ("tower-drop", (PRIVATE,))
    assert isinstance(outcome.guarantee, Exact)
    assert (planned.mechanism, planned.guarantee) == (outcome.mechanism, outcome.guarantee)
    (step,) = [step for step in planned.steps if step.part == part_of(PRIVATE)]
    assert (step.action, step.guarantee) == ("dropped", "exact")
    assert "budget" in step.reason
    towered.assert_towers_of_the_rest(line, cohort, outcome, pair, beyond_budget=[PRIVATE])
    towered.assert_statistics_and_heads_of_the_rest(line, cohort, outcome, pair)


def test_a_private_tower_that_comes_back_has_a_new_account_and_new_noise(towered, towers_model, cohort, people):
    line = with_budget(towers_model, budget_epsilon=1e-3)
    after, rest = towered.deleted(line, cohort, (people[0], VISION)).model, cohort.without([(people[0], VISION)])
    assert missing_towers(after) == (PRIVATE,)
    made = towered.trained(after, rest, missing_towers(after), purpose="line/3")
    back = bring_back(after, rest, made, noise=towered.noise, purpose="line/3", salt=b"u" * 32)
    assert back.origins[PRIVATE] == Private(towers_model.origins[PRIVATE].run, departed=0)
    elsewhere = towered.trained(after, rest, [PRIVATE], purpose="line/4")
    again = towered.trained(after, rest, [PRIVATE], purpose="line/3")
    one, two, three = (towered.digests({"": m[PRIVATE].tower}) for m in (made, elsewhere, again))
    assert one != two
    assert one == three


def test_who_asks_later_is_told_of_those_who_left_the_tower_before(towered, towers_model, cohort, people):
    """The whole is as weak as its weakest part: a tower that somebody left is certified, not exact."""
    once = towered.deleted(towers_model, cohort, (people[0], VISION)).model
    rest = cohort.without([(people[0], VISION)])
    for line, pair in (
        (with_budget(once, exact_rows=1000), (people[1], TEXT)),
        (once, (EVERYONE, TEXT)),
        (once, (people[1], AUDIO)),
    ):
        outcome = towered.deleted(line, rest, pair)
        assert outcome.mechanism in {"lattice-refit", "lattice-drop", "tower-drop"}
        assert isinstance(outcome.guarantee, Certified)
        assert (outcome.guarantee.mu, outcome.guarantee.departed) == (0.0, departed(outcome.model.origins))
        planned = engine.plan(line, rest, towered.asked(pair), spent=[])
        assert planned.guarantee == outcome.guarantee


def test_a_modality_of_everyone_takes_its_private_tower_and_the_account_along(towered, towers_model, cohort, people):
    once = towered.deleted(towers_model, cohort, (people[0], VISION)).model
    rest = cohort.without([(people[0], VISION)])
    outcome = towered.deleted(once, rest, (EVERYONE, VISION))
    assert (outcome.mechanism, outcome.towers) == ("lattice-drop", (PRIVATE,))
    assert isinstance(outcome.guarantee, Exact)
    towered.assert_statistics_and_heads_of_the_rest(once, rest, outcome, (EVERYONE, VISION))


def test_what_people_left_behind_in_a_private_tower_stays_counted_when_it_goes(towered, towers_model, cohort, people):
    """Whoever kept the old release still has it: the total over all certified deletions of a line never falls."""
    first, second = (people[0], VISION), (people[1], VISION)
    before = engine.plan(towers_model, cohort, towered.asked(first), spent=[]).budget.after
    once = towered.deleted(towers_model, cohort, first)
    rest, spent = cohort.without([first]), [once.guarantee.mu]
    twice = towered.deleted(with_budget(once.model, budget_epsilon=1e-3), rest, second, spent=spent)
    assert (twice.towers, type(twice.guarantee)) == ((PRIVATE,), Exact)
    later = engine.plan(twice.model, rest.without([second]), towered.asked((people[2], TEXT)), spent=spent)
    assert later.budget.spent >= before


# Bugs, planted: the assertions above must not pass with any of them.


def check(towered, model, cohort, *pairs, departed=0):
    outcome = towered.deleted(model, cohort, *pairs)
    towered.assert_towers_of_the_rest(model, cohort, outcome, *pairs)
    towered.assert_statistics_and_heads_of_the_rest(model, cohort, outcome, *pairs)
    if departed:
        assert_account(model, outcome, departed)


def one_shard_stays(monkeypatch):
    def forgetful(model, before, after, **more):
        found = touched(model, before, after, **more)
        stays = found.dropped[:1]
        left = {name: o for name, o in model.origins.items() if name in found.origins or name in stays}
        return dataclasses.replace(found, dropped=found.dropped[1:], origins=left)

    monkeypatch.setattr(lattice, "touched", forgetful)


def columns_stay(monkeypatch):
    def half(model, names):
        done = drop_towers(model, names)
        return dataclasses.replace(done, featurizer=model.featurizer, statistics=model.statistics) if names else done

    monkeypatch.setattr(lattice, "drop_towers", half)


def other_columns_go(monkeypatch):
    kept_in = Layout.kept_in
    monkeypatch.setattr(Layout, "kept_in", lambda self, narrower: kept_in(self, narrower) - 1)


def a_head_stays(monkeypatch):
    release_heads = lattice.release_heads

    def lazy(layout, statistics, patterns, **more):
        return release_heads(layout, statistics, patterns[:-1], **more)

    monkeypatch.setattr(lattice, "release_heads", lazy)


def an_old_head_stays(monkeypatch):
    """The same, with the old weights in its place."""
    release_heads, drop = lattice.release_heads, lattice.drop_towers
    old = {}

    def lazy(layout, statistics, patterns, **more):
        some = release_heads(layout, statistics, patterns[:-1], **more)
        return dataclasses.replace(some, heads={**some.heads, patterns[-1]: old[patterns[-1]]})

    def remembering(model, names):
        old.update(model.heads)
        return drop(model, names)

    monkeypatch.setattr(lattice, "release_heads", lazy)
    monkeypatch.setattr(lattice, "drop_towers", remembering)


def rows_stay(monkeypatch):
    downdate = lattice.downdate
    monkeypatch.setattr(lattice, "downdate", lambda f, s, rows, after: dataclasses.replace(downdate(f, s, rows, rows)))


BUGS = [one_shard_stays, columns_stay, other_columns_go, a_head_stays, an_old_head_stays, rows_stay]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_a_planted_bug_in_a_tower_drop_is_noticed(towered, towers_model, cohort, *, people, monkeypatch, bug):
    pairs = [(people[0], AUDIO), (people[2], AUDIO)]
    check(towered, towers_model, cohort, *pairs)
    bug(monkeypatch)
    with pytest.raises((AssertionError, ExactnessError, ValueError)):  # statistics notice some things
        check(towered, towers_model, cohort, *pairs)


@pytest.mark.parametrize("bug", ["nobody counted", "one of two counted", "counted and not said"])
def test_a_planted_bug_in_the_account_is_noticed(towered, towers_model, cohort, *, people, monkeypatch, bug):
    pairs = [(people[0], VISION), (people[1], VISION)]
    check(towered, towers_model, cohort, *pairs, departed=2)

    def wrong(model, before, after, **more):
        found = touched(model, before, after, **more)
        if bug == "nobody counted":
            return dataclasses.replace(found, origins=dict(model.origins))
        fewer = dataclasses.replace(found.origins[PRIVATE], departed=1)
        return dataclasses.replace(found, origins={**found.origins, PRIVATE: fewer})

    if bug == "counted and not said":
        monkeypatch.setattr(lattice, "departed", lambda origins: ())
    else:
        monkeypatch.setattr(lattice, "touched", wrong)
    line = with_budget(towers_model, exact_rows=1000)
    with pytest.raises(AssertionError):
        check(towered, line, cohort, *pairs, departed=2)
