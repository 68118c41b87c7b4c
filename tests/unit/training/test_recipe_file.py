"""A recipe file says exactly what a recipe says, and what it gets wrong is named."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbd.errors import MbdError, TrainingError
from mbd.training.recipe import Recipe
from mbd.training.recipe_file import read_recipe
from mbd.training.tower_recipe import PrivateRecipe, ShardedRecipe, TowerRecipe


@pytest.fixture
def write(tmp_path):
    def written(text):
        (tmp_path / "recipe.toml").write_text(text, "utf-8")
        return tmp_path / "recipe.toml"

    return written


def test_an_empty_file_is_the_default_recipe(write):
    assert read_recipe(write("")) == Recipe()


def test_every_field_can_be_set(write):
    text = """
        backbone = "mbd"
        epochs = 3
        batch_size = 8
        learning_rate = 1e-3
        weight_decay = 0
        gradient_norm = 2.5
        patience = 2
        threads = 1
        [options]
        width = 8
        dropout = 0.5
    """
    wanted = Recipe(
        backbone="mbd",
        epochs=3,
        batch_size=8,
        learning_rate=1e-3,
        weight_decay=0.0,
        gradient_norm=2.5,
        patience=2,
        threads=1,
        options={"width": 8, "dropout": 0.5},
    )
    recipe = read_recipe(write(text))
    assert recipe == wanted
    assert recipe.digest == wanted.digest


@given(epochs=st.integers(1, 10**6), rate=st.floats(1e-9, 10), width=st.integers(1, 512))
def test_a_file_and_a_function_that_say_the_same_share_a_digest(tmp_path_factory, epochs, rate, width):
    path = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    path.write_text(
        f"options = {{ width = {width} }}\nlearning_rate = {rate!r}\nepochs = {epochs}\n".replace("e-0", "e-")
    )
    wanted = replace(Recipe(), epochs=epochs, learning_rate=rate, options={"width": width})
    assert read_recipe(path).digest == wanted.digest


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("epoch = 3", r"epoch: there is no such key.*Remedy: use only the keys backbone, options, epochs"),
        ("epochs = 3.0", r"epochs: .*integer, not 3\.0"),
        ('epochs = "3"', r"epochs: .*integer, not '3'"),
        ("epochs = true", r"epochs: .*integer, not True"),
        ('learning_rate = "fast"', r"learning_rate: .*number, not 'fast'"),
        ("learning_rate = nan", r"learning_rate: .*finite number"),
        ("learning_rate = 0", r"learning rate .* above 0"),
        ("weight_decay = -1", r"no negative weight decay"),
        ("epochs = 0", r"at least one of each of: epochs"),
        ("backbone = 1", r"backbone: .*string, not 1"),
        ('backbone = "resnet"', r"backbone 'resnet', which does not exist.*Remedy: use one of: mbd"),
        ("options = 3", r"options: .*"),
        ("[options]\nwidht = 3", r"options\.widht: there is no such key.*Remedy: use only options .*width"),
        ("[options]\nwidth = 3.5", r"options\.width: .*integer, not 3\.5"),
        ("[options]\nwidth = true", r"options\.width"),
        ("epochs: 3", r"not TOML"),
        ("epochs = 3\nepochs = 4", r"not TOML"),
    ],
)
def test_what_is_wrong_is_named_with_the_remedy(write, text, complaint):
    with pytest.raises(TrainingError, match=complaint):
        read_recipe(write(text))


def test_all_mistakes_are_named_at_once(write):
    with pytest.raises(TrainingError, match=r"epochs: .*; speed: "):
        read_recipe(write('epochs = "x"\nspeed = 3'))


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="cannot be read"):
        read_recipe(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(TrainingError, match="cannot be read"):
        read_recipe(tmp_path / "binary.toml")


TOWERS = """
    [[sharded]]
    shards = 2
    tower = { modality = "audio", width = 4 }

    [[sharded]]
    tower = { modality = "text" }

    [[private]]
    rate = 0.05
    noise_multiplier = 8
    steps = 20
    subjects = 8
    learning_rate = 0.1
    [private.start]
    modality = "vision"
"""


def test_towers_are_arrays_of_tables(write):
    private = PrivateRecipe(
        TowerRecipe("vision"), rate=0.05, noise_multiplier=8.0, steps=20, subjects=8, learning_rate=0.1
    )
    sharded = (ShardedRecipe(TowerRecipe("audio", width=4), 2), ShardedRecipe(TowerRecipe("text"), 4))
    recipe = read_recipe(write(TOWERS))
    assert recipe == Recipe(sharded=sharded, private=(private,))
    assert recipe.digest == Recipe(sharded=sharded, private=(private,)).digest


def test_a_file_says_whose_rows_shape_the_backbone(write):
    assert read_recipe(write('trains_on = "everyone"')).trains_on == "everyone"
    with pytest.raises(TrainingError, match="trains_on"):
        read_recipe(write('trains_on = "Everyone"'))


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('tower = { modality = "text" }', "", "sharded.1 lacks tower"),
        ("shards = 2", "shards = 2.5", "sharded.0.shards"),
        ("shards = 2", "shard = 2", "sharded.0.shard: there is no such key"),
        ("shards = 2", "shards = 0", "at least one shard"),
        ('modality = "vision"', "width = 4", "private.0.start lacks modality"),
        ('modality = "vision"', 'modality = "smell"', "smell"),
        ("rate = 0.05\n", "", "private.0 lacks rate"),
        ("rate = 0.05", "rate = 2.0", "sampling rate"),
        ("steps = 20", 'steps = "twenty"', "private.0.steps"),
        ('modality = "text"', 'modality = "audio"', "two sharded entries for one modality"),
        ("[[private]]", 'trains_on = "everyone"\n[[private]]', "trains_on: there is no such key"),
        ("width = 4", "width = 4, depth = 2", "sharded.0.tower.depth: there is no such key"),
    ],
)
def test_what_is_wrong_with_a_table_is_named_by_its_place(write, old, new, named):
    assert old in TOWERS
    with pytest.raises(MbdError) as refused:
        read_recipe(write(TOWERS.replace(old, new, 1)))
    assert named in str(refused.value)
    assert refused.value.remedy


@pytest.mark.parametrize("text", ["[sharded]\nshards = 2", "sharded = 3", "[[sharded]]\ntower = 3", "private = [1]"])
def test_a_table_of_another_shape_is_refused(write, text):
    with pytest.raises(TrainingError, match="is not one") as refused:
        read_recipe(write(text))
    assert refused.value.remedy
