"""Merkle proofs against two provers that were written apart: ours for the ledger, and pymerkle."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from certs.errors import CertificateError, Code
from certs.merkle import EMPTY_ROOT, leaf_hash, node_hash, root_from_inclusion, verify_consistency, verify_inclusion
from certs.vectors import make
from mbd import hashing

LEAVES = [b"leaf %d" % n for n in range(130)]
HASHES = [leaf_hash(leaf) for leaf in LEAVES]


def test_the_hashes_of_rfc_6962():
    assert leaf_hash(b"") == bytes.fromhex("6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d")
    assert bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855") == EMPTY_ROOT
    assert node_hash(b"a", b"b") == hashlib.sha256(b"\x01ab").digest()


def test_three_provers_agree_on_every_root():
    tree = InmemoryTree(algorithm="sha256")
    for size, leaf in enumerate(LEAVES, start=1):
        tree.append_entry(leaf)
        root = hashing.tree_root(HASHES[:size])
        assert root == tree.get_root(size) == make.root_of(LEAVES[:size])


def test_every_leaf_of_every_tree_is_included():
    for size in range(1, len(LEAVES) + 1):
        root = hashing.tree_root(HASHES[:size])
        paths = hashing.inclusion_paths(HASHES[:size], range(size))
        for index, path in enumerate(paths):
            verify_inclusion(index, size, HASHES[index], path, root)


def test_pymerkles_inclusion_proofs_verify():
    tree = _pymerkle_tree()
    for size in (1, 2, 3, 7, 8, 63, 64, 65, 127, 130):
        root = tree.get_root(size)
        for index in range(size):
            path = tree.prove_inclusion(index + 1, size).path[1:]
            verify_inclusion(index, size, HASHES[index], path, root)


def test_every_earlier_size_is_consistent_with_every_later_one():
    tree = _pymerkle_tree()
    for size2 in range(2, len(LEAVES) + 1):
        for size1 in range(1, size2):
            proof = _consistency_path(size1, size2)
            verify_consistency(size1, size2, tree.get_root(size1), tree.get_root(size2), proof)


@given(st.integers(1, 130), st.data())
def test_an_inclusion_proof_holds_for_one_leaf_place_and_size_only(size, data):
    index = data.draw(st.integers(0, size - 1))
    root = hashing.tree_root(HASHES[:size])
    path = hashing.inclusion_path(HASHES[:size], index)
    other = data.draw(st.integers(0, 129).filter(lambda n: n != index))
    _refused(Code.INCLUSION_INVALID, verify_inclusion, other, size, HASHES[index], path, root)
    _refused(Code.INCLUSION_INVALID, verify_inclusion, index, size, HASHES[other], path, root)
    _refused(Code.INCLUSION_INVALID, verify_inclusion, index, size, HASHES[index], [*path, EMPTY_ROOT], root)
    _refused(Code.INCLUSION_INVALID, verify_inclusion, index, size, HASHES[index], path, EMPTY_ROOT)
    if path:
        _refused(Code.INCLUSION_INVALID, verify_inclusion, index, size, HASHES[index], path[:-1], root)
        broken = data.draw(st.integers(0, len(path) - 1))
        _refused(Code.INCLUSION_INVALID, verify_inclusion, index, size, HASHES[index], _flipped(path, broken), root)


@given(st.integers(2, 130), st.data())
def test_a_consistency_proof_holds_for_two_roots_and_sizes_only(size2, data):
    size1 = data.draw(st.integers(1, size2 - 1))
    root1, root2 = hashing.tree_root(HASHES[:size1]), hashing.tree_root(HASHES[:size2])
    proof = _consistency_path(size1, size2)
    verify_consistency(size1, size2, root1, root2, proof)
    for arguments in (
        (size1, size2, EMPTY_ROOT, root2, proof),
        (size1, size2, root1, EMPTY_ROOT, proof),
        (size1, size2, root2, root1, proof),
        (size1, size2, root1, root2, []),
        (size1, size2, root1, root2, [*proof, EMPTY_ROOT]),
        (size1, size2, root1, root2, proof[:-1]),
        (size1, size2, root1, root2, _flipped(proof, data.draw(st.integers(0, len(proof) - 1)))),
        (size2, size1, root2, root1, proof),
        (size1, size1, root1, root2, []),
        (size2, size2, root2, root2, proof),
    ):
        _refused(Code.CONSISTENCY_INVALID, verify_consistency, *arguments)


def test_the_edge_cases_that_the_rfc_leaves_open():
    root = HASHES[0]
    verify_consistency(0, 0, EMPTY_ROOT, EMPTY_ROOT, [])
    verify_consistency(0, 1, EMPTY_ROOT, root, [])
    verify_consistency(1, 1, root, root, [])
    verify_consistency(1, 1, b"any", b"any", [])  # as the published vectors want it: what a root is, a checkpoint says
    for arguments in (
        (0, 0, EMPTY_ROOT, root, []),
        (0, 0, root, root, []),
        (0, 1, root, root, []),
        (0, 1, EMPTY_ROOT, root, [root]),
        (1, 1, root, EMPTY_ROOT, []),
        (0, 0, b"any", b"any", []),
        (0, 1, EMPTY_ROOT, b"any", []),
        (1, 0, root, EMPTY_ROOT, []),
        (-1, 1, root, root, []),
        (1, 2, root, root[:31], [root]),
    ):
        _refused(Code.CONSISTENCY_INVALID, verify_consistency, *arguments)


@pytest.mark.parametrize(("index", "size"), [(-1, 1), (1, 1), (0, 0), (0, -1), (1 << 70, 2)])
def test_a_place_outside_the_tree_is_refused(index, size):
    _refused(Code.INCLUSION_INVALID, root_from_inclusion, index, size, HASHES[0], [])


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_hashes_of_another_length_are_refused(length):
    _refused(Code.INCLUSION_INVALID, root_from_inclusion, 0, 2, HASHES[0], [b"x" * length])


def _pymerkle_tree():
    tree = InmemoryTree(algorithm="sha256")
    for leaf in LEAVES:
        tree.append_entry(leaf)
    return tree


def _consistency_path(size1: int, size2: int) -> list[bytes]:
    """RFC 6962 section 2.1.2, word by word."""

    def subproof(m: int, low: int, high: int, whole: bool) -> list[bytes]:
        size = high - low
        if m == size:
            return [] if whole else [hashing.tree_root(HASHES[low:high])]
        split = 1 << ((size - 1).bit_length() - 1)
        if m <= split:
            return [*subproof(m, low, low + split, whole), hashing.tree_root(HASHES[low + split : high])]
        return [*subproof(m - split, low + split, high, False), hashing.tree_root(HASHES[low : low + split])]

    return subproof(size1, 0, size2, True)


def _flipped(hashes: list[bytes], position: int) -> list[bytes]:
    changed = list(hashes)
    changed[position] = bytes([changed[position][0] ^ 1]) + changed[position][1:]
    return changed


def _refused(code, check, *arguments):
    with pytest.raises(CertificateError) as failure:
        check(*arguments)
    assert failure.value.code is code
