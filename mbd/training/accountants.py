"""Two accountants, written by different people, must agree on a private run before it is trained. It knows no rows.

The figure that counts is dp-accounting's, an upper bound (`mbd.privacy.accounting`); Opacus' PRV accountant (Gopi, Lee
and Wutschitz 2021) is an estimate with an error bar, close to the truth from both sides.
"""

import warnings
from functools import cache

from mbd.errors import PrivacyError
from mbd.privacy.accounting import Run, epsilon_of

_DISAGREEMENT = 0.02
_EPSILON_ERROR = 0.01  # of PRV, which returns the upper end of its bar


@cache
def agreed_epsilon(run: Run, delta: float) -> float:
    """The epsilon at ``delta`` for one person, after both accountants have agreed on it within two per cent.

    Raises:
        PrivacyError: no epsilon can be stated for these constants, or the two differ.
    """
    epsilon = epsilon_of(run, delta)
    if run.rate == 1:  # a plain Gaussian, for which the closed form is exact and PRV was not made
        return epsilon
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Opacus and what it imports warn about their own futures
        from opacus.accountants import PRVAccountant  # noqa: PLC0415 - seconds, for private towers alone

        prv = PRVAccountant()
        prv.history = [(run.noise_multiplier, run.rate, run.steps)]
        other = float(prv.get_epsilon(delta, eps_error=_EPSILON_ERROR))
    if abs(other - epsilon) > _DISAGREEMENT * epsilon + 2 * _EPSILON_ERROR:
        raise PrivacyError(
            f"Two accountants disagree about this run: epsilon {epsilon:.4g} and {other:.4g} at delta {delta:g}.",
            remedy="choose a larger noise multiplier or fewer steps, where both are well within their range",
        )
    return epsilon
