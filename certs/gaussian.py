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
    first = log_normal_cdf(mu / 2 - epsilon / mu)
    second = epsilon + log_normal_cdf(-mu / 2 - epsilon / mu)
    return max(0.0, -math.exp(first) * math.expm1(min(0.0, second - first)))


def compose(mus: Iterable[float]) -> float:
    """The mu of several Gaussian releases together: the root of the sum of squares (Dong, Roth and Su 2022, cor. 2)."""
    return math.hypot(*mus)
