"""Towers in a lattice model: what their columns depend on, how they are kept, and what is left without them."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbd.cohort.cohort import Partition
from mbd.cohort.modality import Modality, pattern_name
from mbd.errors import CohortError, TrainingError
from mbd.lattice.fit import Line, fit_lattice
from mbd.lattice.layout import tower_modality
from mbd.lattice.model import PARTS, load_model, lost_towers, save_model, tower_file
from mbd.lattice.provenance import ENTANGLED, Provenance
from mbd.lattice.towers import Private, Sharded, Trained, origin_from_json, origin_to_json, part_of, shard_of
from mbd.privacy.accounting import Run
from mbd.privacy.noise import NoiseSource

AUDIO, VISION = Modality.AUDIO, Modality.VISION
SHARDS = ("a.shard0", "a.shard1", "a.shard2")


@pytest.fixture(scope="module")
def cohort(random_cohort):
    return random_cohort(1, subjects=12, clips=4)


@pytest.fixture(scope="module")
def model(cohort, fit_towers):
    return fit_towers(cohort)


def saved(model, folder):
    return save_model(model, folder, cohort_root="c" * 64)


def columns_of(featurizer):
    """Where each tower's output stands."""
    return {name: at for block in featurizer.layout.blocks for name, at in block.towers_at.items()}


def test_every_tower_has_columns_beside_its_own_channel_that_say_something(cohort, model):
    phi = model.featurizer.features(cohort, range(len(cohort)))
    columns = columns_of(model.featurizer)
    assert set(columns) == {*SHARDS, "v.private"}
    for at in columns.values():
        assert len(np.unique(phi[:, at])) > 3


def test_a_towers_columns_depend_on_its_own_channel_alone(cohort, model):
    """Change every other channel, and the labels: the columns keep their bits. Change the channel: they do not."""
    rows = [i for i in range(len(cohort)) if len(cohort.present(i)) == 3]
    before = model.featurizer.features(cohort, rows)
    odd = {
        m: tuple(None if f is None else f[:1] * -7 + 3 if f.ndim > 1 else f * -7 + 3 for f in cohort.features[m])
        for m in Modality
    }
    for name, at in columns_of(model.featurizer).items():
        mine = tower_modality(name)
        labels = tuple(dataclasses.replace(row, label=0.5) for row in cohort.rows)
        others = dataclasses.replace(cohort, rows=labels, features={**odd, mine: cohort.features[mine]})
        assert np.array_equal(model.featurizer.features(others, rows)[:, at], before[:, at])
        own = dataclasses.replace(cohort, features={**cohort.features, mine: odd[mine]})
        assert not np.array_equal(model.featurizer.features(own, rows)[:, at], before[:, at])


def test_a_row_without_the_channel_has_zeros_in_the_towers_columns(cohort, model):
    phi = model.featurizer.features(cohort, range(len(cohort)))
    for name, at in columns_of(model.featurizer).items():
        lacking = [i for i in range(len(cohort)) if tower_modality(name) not in cohort.present(i)]
        assert lacking
        assert not phi[lacking, at].any()


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32))
def test_a_row_has_the_same_bits_in_every_batch(cohort, model, seed):
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(cohort))[: rng.integers(1, len(cohort))].tolist()
    alone = np.concatenate([model.featurizer.features(cohort, [i]) for i in rows])
    assert np.array_equal(model.featurizer.features(cohort, rows), alone)


def test_values_near_a_rounding_boundary_are_settled_by_the_row_alone(cohort, model, monkeypatch):
    quick = model.featurizer.features(cohort, range(len(cohort)))
    monkeypatch.setattr("mbd.lattice.featurizer._AMBIGUOUS", 1.0)
    assert np.array_equal(model.featurizer.features(cohort, range(len(cohort))), quick)


