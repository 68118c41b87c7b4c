"""The privacy of a Gaussian release, recomputed by the verifier with nothing but `math`.

A release is mu-GDP when its mean moves by at most ``mu sigma`` (Dong, Roth and Su 2022). It knows no statements; the
engine that calibrates noise has its own implementation, and the two are tested against each other.
"""

import math
from collections.abc import Iterable

_ASYMPTOTIC_BELOW = -30.0


def log_normal_cdf(z: float) -> float:
    """The logarithm of Phi(z), accurate in both tails.

    Below -30, where erfc would underflow, the asymptotic series of Abramowitz and Stegun 26.2.12.

    >>> round(log_normal_cdf(0.0), 6)
    -0.693147
    """
    if z > 0:
        return math.log1p(-math.erfc(z / math.sqrt(2)) / 2)
    if z > _ASYMPTOTIC_BELOW:
        return math.log(math.erfc(-z / math.sqrt(2)) / 2)
    series, term = 0.0, 1.0
    for k in range(1, 9):
        term *= -(2 * k - 1) / (z * z)
        series += term
    return -z * z / 2 - math.log(-z) - math.log(2 * math.pi) / 2 + math.log1p(series)


def gaussian_delta(epsilon: float, mu: float) -> float:
    """The smallest delta at which mu-GDP is (epsilon, delta)-private.

    ``delta = Phi(mu/2 - epsilon/mu) - e^epsilon Phi(-mu/2 - epsilon/mu)`` (Balle and Wang 2018, theorem 8).

    >>> gaussian_delta(1.0, 1 / 3.731) <= 1.001e-5
    True
    """
    if mu == 0:
        return 0.0
    first = log_normal_cdf(mu / 2 - epsilon / mu)
    second = epsilon + log_normal_cdf(-mu / 2 - epsilon / mu)
    return max(0.0, -math.exp(first) * math.expm1(min(0.0, second - first)))


def compose(mus: Iterable[float]) -> float:
    """The mu of several Gaussian releases together: the root of the sum of squares (Dong, Roth and Su 2022, cor. 2)."""
    return math.hypot(*mus)


def noisy_iterations_mu(
    *, start_bound: float, gradient_bound: float, rate: float, steps: int, sigma: float, coordinates: int
) -> float:
    """The mu of noisy fine-tuning: the least of its bounds after t = 1 ... ``steps`` steps.

    ``(2 C0 + 2 gamma C1 t) / (sigma sqrt(t))`` (Koloskova et al. 2025, lambda = 0), and the rounding of every step to a
    grid of at most ``2^-28 sigma``, which adds ``sqrt(d) 2^-28`` to the distance of two chains.
    """
    rounding = math.sqrt(coordinates) * 2.0**-28
    bounds = (
        (2 * start_bound + 2 * rate * gradient_bound * t) / (sigma * math.sqrt(t)) + rounding * math.sqrt(t)
        for t in range(1, steps + 1)
    )
    return min(bounds)
