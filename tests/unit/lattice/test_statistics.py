"""Consequences 1 and 3 of exact arithmetic (docs/guarantees.md, Claim 1), and the bound that they stand on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbd.errors import ExactnessError
from mbd.lattice.statistics import Grid, Statistics

GRID = Grid(feature_bits=11, label_limit=3072)


def integers(rng, rows, width, limit):
    return rng.integers(-limit, limit + 1, size=(rows, width)).astype(np.float64)


def of(phi, y):
    return Statistics.of(GRID, phi, y)


@given(seed=st.integers(0, 2**32), rows=st.integers(0, 400), cut=st.floats(0, 1))
def test_any_split_into_shards_in_any_order_gives_the_same_bits(seed, rows, cut):
    rng = np.random.default_rng(seed)
    phi, y = integers(rng, rows, 5, 2048), integers(rng, rows, 2, 3072)
    order, middle = rng.permutation(rows), int(cut * rows)
    first, second = order[:middle], order[middle:]
    whole = of(phi, y)
    assert of(phi[first], y[first]) + of(phi[second], y[second]) == whole
    assert whole - of(phi[first], y[first]) == of(phi[second], y[second])


@given(seed=st.integers(0, 2**32))
def test_float64_products_equal_python_integers(seed):
    rng = np.random.default_rng(seed)
    phi, y = integers(rng, 50, 4, 2048), integers(rng, 50, 1, 3072)
    exact = [
        [sum(int(a) * int(b) for a, b in zip(phi[:, i], phi[:, j], strict=True)) for j in range(4)] for i in range(4)
    ]
    assert of(phi, y).gram.tolist() == exact


def test_the_largest_allowed_sum_is_still_exact_and_one_row_more_is_refused():
    """Every entry at its limit: the sum is the bound itself."""
    limit = GRID.max_rows
    one = Statistics.of(GRID, np.full((1, 1), 2048.0), np.full((1, 1), 3072.0))
    many = Statistics(GRID, one.gram * (limit - 1), one.moment * (limit - 1), limit - 1)
    full = many + one
    assert int(full.moment[0, 0]) == limit * 2048 * 3072 < 2**53
    assert int(np.float64(full.moment[0, 0])) == limit * 2048 * 3072
    with pytest.raises(ExactnessError, match=f"{limit + 1:,} rows"):
        full + one


def test_eleven_bits_allow_two_to_the_thirty_one_rows_of_one_hot_labels():
    assert Grid(feature_bits=11, label_limit=1024).max_rows == 2**31 - 1


@pytest.mark.parametrize("bad", [0.5, 2049.0, np.nan, np.inf])
def test_a_value_off_the_grid_is_refused(bad):
    with pytest.raises(ExactnessError, match="is not an integer in"):
        of(np.array([[bad]]), np.array([[0.0]]))


def test_a_label_beyond_its_public_range_is_refused():
    with pytest.raises(ExactnessError, match="public range"):
        GRID.label_integers(np.array([[3.2]]))


def test_rows_that_were_never_added_cannot_be_subtracted():
    rng = np.random.default_rng(0)
    small, large = (of(integers(rng, n, 3, 2048), integers(rng, n, 1, 3072)) for n in (5, 50))
    with pytest.raises(ExactnessError, match="cannot have been part"):
        small - large


@given(seed=st.integers(0, 2**32), rows=st.integers(0, 40), width=st.integers(1, 9))
def test_replacing_features_of_some_rows_gives_the_bits_of_summing_anew(seed, rows, width):
    """Whole rows leave, columns fall in all rows or in some, and the rest stays."""
    rng = np.random.default_rng(seed)
    others, phi = integers(rng, 20, width, 2048), integers(rng, rows, width, 2048)
    labels, y = integers(rng, 20, 2, 3072), integers(rng, rows, 2, 3072)
    left = phi * (rng.random((rows, 1)) < 0.7) * (rng.random((1, width)) < 0.5) * (rng.random(phi.shape) < 0.9)
    before = of(np.vstack([others, phi[phi.any(axis=1)]]), np.vstack([labels, y[phi.any(axis=1)]]))
    after = of(np.vstack([others, left[left.any(axis=1)]]), np.vstack([labels, y[left.any(axis=1)]]))
    untouched = before.gram.copy()
    assert before.replace(phi, left, y) == after
    assert np.array_equal(before.gram, untouched)


@pytest.mark.parametrize("bad", [0.5, 2049.0, np.nan])
def test_replacing_refuses_values_off_the_grid_on_either_side(bad):
    one, y = np.full((1, 2), 7.0), np.zeros((1, 1))
    statistics = of(one, y)
    for old, new, label in ((one * bad, one, y), (one, one * bad, y), (one, one, y + bad * 3073)):
        with pytest.raises(ExactnessError, match="is not an integer in"):
            statistics.replace(old, new, label)


def test_rows_that_were_never_added_cannot_be_replaced():
    """Not even in columns that would stay the same: the rows are held against every coordinate."""
    y = np.zeros((1, 1))
    statistics = of(np.array([[3.0, 5.0]]), y)
    with pytest.raises(ExactnessError, match="cannot have been part"):
        statistics.replace(np.array([[3.0, 6.0]]), np.array([[0.0, 6.0]]), y)
    with pytest.raises(ExactnessError, match="cannot have been part"):
        statistics.replace(np.ones((2, 2)), np.zeros((2, 2)), np.zeros((2, 1)))


@given(seed=st.integers(0, 2**32), chosen=st.sets(st.integers(0, 11)))
def test_the_statistics_of_some_coordinates_are_those_of_their_columns(seed, chosen):
    rng, at = np.random.default_rng(seed), np.array(sorted(chosen), dtype=np.intp)
    phi, y = integers(rng, 30, 12, 2048), integers(rng, 30, 1, 3072)
    assert of(phi, y).at(at) == of(phi[:, at], y)


def test_statistics_of_two_layouts_do_not_mix():
    rng = np.random.default_rng(0)
    with pytest.raises(ExactnessError, match="different layouts"):
        of(integers(rng, 2, 3, 9), integers(rng, 2, 1, 9)) + of(integers(rng, 2, 4, 9), integers(rng, 2, 1, 9))


def test_equality_and_the_commitment_are_about_every_number():
    rng = np.random.default_rng(0)
    base = of(integers(rng, 9, 3, 99), integers(rng, 9, 1, 99))
    changed_gram, changed_moment = base.gram.copy(), base.moment.copy()
    changed_gram[2, 1] += 1
    changed_moment[0, 0] -= 1
    variants = [
        Statistics(GRID, changed_gram, base.moment, 9),
        Statistics(GRID, base.gram, changed_moment, 9),
        Statistics(GRID, base.gram, base.moment, 10),
        Statistics(Grid(11, 3073), base.gram, base.moment, 9),
    ]
    assert all(variant != base for variant in variants)
    salt = b"s" * 32
    assert len({base.commitment(salt), *(variant.commitment(salt) for variant in variants)}) == 5
    assert base.commitment(salt) != base.commitment(b"t" * 32)
    assert Statistics.from_arrays(base.arrays()) == base
