from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbd.hashing import inclusion_path, leaf_hash, tree_levels, tree_root
from mbd.records.tree import EMPTY_ROOT, LOWEST, Frontier, inclusion_ranges, subtrees

HASHES = [leaf_hash(number.to_bytes(2, "big")) for number in range(300)]


def stored(low: int, high: int) -> list[bytes]:
    levels = tree_levels(HASHES)
    return [levels[level][idx] for level, idx in subtrees((low, high))]


def root_of(low: int, high: int) -> bytes:
    return Frontier.of(high - low, stored(low, high)).root()


@given(st.integers(0, len(HASHES)))
def test_subtrees_cover_each_leaf_once_from_left_to_right_and_name_none_that_is_not_stored(size: int) -> None:
    places = subtrees((0, size))
    covered = [leaf for level, idx in places for leaf in range(idx << level, (idx + 1) << level)]
    assert covered == list(range(size))
    assert all(level == 0 or level >= LOWEST for level, _ in places)
    assert len(places) == (size >> LOWEST).bit_count() + size % (1 << LOWEST)


@given(st.integers(0, len(HASHES)))
def test_the_subtrees_fold_to_the_root(size: int) -> None:
    assert root_of(0, size) == tree_root(HASHES[:size])


@given(st.integers(0, 200), st.integers(0, 100))
def test_a_frontier_goes_on_from_any_size(size: int, more: int) -> None:
    levels = tree_levels(HASHES)
    before = Frontier.of(size, stored(0, size))
    after, completed = before.extend(HASHES[size : size + more])
    for level, idx, value in completed:
        assert value == levels[level][idx]
    assert (after.size, after.root()) == (size + more, tree_root(HASHES[: size + more]))
    assert after == Frontier.of(size + more, stored(0, size + more))
    assert (before.size, before.root()) == (size, tree_root(HASHES[:size]))


@given(st.lists(st.integers(0, len(HASHES)), max_size=20))
def test_a_frontier_completes_every_subtree_to_store_once(cuts: list[int]) -> None:
    frontier = Frontier(0)
    completed = []
    for low, high in pairwise([0, *sorted(cuts), len(HASHES)]):
        frontier, nodes = frontier.extend(HASHES[low:high])
        completed += [(level, idx) for level, idx, _ in nodes]
    expected = {(level, idx) for level in range(LOWEST, 9) for idx in range(len(HASHES) >> level)}
    assert len(completed) == len(expected)
    assert set(completed) == expected


@given(st.data())
def test_inclusion_ranges_are_the_siblings_on_the_way_to_the_root(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, len(HASHES)))
    index = data.draw(st.integers(0, size - 1))
    path = [root_of(low, high) for low, high in inclusion_ranges(index, size)]
    assert path == inclusion_path(HASHES[:size], index)


def test_an_empty_tree_has_the_hash_of_nothing() -> None:
    assert Frontier(0).root() == EMPTY_ROOT == tree_root([])


@pytest.mark.parametrize("size", [1, 2**40, 2**62 + 1])
def test_huge_trees_cost_their_logarithm(size: int) -> None:
    assert len(inclusion_ranges(size - 1, size)) <= 63
    assert len(subtrees((0, size))) <= 63
