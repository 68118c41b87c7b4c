"""The Gaussian mechanism, exactly: calibration and composition. It knows no model, no data and no clock.

With ``mu = Delta / sigma`` (L2 sensitivity over noise scale) the mechanism is mu-GDP, and its tight
(epsilon, delta) curve is (Balle and Wang 2018, Theorem 8; Dong, Roth and Su 2022, Corollary 1)

    delta(eps) = Phi(mu/2 - eps/mu) - e^eps Phi(-mu/2 - eps/mu)

The classical ``sqrt(2 ln(1.25/delta)) / eps`` is proved only for eps < 1 and is not used.
"""

import math
from collections.abc import Iterable
from functools import cache

from scipy.special import log_ndtr, ndtr

from mbd.errors import PrivacyError

_RELATIVE = 1e-13  # bisection stops here; the safe end of the bracket is returned


def delta_of(mu: float, epsilon: float) -> float:
    """The smallest delta that mu-GDP implies at ``epsilon`` (>= 0).

    >>> round(delta_of(1 / 3.7306, 1.0), 7)
    1e-05
    """
    if mu == 0:
        return 0.0
    _require(mu > 0 and epsilon >= 0, f"mu = {mu} and epsilon = {epsilon} must not be negative.")
    high = float(ndtr(mu / 2 - epsilon / mu))
    low = math.exp(min(epsilon + float(log_ndtr(-mu / 2 - epsilon / mu)), 0.0))
    return max(high - low, 0.0)


def epsilon_of(mu: float, delta: float) -> float:
    """The smallest epsilon that mu-GDP implies at ``delta``, rounded up in the last digits."""
    _require_delta(delta)
    if mu == 0 or delta_of(mu, 0.0) <= delta:
        return 0.0
    high = 1.0
    while delta_of(mu, high) > delta:
        high *= 2
    low = 0.0
    while high - low > _RELATIVE * high:
        middle = (low + high) / 2
        low, high = (middle, high) if delta_of(mu, middle) > delta else (low, middle)
    return high


@cache
def mu_of(epsilon: float, delta: float) -> float:
    """The largest mu whose curve passes at or under (epsilon, delta), rounded down in the last digits.

    >>> [round(1 / mu_of(eps, 1e-5), 3) for eps in (1.0, 2.0, 8.0)]
    [3.731, 1.994, 0.6]
    """
    _require_delta(delta)
    _require(epsilon > 0, f"epsilon = {epsilon} must be positive.")
    high = 1.0
    while delta_of(high, epsilon) <= delta:
        high *= 2
    low = 0.0
    while high - low > _RELATIVE * high:
        middle = (low + high) / 2
        low, high = (low, middle) if delta_of(middle, epsilon) > delta else (middle, high)
    return low


def sigma_for(sensitivity: float, mu: float) -> float:
    """The noise scale that makes a release of this L2 sensitivity mu-GDP."""
    _require(mu > 0 and sensitivity > 0, f"mu = {mu} and sensitivity = {sensitivity} must be positive.")
    return sensitivity / mu


def compose(mus: Iterable[float]) -> float:
    """Releases together or one after the other, adaptively: the root of the sum of squares.

    Source: Dong, Roth and Su 2022, Corollary 2.
    """
    return math.sqrt(math.fsum(mu * mu for mu in mus))


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise PrivacyError(message, remedy="choose epsilon > 0 and 0 < delta < 1")


def _require_delta(delta: float) -> None:
    _require(0 < delta < 1, f"delta = {delta} must lie between 0 and 1.")
