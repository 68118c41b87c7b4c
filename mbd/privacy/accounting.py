"""What subject-level DP-SGD proves, for one person and for k of them. It knows no data, no model and no torch.

One step of the run adds N(0, (sigma C)^2 I) to the sum of the gradients of the subjects that are in it; each subject is
in it with probability q, independently, and gives one gradient of norm at most C. Between a cohort and the same cohort
without a set of k subjects, one step is dominated, in both directions, by a scalar pair

    P = sum_j Binomial(j; k, q) N(j, sigma^2)        Q = N(0, sigma^2)

(Ganesh 2024, arXiv 2401.10294; our own proof by Kahane's inequality: docs/mechanisms/private_towers.md). Dominating
pairs compose adaptively (Zhu, Dong and Wang 2022, Theorem 10), so T steps are dominated by the T-fold product. dp-
accounting composes the privacy loss distributions and rounds up: every epsilon here is an upper bound. The generic
lemma (k epsilon, k e^(k epsilon) delta) is sound too but never needed. Opacus' GDP accountant underestimates and is
not used.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binom

from mbd.errors import PrivacyError

ACCOUNTANT = "dp-accounting-pld-poisson-gaussian-mixture"
MOST_SUBJECTS = 1024
"""Capacities are searched up to this many subjects."""

_INTERVAL = 1e-4  # of the discretised privacy losses; any interval gives an upper bound
_MIXTURE_INTERVAL = 5e-4  # mixtures take far longer; measured, this changes epsilon by less than 0.5 %
_SCALE = (
    1024.0  # dp-accounting inverts a mixture's loss to 1e-6 in the unit of its noise: a large unit makes that exact
)
_ROUNDING = 1e-12  # what float64 may take from a composed delta, once,
_ROUNDING_A_STEP = 1e-15  # and for each step; epsilon is stated at a delta that much smaller
_LEAST_NOISE = 0.1  # less noise than a tenth of the clipping norm proves nothing that anyone would state


@dataclass(frozen=True)
class Run:
    """The public constants of a DP-SGD run that its guarantee depends on.

    Attributes:
        rate: q, the probability that a subject is in a step.
        noise_multiplier: sigma, the noise's standard deviation over the clipping norm.
        steps: T.
    """

    rate: float
    noise_multiplier: float
    steps: int

    def __post_init__(self) -> None:
        _require(0 < self.rate <= 1, f"The sampling rate {self.rate} must lie in (0, 1].")
        _require(
            0 < self.noise_multiplier < math.inf, f"The noise multiplier {self.noise_multiplier} must be positive."
        )
        _require(self.steps >= 1, f"A run of {self.steps} steps is none.")


def epsilon_of(run: Run, delta: float, *, subjects: int = 1) -> float:
    """The epsilon at ``delta`` between a run with and one without a set of so many subjects, in both directions.

    >>> round(epsilon_of(Run(rate=0.01, noise_multiplier=1.0, steps=1000), 1e-5), 4)
    1.8282
    """
    return joint_epsilon([(run, subjects)], delta)


def joint_epsilon(parts: Sequence[tuple[Run, int]], delta: float, *, mu: float = 0.0) -> float:
    """The epsilon at ``delta`` of everything that is released together.

    Args:
        parts: each tower's run, and how many of its subjects were deleted since; zero subjects cost nothing.
        delta: between 1e-10 (more after very many steps) and 1.
        mu: of the Gaussian releases beside the towers (heads), already composed (`mbd.privacy.gaussian.compose`).

    Raises:
        PrivacyError: impossible parameters, or no finite epsilon at this delta.
    """
    rounding = _ROUNDING + _ROUNDING_A_STEP * sum(run.steps for run, _ in parts)
    _require(100 * rounding <= delta < 1, f"delta = {delta} must lie between {100 * rounding} and 1.")
    _require(mu >= 0, f"mu = {mu} must not be negative.")
    _require(all(subjects >= 0 for _, subjects in parts), "A number of subjects must not be negative.")
    charged = [(run, subjects) for run, subjects in parts if subjects]
    interval = _interval_for(charged)
    losses = [_losses(run, subjects, interval) for run, subjects in charged]
    if mu:
        losses.append(_library().from_gaussian_mechanism(1 / mu, value_discretization_interval=interval))
    if not losses:
        return 0.0
    whole = losses[0]
    for part in losses[1:]:
        whole = whole.compose(part)
    epsilon = float(whole.get_epsilon_for_delta(delta - rounding))
    _require(math.isfinite(epsilon), f"No finite epsilon holds at delta = {delta}.")
    return epsilon


def calibrate(epsilon: float, delta: float, rate: float, steps: int, *, subjects: int = 1) -> float:
    """The smallest noise multiplier, in thousandths and rounded up, that keeps a run at (epsilon, delta); at least 0.1.

    >>> calibrate(1.8289, 1e-5, 0.01, 1000)
    1.0
    """
    _require(epsilon > 0, f"epsilon = {epsilon} must be positive.")

    def holds(thousandths: int) -> bool:
        return epsilon_of(Run(rate, thousandths / 1000, steps), delta, subjects=subjects) <= epsilon

    low, high = round(1000 * _LEAST_NOISE) - 1, 1000
    while not holds(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high / 1000


def k_max(run: Run, epsilon: float, delta: float) -> int:
    """How many subjects may leave before the guarantee passes the policy's (epsilon, delta) and the tower is retrained.

    Zero when even one subject is too many; at most `MOST_SUBJECTS`.

    >>> k_max(Run(rate=0.05, noise_multiplier=8.0, steps=100), epsilon=1.0, delta=1e-9)
    2
    """
    _require(epsilon > 0, f"epsilon = {epsilon} must be positive.")

    def holds(subjects: int) -> bool:
        return epsilon_of(run, delta, subjects=subjects) <= epsilon

    if not holds(1):
        return 0
    low, high = 1, 2
    while high <= MOST_SUBJECTS and holds(high):
        low, high = high, 2 * high
    while high - low > 1 and low < MOST_SUBJECTS:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _losses(run: Run, subjects: int, interval: float) -> Any:
    """The composed privacy loss distribution of a run against the same run without so many subjects."""
    library = _library()
    if run.rate == 1:  # everybody is in every step: a plain Gaussian
        noise = run.noise_multiplier / subjects
        step = library.from_gaussian_mechanism(noise, value_discretization_interval=interval)
    elif subjects == 1:
        step = library.from_gaussian_mechanism(
            run.noise_multiplier, sampling_prob=run.rate, value_discretization_interval=interval
        )
    else:
        chosen = np.arange(subjects + 1)
        step = library.from_mixture_gaussian_mechanism(
            _SCALE * run.noise_multiplier,
            _SCALE * chosen,
            binom.pmf(chosen, subjects, run.rate),
            value_discretization_interval=interval,
        )
    return step.self_compose(run.steps)


def _interval_for(parts: Sequence[tuple[Run, int]]) -> float:
    """Coarser where a step's losses are large, so that their number stays bounded; distributions must share one."""
    least = _MIXTURE_INTERVAL if any(subjects > 1 for _, subjects in parts) else _INTERVAL
    return least * max([1.0, *(subjects / run.noise_multiplier for run, subjects in parts)])


def _library() -> Any:
    """dp-accounting, loaded only when something is accounted for: importing it takes seconds."""
    from dp_accounting.pld import privacy_loss_distribution  # noqa: PLC0415 - seconds, for accounts alone

    return privacy_loss_distribution


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise PrivacyError(
            message, remedy="choose 0 < q <= 1, sigma > 0, at least one step, epsilon > 0, and a delta such as 1e-9"
        )
