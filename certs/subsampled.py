"""What a claim about a private tower can never go below, recomputed with nothing but `math`. It knows no statements.

A run adds N(0, sigma^2) in each of T steps to a number that people who left would have raised by one for every step
that they are in, each of them with probability q. Whoever adds up all T outputs sees N(b, T sigma^2) with b from
Binomial(k T, q) in the run with those k people, and N(0, T sigma^2) in the run without. Adding up is post-processing,
so the (epsilon, delta) of this pair is a lower bound of the run's. It is close where sigma is 2 or more. The accountant
that issuers use is another program and an upper bound (docs/mechanisms/private_towers.md).
"""

import math

from certs.gaussian import log_normal_cdf

_MOST_DRAWS = 1 << 16  # a longer run is cut short, which lowers the bound: what a statement says must not cost minutes
_LEAST_NOISE, _LARGEST_NOISE = 1e-3, 1e12  # more noise than there is lowers the bound; beyond, it is 0 for float64
_LARGEST_EPSILON = 1e6  # beyond, nothing is claimed
_REACH, _FEW = 12.0, 40  # standard deviations and draws of the binomial that are summed on either side: leaving others
# out only lowers the bound, by less than 1e-25 (Bernstein's inequality)
_HALVINGS = 100


def subsampled_delta(epsilon: float, rate: float, noise_multiplier: float, steps: int, subjects: int = 1) -> float:
    """A lower bound of delta at ``epsilon`` for so many people who left; any positive numbers are judged in a second.

    Looking at fewer steps is post-processing. Fewer people lower the bound as well: their sum is larger less often.

    >>> 1e-5 < subsampled_delta(1.0, 0.01, 1.0, 1000) < 1e-2
    True
    """
    if epsilon > _LARGEST_EPSILON or noise_multiplier > _LARGEST_NOISE:
        return 0.0
    subjects = min(subjects, _MOST_DRAWS)
    steps = min(steps, _MOST_DRAWS // subjects)
    draws, scale = subjects * steps, max(noise_multiplier, _LEAST_NOISE) * math.sqrt(steps)
    spread = math.sqrt(draws * rate * (1 - rate))
    low = max(0, math.floor(draws * rate - _REACH * spread - _FEW))
    high = min(draws, math.ceil(draws * rate + _REACH * spread + _FEW))
    weights = [(b, _log_binomial(b, draws, rate)) for b in range(low, high + 1)]

    def log_ratio(x: float) -> float:
        terms = [log_weight + (b * x - b * b / 2) / scale**2 for b, log_weight in weights]
        largest = max(terms)
        return largest + math.log(math.fsum(math.exp(term - largest) for term in terms))

    left, right = 0.0, 1.0
    while log_ratio(right) < epsilon:
        right *= 2
    for _ in range(_HALVINGS):
        middle = (left + right) / 2
        left, right = (middle, right) if log_ratio(middle) < epsilon else (left, middle)
    with_them = math.fsum(math.exp(w + log_normal_cdf((b - right) / scale)) for b, w in weights)
    return max(0.0, with_them - math.exp(min(0.0, epsilon + log_normal_cdf(-right / scale))))


def _log_binomial(b: int, n: int, p: float) -> float:
    if p == 1:
        return 0.0 if b == n else -math.inf
    choose = math.lgamma(n + 1) - math.lgamma(b + 1) - math.lgamma(n - b + 1)
    return choose + b * math.log(p) + (n - b) * math.log1p(-p)