def test_the_scale_of_a_towers_output_comes_from_public_rows_alone(cohort, model):
    """Revocable rows, replaced by something absurd, change no centre and no factor; public ones do."""
    towers = {name: Trained(tower, model.origins[name]) for name, tower in model.featurizer.towers.items()}

    def scalings(absurd):
        def changed(row, feature):
            return feature if feature is None or row.partition is not absurd else feature * 3 + 1

        columns = {m: tuple(map(changed, cohort.rows, cohort.features[m])) for m in cohort.channels}
        rows = dataclasses.replace(cohort, features=columns)
        constants = {"policy": model.policy, "noise": NoiseSource(b"n" * 32), "purpose": "x", "salt": b"s" * 32}
        return fit_lattice(model.featurizer.backbone, rows, line=Line(towers=towers), **constants).featurizer.scalings

    usual, kept, moved = scalings(None), scalings(Partition.REVOCABLE), scalings(Partition.PUBLIC)
    for name in towers:
        assert np.array_equal(kept[name].centre, usual[name].centre)
        assert np.array_equal(kept[name].factor, usual[name].factor)
        assert not np.array_equal(moved[name].centre, usual[name].centre)


def test_a_tower_whose_channel_no_public_row_has_is_refused(cohort, model):
    public = cohort.where(partition=Partition.PUBLIC).restrict([Modality.TEXT])
    with pytest.raises(CohortError, match="scale of a tower's output") as refused:
        model.featurizer.with_towers(model.featurizer.towers, public)
    assert "public partition" in refused.value.remedy


def test_a_saved_model_comes_back_bit_for_bit(cohort, model, tmp_path):
    written = saved(model, tmp_path / "v1")
    assert set(written.digests) == {*PARTS, *map(tower_file, model.origins), "model.json"}
    loaded = load_model(tmp_path / "v1")
    for name in ("origins", "recipe", "seed", "shard_key", "provenance", "layout", "statistics", "salt", "task"):
        assert getattr(loaded, name) == getattr(model, name), name
    rows = range(len(cohort))
    assert np.array_equal(loaded.featurizer.features(cohort, rows), model.featurizer.features(cohort, rows))
    for name, scaling in model.featurizer.scalings.items():
        assert np.array_equal(loaded.featurizer.scalings[name].centre, scaling.centre)
        assert np.array_equal(loaded.featurizer.scalings[name].factor, scaling.factor)
    assert np.array_equal(loaded.predict(cohort).outputs_NK, model.predict(cohort).outputs_NK, equal_nan=True)
    assert saved(loaded, tmp_path / "again").digests == written.digests


@pytest.mark.parametrize("kind", ["public", "entangled"])
def test_what_saw_revocable_rows_has_another_digest_under_another_salt(model, tmp_path, kind):
    """A digest in a certificate must not confirm a guess at a row; in public parts nothing is to be guessed."""
    model = model if kind == "public" else dataclasses.replace(model, provenance={**model.provenance, **ENTANGLED})
    one, two = (
        saved(dataclasses.replace(model, salt=salt * 32), tmp_path / name).digests
        for name, salt in (("one", b"1"), ("two", b"2"))
    )
    private = {"statistics.safetensors", "model.json", *map(tower_file, model.origins)}
    private |= {"backbone.safetensors", "constants.safetensors"} if kind == "entangled" else set()
    assert {name for name in one if one[name] != two[name]} == private


def test_the_salt_of_the_statistics_is_in_no_file_that_may_leave_the_house(model, tmp_path):
    """Whoever is given a network's file could otherwise test guesses against the commitment to the statistics."""
    model = dataclasses.replace(model, provenance={**model.provenance, **ENTANGLED}, salt=bytes(range(32)))
    saved(model, tmp_path / "v1")
    holders = {path.name for path in (tmp_path / "v1").iterdir() if model.salt in path.read_bytes()}
    assert holders == {"statistics.safetensors"}


@pytest.mark.parametrize("damage", ["lost", "changed"])
@pytest.mark.parametrize("name", ["a.shard1", "v.private"])
def test_a_lost_tower_is_refused_with_the_remedy_and_can_be_left_out(cohort, model, tmp_path, name, damage):
    saved(model, tmp_path / "v1")
    path = tmp_path / "v1" / tower_file(name)
    content = path.read_bytes()
    path.unlink() if damage == "lost" else path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert lost_towers(tmp_path / "v1") == (name,)
    with pytest.raises(TrainingError, match=tower_file(name)) as refused:
        load_model(tmp_path / "v1")
    assert "mbd towers retrain" in refused.value.remedy
    narrow = load_model(tmp_path / "v1", without=(name,))
    assert (
        set(narrow.origins) == set(narrow.featurizer.towers) == set(narrow.layout.towers) == set(model.origins) - {name}
    )
    assert part_of(name) not in narrow.provenance
    blind = {pattern_name(p) for p in model.layout.patterns if tower_modality(name) in p}
    assert {pattern_name(p) for p in narrow.heads} == {pattern_name(p) for p in model.heads} - blind
    assert narrow.statistics == narrow.featurizer.statistics(cohort.where(split="train"))


