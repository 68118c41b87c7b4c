"""A recipe's digest follows everything in it, and each shipped recipe can be built."""

import json
from dataclasses import replace

import pytest
import torch

from mbd.backbones.base import Interface
from mbd.backbones.zoo import build
from mbd.errors import MbdError, TrainingError
from mbd.hashing import canonical_json
from mbd.privacy.accounting import Run
from mbd.training import recipes
from mbd.training.recipe import Recipe
from mbd.training.tower_recipe import PrivateRecipe, ShardedRecipe, TowerRecipe

PRIVATE = PrivateRecipe(TowerRecipe("vision"), rate=0.05, noise_multiplier=8.0, steps=20, subjects=8, learning_rate=0.1)
SHIPPED = [recipes.mosi, recipes.ravdess, recipes.synthetic]


def test_equal_recipes_share_a_digest_whatever_the_order_of_options():
    one, two = Recipe(options={"width": 8, "dropout": 0.1}), Recipe(options={"dropout": 0.1, "width": 8})
    assert one.digest == two.digest


@pytest.mark.parametrize(
    "change",
    [
        {"backbone": "other"},
        {"options": {"width": 8}},
        {"epochs": 1},
        {"batch_size": 1},
        {"learning_rate": 1.0},
        {"weight_decay": 1.0},
        {"gradient_norm": 2.0},
        {"patience": 1},
        {"threads": 2},
        {"trains_on": "everyone"},
        {"sharded": (ShardedRecipe(TowerRecipe("audio")),)},
        {"private": (PRIVATE,)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_field_is_part_of_the_digest(change):
    assert set(change) <= set(Recipe().to_json())
    assert replace(Recipe(), **change).digest != Recipe().digest


@pytest.mark.parametrize("field", ["epochs", "batch_size", "patience", "threads"])
def test_a_recipe_that_would_do_nothing_is_refused(field):
    with pytest.raises(TrainingError, match=f"at least one of each of: {field}"):
        Recipe(**{field: 0})


@pytest.mark.parametrize("make", SHIPPED)
def test_each_shipped_recipe_names_a_backbone_and_its_options(make, cohort):
    recipe = make()
    with torch.random.fork_rng(devices=[]):
        backbone = build(recipe.backbone, Interface.of(cohort), recipe.options)
    assert backbone.name == recipe.backbone


TOWERS = Recipe(
    options={"width": 8},
    sharded=(ShardedRecipe(TowerRecipe("audio", width=4), 3), ShardedRecipe(TowerRecipe("text"), 1)),
    private=(PRIVATE,),
)


@pytest.mark.parametrize(
    "recipe", [Recipe(), TOWERS, Recipe(trains_on="everyone")], ids=["plain", "towers", "everyone"]
)
def test_a_recipe_survives_its_json(recipe):
    """As the file of a model keeps it: through canonical JSON, with the digest that certificates name."""
    again = Recipe.from_json(json.loads(canonical_json(recipe.to_json())))
    assert again == recipe
    assert again.digest == recipe.digest


def test_towers_have_the_names_of_their_modality_and_kind():
    names = [name for entry in TOWERS.towers for name in entry.names()]
    assert names == ["a.shard0", "a.shard1", "a.shard2", "t.shard0", "v.private"]
    assert PRIVATE.run == Run(0.05, 8.0, 20)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: ShardedRecipe(TowerRecipe("audio"), 0), "at least one shard"),
        (lambda: TowerRecipe("audio", width=0), "at least one of each of: width"),
        (lambda: TowerRecipe("smell"), "smell"),
        (lambda: replace(PRIVATE, rate=0.0), "sampling rate"),
        (lambda: replace(PRIVATE, noise_multiplier=0.0), "noise multiplier"),
        (lambda: replace(PRIVATE, steps=0), "steps"),
        (lambda: replace(PRIVATE, subjects=0), "positive number of subjects"),
        (lambda: replace(PRIVATE, momentum=1.0), "momentum below 1"),
        (lambda: Recipe(private=(PRIVATE, PRIVATE)), "two private entries for one modality"),
        (lambda: Recipe(sharded=TOWERS.sharded + TOWERS.sharded[:1]), "two sharded entries for one modality"),
        (lambda: replace(TOWERS, trains_on="everyone"), "the backbone would not"),
    ],
)
def test_an_impossible_recipe_of_towers_is_refused_with_a_remedy(make, match):
    with pytest.raises(MbdError, match=match) as refused:
        make()
    assert refused.value.remedy


@pytest.mark.parametrize("whose", ["Everyone", "all", ""])
def test_a_backbone_never_learns_from_everybody_by_a_slip_of_the_pen(whose):
    """It would be trained on revocable rows and registered as public."""
    with pytest.raises(TrainingError, match="trains its backbone on") as refused:
        Recipe(trains_on=whose)
    assert "everyone" in refused.value.remedy
