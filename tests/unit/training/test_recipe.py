"""A recipe's digest follows everything in it, and each shipped recipe can be built."""

from dataclasses import replace

import pytest
import torch

from mbd.backbones.base import Interface
from mbd.backbones.zoo import build
from mbd.errors import TrainingError
from mbd.training import recipes
from mbd.training.recipe import Recipe

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