@pytest.mark.parametrize("part", ["heads.safetensors", "backbone.safetensors"])
def test_no_other_file_can_be_left_out_with_the_towers(model, tmp_path, part):
    saved(model, tmp_path / "v1")
    (tmp_path / "v1" / part).unlink()
    (tmp_path / "v1" / tower_file("a.shard0")).unlink()
    with pytest.raises(TrainingError, match=part) as refused:
        load_model(tmp_path / "v1", without=lost_towers(tmp_path / "v1"))
    assert "mbd towers retrain" not in refused.value.remedy


@pytest.mark.parametrize("content", [None, b"{", b"{}"])
def test_without_a_readable_model_json_nothing_is_known_of_its_towers(model, tmp_path, content):
    saved(model, tmp_path / "v1")
    path = tmp_path / "v1" / "model.json"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(TrainingError, match="cannot be read") as refused:
        lost_towers(tmp_path / "v1")
    assert "backup" in refused.value.remedy


@pytest.mark.parametrize("gone", [{"a.shard1"}, {"a.shard0", "v.private"}, set(SHARDS), {*SHARDS, "v.private"}])
def test_a_narrower_layout_keeps_all_other_coordinates_in_their_order(model, gone):
    layout, columns = model.layout, columns_of(model.featurizer)
    narrower = layout.without_towers(gone)
    kept = layout.kept_in(narrower)
    lost = {int(d) for name in gone for d in np.arange(layout.width)[columns[name]]}
    assert kept.tolist() == [d for d in range(layout.width) if d not in lost]
    assert narrower.width == len(kept)
    assert np.array_equal(narrower.penalty_D, layout.penalty_D[kept])
    assert set(narrower.towers) == set(narrower.penalties) & set(layout.towers) == set(layout.towers) - gone


def test_a_modality_takes_its_towers_along(model):
    without_voice = model.layout.without([AUDIO])
    assert set(without_voice.towers) == {"v.private"}
    assert not any(group.startswith("a.") for group in without_voice.groups)
    assert type(model.layout).from_json(without_voice.as_json()) == without_voice


@given(subject=st.text(min_size=1), shards=st.integers(1, 50))
def test_a_shard_is_the_same_every_time_and_one_of_those_there_are(subject, shards):
    assert shard_of(subject, shards, b"k" * 32) == shard_of(subject, shards, b"k" * 32)
    assert 0 <= shard_of(subject, shards, b"k" * 32) < shards


def test_people_are_spread_over_the_shards_in_a_way_that_the_key_decides():
    people = [f"person-{n}" for n in range(2000)]
    one, two = ([shard_of(p, 4, key * 32) for p in people] for key in (b"1", b"2"))
    counts = Counter(one)
    assert set(counts) == {0, 1, 2, 3}
    assert all(400 < count < 600 for count in counts.values())  # 500 expected, SD 19
    assert 400 < sum(a == b for a, b in zip(one, two, strict=True)) < 600


def test_a_shard_never_changes_between_versions_of_the_program():
    assert [shard_of(name, 5, b"k" * 32) for name in ("anna", "bert", "carl", "dora")] == [1, 4, 2, 2]


@pytest.mark.parametrize("origin", [Sharded(2, 5), Private(Run(0.1, 8.0, 20), departed=3)])
def test_an_origin_survives_the_file(origin):
    assert origin_from_json(origin_to_json(origin)) == origin
    with pytest.raises(TrainingError, match="which no tower is"):
        origin_from_json({**origin_to_json(origin), "provenance": Provenance.ENTANGLED})
