"""Canonical bytes and digests: JSON (RFC 8785), files, arrays, and Merkle trees (RFC 6962, the proving side).

It knows nothing of cohorts, ledgers or certificates. The verifying side of the trees lives in `certs.merkle`,
written separately on purpose: a prover must not check itself.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rfc8785

if TYPE_CHECKING:
    import numpy as np


def canonical_json(value: Any) -> bytes:
    """RFC 8785 bytes of a JSON value."""
    return rfc8785.dumps(value)


def sha256_hex(data: bytes) -> str:
    """SHA-256 as 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


def json_digest(value: Any) -> str:
    """SHA-256 (hex) of a value's canonical JSON."""
    return sha256_hex(canonical_json(value))


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def arrays_digest(arrays: Mapping[str, "np.ndarray[Any, Any]"]) -> str:
    """SHA-256 (hex) over named arrays: name, dtype, shape and little-endian C-order bytes, names sorted.

    Two sets of arrays share a digest exactly when they are equal bit for bit.
    """
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        little = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
        digest.update(_array_header(name, little.dtype.str, little.shape))
        digest.update(little.data)  # a view: a copy of G would cost an eighth of hashing it
    return digest.hexdigest()


@lru_cache(maxsize=1024)
def _array_header(name: str, dtype: str, shape: tuple[int, ...]) -> bytes:
    """What stands before an array's bytes; the same few arrays are hashed over and over."""
    header = canonical_json({"name": name, "dtype": dtype, "shape": list(shape)})
    return len(header).to_bytes(8, "big") + header


def leaf_hash(data: bytes) -> bytes:
    """RFC 6962 section 2.1: SHA-256(0x00 || data)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962 section 2.1: SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def tree_levels(leaf_hashes: Sequence[bytes]) -> list[list[bytes]]:
    """All perfect subtrees of a tree: ``levels[l][i]`` covers leaves ``[i * 2^l, (i + 1) * 2^l)``."""
    levels = [list(leaf_hashes)]
    while len(levels[-1]) > 1:
        below = levels[-1]
        levels.append([node_hash(below[i], below[i + 1]) for i in range(0, len(below) - 1, 2)])
    return levels


def tree_root(leaf_hashes: Sequence[bytes]) -> bytes:
    """RFC 6962 root of a list of leaf hashes; SHA-256 of nothing for an empty tree."""
    return _range_root(tree_levels(leaf_hashes), 0, len(leaf_hashes))


def inclusion_path(leaf_hashes: Sequence[bytes], index: int) -> list[bytes]:
    """RFC 6962 section 2.1.1: the audit path of leaf ``index``, nearest sibling first."""
    return inclusion_paths(leaf_hashes, [index])[0]


def inclusion_paths(leaf_hashes: Sequence[bytes], indices: Sequence[int]) -> list[list[bytes]]:
    """`inclusion_path` for several leaves of one tree, which is built once."""
    levels = tree_levels(leaf_hashes)
    return [path_in(levels, index) for index in indices]


def path_in(levels: Sequence[Sequence[bytes]], index: int) -> list[bytes]:
    """`inclusion_path` in a tree whose `tree_levels` are known: O(log n)."""
    low, high = 0, len(levels[0])
    if not low <= index < high:
        raise IndexError(f"leaf {index} is not in a tree of {high} leaves")
    path: list[bytes] = []
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            path.append(_range_root(levels, middle, high))
            high = middle
        else:
            path.append(_range_root(levels, low, middle))
            low = middle
    return path[::-1]


def _split(size: int) -> int:
    """The largest power of two below ``size``."""
    return 1 << ((size - 1).bit_length() - 1)


def _range_root(levels: Sequence[Sequence[bytes]], low: int, high: int) -> bytes:
    size = high - low
    if size == 0:
        return hashlib.sha256(b"").digest()
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return levels[level][low >> level]
    middle = low + _split(size)
    return node_hash(_range_root(levels, low, middle), _range_root(levels, middle, high))
