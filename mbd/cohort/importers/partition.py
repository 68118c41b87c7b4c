"""Who is public, by seed. It knows subjects, and nothing of what they said."""

from collections.abc import Iterable

import numpy as np

from mbd.errors import CohortError


def draw(subjects: Iterable[str], count: int, seed: int) -> frozenset[str]:
    """``count`` of these subjects; the same for any order in which they are given.

    Raises:
        CohortError: there are not so many.
    """
    ordered = sorted(set(subjects))
    if not 0 < count <= len(ordered):
        raise CohortError(
            f"{count} public subjects cannot be drawn from {len(ordered)} train subjects.",
            remedy=f"ask for 1 to {len(ordered)}",
        )
    chosen = np.random.default_rng(seed).permutation(len(ordered))[:count]
    return frozenset(ordered[i] for i in chosen)
