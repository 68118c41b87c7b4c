"""Our ledger against pymerkle, a Merkle tree that we did not write: equal roots and proofs for every size to 1,024.

Two proofs of inclusion say the same in the same words, but that pymerkle counts from one and puts the leaf first. Its
proof of consistency goes down to a single leaf where RFC 6962 stops at a whole subtree, so it is folded up before the
two are compared.
"""

import numpy as np
import pytest
from pymerkle import ConsistencyProof, InclusionProof, InmemoryTree, verify_consistency, verify_inclusion
from pymerkle.proof import InvalidProof
from sqlalchemy import Connection

from certs import merkle
from certs.errors import CertificateError
from mbd.records import ledger
from mbd.records.database import begin_locked, begin_snapshot, open_database, upgrade

LARGEST = 1024
EXHAUSTIVE = 64
STEP = 128
"""Sizes in one test, so that workers share them."""

LEAVES = [b"entry %d" % number for number in range(LARGEST)]
HASHES = [merkle.leaf_hash(leaf) for leaf in LEAVES]
BLOCKS = [range(first, first + STEP) for first in range(1, LARGEST + 1, STEP)]

by_block = pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block[0]}-{block[-1]}")


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Our ledger, for reading."""
    url = f"sqlite:///{tmp_path_factory.mktemp('log') / 'records.sqlite3'}"
    upgrade(url)
    engine = open_database(url)
    with begin_locked(engine) as connection:
        ledger.append_many(connection, LEAVES)
    with begin_snapshot(engine) as connection:
        yield connection
    engine.dispose()


@pytest.fixture(scope="module")
def tree():
    tree = InmemoryTree(algorithm="sha256")
    for leaf in LEAVES:
        tree.append_entry(leaf)
    return tree


def test_pymerkle_hashes_as_rfc_6962_does(tree):
    assert tree.get_leaf(1) == HASHES[0]
    assert tree.get_root(2) == merkle.node_hash(HASHES[0], HASHES[1])


@by_block
def test_both_have_the_same_root_at_every_size(block, log: Connection, tree):
    for size in block:
        assert ledger.root_at(log, size) == tree.get_root(size)


@by_block
def test_both_prove_the_inclusion_of_a_leaf_alike_and_each_accepts_the_others_proof(block, log: Connection, tree):
    for size in block:
        root = tree.get_root(size)
        for index in sorted({0, size - 1, size // 2, _drawn(size, size)}):
            theirs = tree.prove_inclusion(index + 1, size)
            ours = ledger.inclusion_proof(log, index, size)
            assert [HASHES[index], *ours] == theirs.path
            merkle.verify_inclusion(index, size, HASHES[index], theirs.path[1:], root)
            _pymerkle_accepts_inclusion(ours, theirs, index, size, ledger.root_at(log, size))


@by_block
def test_both_prove_alike_that_a_size_extends_an_earlier_one(block, log: Connection, tree):
    for size in block:
        root = ledger.root_at(log, size)
        for old in sorted(
            {1, size // 2, size - 1, 1 << (size.bit_length() - 1), _drawn(LARGEST + size, size)} - {0, size}
        ):
            theirs = tree.prove_consistency(old, size)
            ours = ledger.consistency_proof(log, old, size)
            old_root = ledger.root_at(log, old)
            verify_consistency(old_root, root, theirs, prior_size=old, later_size=size, algorithm="sha256")
            assert ours == _folded(theirs)
            merkle.verify_consistency(old, size, old_root, root, ours)


def test_a_size_extends_itself_by_an_empty_proof(log: Connection, tree):
    """pymerkle gives the root itself for a proof; RFC 6962 nothing at all."""
    for size in (1, 2, 3, 64, 777, LARGEST):
        root = ledger.root_at(log, size)
        assert tree.prove_consistency(size, size).path == [root]
        assert ledger.consistency_proof(log, size, size) == []
        merkle.verify_consistency(size, size, root, root, [])


def test_every_place_of_every_small_tree_is_proven_and_one_changed_bit_is_refused(log: Connection, tree):
    chance = np.random.default_rng(6962)
    for size in range(1, EXHAUSTIVE + 1):
        root = tree.get_root(size)
        for index in range(size):
            theirs = tree.prove_inclusion(index + 1, size)
            path = ledger.inclusion_proof(log, index, size)
            assert [HASHES[index], *path] == theirs.path
            merkle.verify_inclusion(index, size, HASHES[index], path, root)
            for number in range(len(path)):
                changed = [*path[:number], _one_bit_off(path[number], chance), *path[number + 1 :]]
                with pytest.raises(CertificateError):
                    merkle.verify_inclusion(index, size, HASHES[index], changed, root)
                with pytest.raises(InvalidProof):
                    _pymerkle_accepts_inclusion(changed, theirs, index, size, root)
            for leaf, wanted in (
                (_one_bit_off(HASHES[index], chance), root),
                (HASHES[index], _one_bit_off(root, chance)),
            ):
                with pytest.raises(CertificateError):
                    merkle.verify_inclusion(index, size, leaf, path, wanted)


def test_every_pair_of_small_sizes_is_proven_and_one_changed_bit_is_refused(log: Connection, tree):
    chance = np.random.default_rng(9162)
    roots = [tree.get_root(size) for size in range(EXHAUSTIVE + 1)]
    for size in range(2, EXHAUSTIVE + 1):
        for old in range(1, size):
            proof = ledger.consistency_proof(log, old, size)
            assert proof == _folded(tree.prove_consistency(old, size))
            merkle.verify_consistency(old, size, roots[old], roots[size], proof)
            variants = [
                (roots[old], roots[size], [*proof[:number], _one_bit_off(proof[number], chance), *proof[number + 1 :]])
                for number in range(len(proof))
            ]
            variants.append((_one_bit_off(roots[old], chance), roots[size], proof))
            variants.append((roots[old], _one_bit_off(roots[size], chance), proof))
            for old_root, root, changed in variants:
                with pytest.raises(CertificateError):
                    merkle.verify_consistency(old, size, old_root, root, changed)


def _drawn(seed: int, below: int) -> int:
    return int(np.random.default_rng(seed).integers(below))


def _pymerkle_accepts_inclusion(path: list[bytes], like: InclusionProof, index: int, size: int, root: bytes) -> None:
    """Our path in pymerkle's form; the form follows from index and size, and pymerkle checks that it does."""
    proof = InclusionProof("sha256", True, size, index + 1, like.rule, [HASHES[index], *path])
    verify_inclusion(HASHES[index], root, proof, index=index + 1, size=size, algorithm="sha256")


def _folded(proof: ConsistencyProof) -> list[bytes]:
    """The same proof as RFC 6962 section 2.1.2 writes it.

    pymerkle's path begins with the leaf right of the old tree, goes up to the largest subtree that begins there, and
    goes on, like the RFC's, with the last subtree of the old tree (the first that `subset` marks). The RFC leaves that
    one out where it is the whole old tree: the verifier has its root.
    """
    last = proof.subset.index(1)
    right = proof.path[0]
    for bit, digest in zip(proof.rule, proof.path[1:last], strict=False):
        right = merkle.node_hash(digest, right) if bit else merkle.node_hash(right, digest)
    whole = sum(proof.subset) == 1
    return [*([] if whole else [proof.path[last]]), right, *proof.path[last + 1 :]]


def _one_bit_off(digest: bytes, chance: np.random.Generator) -> bytes:
    bit = int(chance.integers(256))
    return (int.from_bytes(digest) ^ (1 << bit)).to_bytes(32)
