"""Merkle proofs of RFC 6962, the verifying side: inclusion and consistency.

Written from the RFC (and RFC 9162 sections 2.1.3.2 and 2.1.4.2 for the loops) without sharing a line with the
proving side: a prover must not check itself. It knows no leaves' meaning and no signatures.
"""

import hashlib
from collections.abc import Sequence
from typing import Never

from certs.errors import CertificateError, Code

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """RFC 6962 section 2.1: SHA-256(0x00 || data)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962 section 2.1: SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_from_inclusion(index: int, size: int, leaf: bytes, path: Sequence[bytes]) -> bytes:
    """The root that an audit path implies (RFC 9162 section 2.1.3.2). The caller compares it with a trusted root.

    Args:
        index: the leaf's position, from 0.
        size: the number of leaves in the tree.
        leaf: the leaf's hash, 32 bytes.
        path: sibling hashes, the leaf's own sibling first.

    Raises:
        CertificateError: ``inclusion-invalid`` when the path cannot belong to that position in that tree.
    """
    if not 0 <= index < size:
        _refuse(Code.INCLUSION_INVALID, f"Leaf {index} does not exist in a tree of {size} leaves.")
    _check_hashes(Code.INCLUSION_INVALID, [leaf, *path])
    node, last, digest = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            _refuse(Code.INCLUSION_INVALID, "The inclusion proof has too many hashes.")
        if node & 1 or node == last:
            digest = node_hash(sibling, digest)
            while not node & 1 and node != 0:
                node, last = node >> 1, last >> 1
        else:
            digest = node_hash(digest, sibling)
        node, last = node >> 1, last >> 1
    if last != 0:
        _refuse(Code.INCLUSION_INVALID, "The inclusion proof has too few hashes.")
    return digest


def verify_inclusion(index: int, size: int, leaf: bytes, path: Sequence[bytes], root: bytes) -> None:
    """Refuse unless the leaf hash stands at ``index`` in the tree of ``size`` leaves with that root.

    Raises:
        CertificateError: ``inclusion-invalid``.
    """
    if root_from_inclusion(index, size, leaf, path) != root:
        _refuse(Code.INCLUSION_INVALID, "The inclusion proof leads to another root.")


def verify_consistency(size1: int, size2: int, root1: bytes, root2: bytes, proof: Sequence[bytes]) -> None:
    """Refuse unless the tree of ``size1`` leaves is a prefix of that of ``size2`` (RFC 9162 section 2.1.4.2).

    The two cases that the RFC leaves to the reader: between equal sizes the proof is empty and the roots are equal,
    whatever they are; from size 0 the proof is empty and ``root1`` is the root of the empty tree.

    Raises:
        CertificateError: ``consistency-invalid``.
    """
    if not 0 <= size1 <= size2:
        _refuse(Code.CONSISTENCY_INVALID, f"A log cannot go from {size1} to {size2} leaves.")
    if size1 < size2:
        _check_hashes(Code.CONSISTENCY_INVALID, [root1, root2, *proof])
    if size1 == 0 and root1 != EMPTY_ROOT:
        _refuse(Code.CONSISTENCY_INVALID, "The root of size 0 is not the root of an empty tree.")
    if size1 in (0, size2):
        if proof:
            _refuse(Code.CONSISTENCY_INVALID, "The consistency proof has too many hashes.")
        if size1 == size2 and root1 != root2:
            _refuse(Code.CONSISTENCY_INVALID, f"Two different roots for {size1} leaves: the log has forked.")
        return
    if _consistent_roots(size1, size2, root1, proof) != (root1, root2):
        _refuse(Code.CONSISTENCY_INVALID, "The consistency proof leads to other roots: the log has forked.")


def _consistent_roots(size1: int, size2: int, root1: bytes, proof: Sequence[bytes]) -> tuple[bytes, bytes]:
    """The roots at ``size1`` and ``size2`` that a proof implies, for 0 < size1 < size2."""
    hashes = list(proof)
    if size1 & (size1 - 1) == 0:
        hashes.insert(0, root1)
    if not hashes:
        _refuse(Code.CONSISTENCY_INVALID, "The consistency proof is empty.")
    node, last = size1 - 1, size2 - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    older = newer = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            _refuse(Code.CONSISTENCY_INVALID, "The consistency proof has too many hashes.")
        if node & 1 or node == last:
            older, newer = node_hash(sibling, older), node_hash(sibling, newer)
            while not node & 1 and node != 0:
                node, last = node >> 1, last >> 1
        else:
            newer = node_hash(newer, sibling)
        node, last = node >> 1, last >> 1
    if last != 0:
        _refuse(Code.CONSISTENCY_INVALID, "The consistency proof has too few hashes.")
    return older, newer


def _check_hashes(code: Code, hashes: Sequence[bytes]) -> None:
    if any(len(digest) != HASH_BYTES for digest in hashes):
        _refuse(code, "A hash in the proof does not have 32 bytes.")


def _refuse(code: Code, message: str) -> Never:
    raise CertificateError(code, message, remedy="ask the log for a fresh proof, and keep both if it fails again")
