"""Whether a difference between two models is more than the draw of the people who were tested. It knows no model.

Clips of one person are not independent, so people are drawn again, not clips (a cluster bootstrap: Davison and Hinkley
1997, section 3.8).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mbd.errors import MbdError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean difference and its percentile interval."""

    mean: float
    low: float
    high: float


def paired_interval(
    differences_P: Floats, rows_P: Floats, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """The mean difference a row between two models on the same rows, with an interval over the draw of people.

    Args:
        differences_P: [P], each person's summed difference.
        rows_P: [P], how many rows each sum is over.
        level: of the interval.
        resamples: how often people are drawn again.
        seed: of these draws.

    Raises:
        MbdError: fewer than two people, or a person without rows.
    """
    people = len(differences_P)
    if differences_P.shape != rows_P.shape or people < 2 or not (rows_P > 0).all():
        raise MbdError(
            "An interval over people needs at least two people with rows, and one difference for each.",
            remedy="give one summed difference and one number of rows for each person",
        )
    drawn_RP = np.random.default_rng(seed).integers(people, size=(resamples, people))
    means_R = differences_P[drawn_RP].sum(axis=1) / rows_P[drawn_RP].sum(axis=1)
    low, high = np.quantile(means_R, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(differences_P.sum() / rows_P.sum()), float(low), float(high))
