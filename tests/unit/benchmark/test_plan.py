from dataclasses import replace

import pytest

from mbd.benchmark.plan import Plan, Unit, identity, require_rows, telling_protocols
from mbd.cohort.cohort import Split
from mbd.cohort.protocols import Protocol
from mbd.errors import BenchmarkError
from mbd.training.recipe import Recipe
from mbd.training.tower_recipe import ShardedRecipe, TowerRecipe

ALL = tuple(Protocol)


def test_seed_by_seed_every_network_is_a_unit():
    plan = Plan(Recipe(), ("mbd", "control"), 2, ALL)
    assert plan.units == (Unit("mbd", 0), Unit("control", 0), Unit("mbd", 1), Unit("control", 1))
    assert plan.recipe_of("control").backbone == "control"
    assert plan.recipe_of("control").trains_on == "everyone"


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"backbones": ("mbd", "transformer")}, "no backbone 'transformer'"),
        ({"backbones": ()}, "Name every backbone once"),
        ({"backbones": ("mbd", "mbd")}, "Name every backbone once"),
        ({"protocols": ("none",)}, "no protocol 'none'"),
        ({"protocols": ()}, "Name every protocol once"),
        ({"seeds": 0}, "at least one seed"),
        ({"recipe": Recipe(options={"width": 8})}, "options of one backbone"),
        ({"recipe": Recipe(sharded=(ShardedRecipe(TowerRecipe("audio")),))}, "or towers"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused_with_a_remedy(plan, message):
    sound = {"recipe": Recipe(), "backbones": ("mbd",), "seeds": 1, "protocols": ALL}
    with pytest.raises(BenchmarkError, match=message) as caught:
        Plan(**(sound | plan))
    assert caught.value.remedy


def test_results_depend_on_recipe_rows_clips_and_protocols(random_cohort):
    cohort, plan = random_cohort(0), Plan(Recipe(), ("mbd",), 1, ALL)
    found = identity(plan, cohort)
    assert identity(Plan(Recipe(), ("control",), 3, ALL), cohort) == found
    for other in (
        identity(Plan(Recipe(epochs=3), ("mbd",), 1, ALL), cohort),
        identity(Plan(Recipe(), ("mbd",), 1, ALL[:1]), cohort),
        identity(plan, random_cohort(1)),
        identity(plan, cohort.select([i for i in range(len(cohort)) if i != len(cohort) - 1])),
    ):
        assert other != found


def test_a_cohort_of_vectors_is_not_asked_about_frames(random_cohort):
    cohort = random_cohort(0)
    assert telling_protocols(cohort) == ALL
    vectors = {m: replace(channel, kind="vector") for m, channel in cohort.channels.items()}
    assert set(ALL) - set(telling_protocols(replace(cohort, channels=vectors))) == {Protocol.FRAMES, Protocol.SPANS}


def test_a_cohort_without_test_rows_is_refused(random_cohort):
    cohort = random_cohort(0)
    require_rows(cohort)
    with pytest.raises(BenchmarkError, match="no test rows"):
        require_rows(cohort.select([i for i, row in enumerate(cohort.rows) if row.split is not Split.TEST]))
