"""Random numbers by name: a name's numbers are the same whatever else is drawn, and in whatever order.

It knows nothing of what the numbers are for.
"""

import hashlib

import numpy as np

from mbd.hashing import canonical_json

Name = int | float | str


def uniform(purpose: str, *name: Name) -> float:
    """The first number of the stream, uniform on [0, 1): 53 bits of the SHA-256 of its name."""
    return (int.from_bytes(_digest(purpose, name)[:8], "big") >> 11) / 2**53


def generator(purpose: str, *name: Name) -> np.random.Generator:
    """A stream of numbers whose seed is the SHA-256 of its name.

    The bit generator is named, since what `numpy.random.default_rng` takes may change.
    """
    return np.random.Generator(np.random.PCG64(int.from_bytes(_digest(purpose, name), "big")))


def _digest(purpose: str, name: tuple[Name, ...]) -> bytes:
    return hashlib.sha256(purpose.encode() + b"\0" + canonical_json(list(name))).digest()
