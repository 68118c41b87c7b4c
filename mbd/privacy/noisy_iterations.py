"""The account of noisy iterations that forget their start: two chains, one kernel, two starts. It knows no model.

A chain starts inside a ball of radius C0 and makes T steps ``x <- x - gamma clip(g_t(x), C1) + N(0, sigma^2 I)``. Both
chains use the same D' and the same batches, so g_t is one function; nothing is assumed about it. The last iterates of
two chains are mu-GDP apart, in both directions, with

    mu = min over 1 <= t <= T of (2 C0 + t (2 gamma C1 + sqrt(d) h)) / (sigma sqrt(t))

where h <= 2^-28 sigma is the grid that iterates live on and d the number of coordinates.
Source: docs/mechanisms/noisy_finetuning.md; for h = 0 and t = T, Koloskova et al. (ICML 2025) with lambda = 0.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mbd.errors import PrivacyError

FloatArray = NDArray[np.float64]

GRID_BITS_BELOW_SIGMA = 28
"""Iterates and noise are integers on a grid of at most 2^-28 of sigma, so that their sums are exact."""

MOST_COORDINATES = 1 << 24
"""Beyond this many, float64 could miss a norm by more than `clip` allows for."""

_CLIP = 1 - 2.0**-30  # a norm over 2^24 coordinates is off by less than this, relatively
_LARGEST_DRAW = 14.0  # in sigma; the noise's furthest number is 13.1
_LARGEST_ITERATE = 2.0**23  # in sigma: on the grid fewer than 2^52 steps


@dataclass(frozen=True)
class Chain:
    """The public constants of a chain, without its noise.

    Attributes:
        start_bound: C0, the radius of the ball that the start is clipped to.
        gradient_bound: C1, the norm that every gradient is clipped to.
        rate: gamma.
        steps: T, at least 1.
        coordinates: d, how many numbers move.
    """

    start_bound: float
    gradient_bound: float
    rate: float
    steps: int
    coordinates: int

    def __post_init__(self) -> None:
        positive = (self.start_bound, self.gradient_bound, self.rate)
        if not all(0 < value < math.inf for value in positive) or self.steps < 1:
            raise PrivacyError(
                f"A noisy chain with C0, C1, gamma = {positive} and {self.steps} steps has no account.",
                remedy="give positive, finite bounds and rate, and at least one step",
            )
        if not 1 <= self.coordinates <= MOST_COORDINATES:
            raise PrivacyError(
                f"The account of noisy iterations covers 1 to {MOST_COORDINATES} coordinates, not {self.coordinates}.",
                remedy="train again without the withdrawn channels, or declare the public part of the model",
            )

    def mu(self, sigma: float) -> float:
        """What T steps with noise of this scale prove about the last iterate.

        It never grows with T: a further step applies one kernel to both chains, and that is post-processing.
        """
        t_T = np.arange(1, self.steps + 1, dtype=np.float64)
        return float((self._displacement(t_T) / (sigma * np.sqrt(t_T)) + self._rounding * np.sqrt(t_T)).min())

    def sigma_for(self, mu: float) -> float:
        """The smallest noise scale of a step for which `mu` holds, rounded up in the last digits.

        Raises:
            PrivacyError: mu is not positive, is below what rounding alone costs, or needs more steps than the exact
                arithmetic has room for.
        """
        t_T = np.arange(1, self.steps + 1, dtype=np.float64)
        room_T = mu - self._rounding * np.sqrt(t_T)
        if not room_T[0] > 0:
            raise PrivacyError(
                f"No noise on a grid makes a chain of {self.coordinates} coordinates {mu}-GDP.",
                remedy="ask for a larger epsilon",
            )
        t_T, room_T = t_T[room_T > 0], room_T[room_T > 0]
        sigma = float((self._displacement(t_T) / (np.sqrt(t_T) * room_T)).min()) * (1 + 1e-12)
        reach = (self.start_bound + self.steps * self.rate * self.gradient_bound) / sigma + _LARGEST_DRAW * self.steps
        if not reach < _LARGEST_ITERATE:
            raise PrivacyError(
                f"After {self.steps} steps with so little noise ({sigma:.3g}) the sums could round.",
                remedy="take fewer steps, or ask for a smaller epsilon",
            )
        return sigma

    @property
    def _rounding(self) -> float:
        """What the grid adds to the distance of two chains in one step, in units of sigma: sqrt(d) h / sigma."""
        return math.sqrt(self.coordinates) * 2.0**-GRID_BITS_BELOW_SIGMA

    def _displacement(self, t_T: FloatArray) -> FloatArray:
        """How far the noise of t steps has to reach: from one start to the other, and against all gradients."""
        return 2 * self.start_bound + 2 * self.rate * self.gradient_bound * t_T


def iterate(
    chain: Chain,
    sigma: float,
    start_D: FloatArray,
    gradient: Callable[[FloatArray, int], FloatArray],
    draw: Callable[[int], FloatArray],
) -> FloatArray:
    """The last iterate: float64 [D], to be released alone.

    Start, gradient step and noise are integers on one grid, a power of two of at most 2^-28 of sigma, so their sums do
    not round and no low bits betray a mean (Mironov 2012). Start and gradient step are rounded towards zero: their
    bounds hold after rounding.

    Args:
        chain: the bounds, which are enforced here, whatever start and gradients are.
        sigma: from `Chain.sigma_for`.
        start_D: any vector.
        gradient: at an iterate and a step; a function of these, of D' and of public constants.
        draw: D standard normal numbers for a step, from a stream of its own.
    """
    grid = 2.0 ** (math.floor(math.log2(sigma)) - GRID_BITS_BELOW_SIGMA)
    x_D = _inwards(clip(start_D, chain.start_bound), grid)
    for step in range(chain.steps):
        move_D = chain.rate * clip(gradient(x_D, step), chain.gradient_bound)
        x_D = x_D - _inwards(move_D, grid) + np.rint(sigma * draw(step) / grid) * grid
    return x_D


def clip(vector_D: FloatArray, bound: float) -> FloatArray:
    """The vector, shortened to at most ``bound`` in L2 norm: float64 [D], whatever rounding does.

    A vector that is not finite, or whose norm is not, becomes zero: the bound has to hold in every step.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        norm = float(np.linalg.norm(vector_D))
    if not math.isfinite(norm):
        return np.zeros(len(vector_D))
    if norm <= bound * _CLIP:
        return np.asarray(vector_D, dtype=np.float64)
    return np.asarray(vector_D * (bound * _CLIP / norm), dtype=np.float64)


def _inwards(vector_D: FloatArray, grid: float) -> FloatArray:
    """The nearest grid point towards zero, coordinate by coordinate: the norm never grows."""
    return np.asarray(np.trunc(vector_D / grid) * grid)
