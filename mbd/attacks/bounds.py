"""From counts of an attack's hits to bounds that hold with a stated confidence. It knows no model and no attack."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import beta
from scipy.stats import t as student

from mbd.errors import AttackError

Floats = NDArray[np.float64]


def clopper_pearson(hits: int, trials: int, *, confidence: float) -> tuple[float, float]:
    """The exact two-sided interval of a probability (Clopper and Pearson 1934).

    Args:
        hits: successes, at most ``trials``.
        trials: at least one.
        confidence: that the interval holds the probability, half of the error on each side.

    Raises:
        AttackError: the counts are impossible.
    """
    if not (0 <= hits <= trials and trials > 0 and 0 < confidence < 1):
        raise AttackError(
            f"{hits} hits in {trials} trials at confidence {confidence} have no interval.",
            remedy="give 0 <= hits <= trials, at least one trial, and a confidence between 0 and 1",
        )
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, hits, trials - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, trials - hits)) if hits < trials else 1.0
    return low, high


@dataclass(frozen=True)
class Hits:
    """How often one test said "exposed": of models that were (true), and of models that were not (false).

    Attributes:
        true, exposed: hits among so many exposed ones.
        false, unexposed: hits among so many unexposed ones.
    """

    true: int
    exposed: int
    false: int
    unexposed: int

    def rates(self, confidence: float) -> tuple[float, float]:
        """A lower bound of the true positive rate and an upper bound of the false one; both hold together."""
        each = confidence  # each is one-sided at half of the error: together they err at most 1 - confidence
        return (
            clopper_pearson(self.true, self.exposed, confidence=each)[0],
            clopper_pearson(self.false, self.unexposed, confidence=each)[1],
        )

    def mu(self, confidence: float) -> float:
        """A lower bound of mu: Phi^-1(TPR_low) - Phi^-1(FPR_high), at least 0 (Dong, Roth and Su 2022, section 2)."""
        true, false = self.rates(confidence)
        if true <= false:  # also 0 and 1, where the quantiles are infinite
            return 0.0
        return float(ndtri(true) - ndtri(false))

    def epsilon(self, delta: float, confidence: float) -> float:
        """A lower bound of epsilon at ``delta``: ln((TPR_low - delta) / FPR_high), at least 0 (Kairouz et al. 2015)."""
        true, false = self.rates(confidence)
        return math.log((true - delta) / false) if true - delta > false else 0.0


def hits_above(exposed_N: Floats, unexposed_N: Floats, threshold: float) -> Hits:
    """The test "score >= threshold"."""
    true, false = int((exposed_N >= threshold).sum()), int((unexposed_N >= threshold).sum())
    return Hits(true, len(exposed_N), false, len(unexposed_N))


def best_threshold(exposed_N: Floats, unexposed_N: Floats, *, confidence: float) -> float:
    """The threshold whose mu bound is largest on these scores. Judge it on other scores than those."""
    both = np.concatenate([exposed_N, unexposed_N])
    candidates = np.unique(np.quantile(both, np.linspace(0, 1, 201), method="higher"))
    return float(max(candidates, key=lambda t: hits_above(exposed_N, unexposed_N, float(t)).mu(confidence)))


def mean_interval(value_W: Floats, confidence: float) -> tuple[float, float]:
    """Student's interval of a mean over a few worlds: with so few, drawing them again would be far too sure of itself.

    Args:
        value_W: one number a world, at least two.
        confidence: of the interval.
    """
    centre, worlds = float(np.mean(value_W)), len(value_W)
    reach = float(student.ppf((1 + confidence) / 2, worlds - 1) * np.std(value_W, ddof=1) / math.sqrt(worlds))
    return centre - reach, centre + reach


@dataclass(frozen=True)
class Roc:
    """A receiver operating characteristic.

    Attributes:
        false_P: false positive rates, ascending from 0 to 1.
        true_P: true positive rates at them.
        exposed, unexposed: how many scores of each kind it is made of.
    """

    false_P: Floats
    true_P: Floats
    exposed: int
    unexposed: int

    @classmethod
    def of(cls, exposed_N: Floats, unexposed_N: Floats) -> "Roc":
        """Of scores that should be larger for exposed ones; ties count as one step."""
        scores_N = np.concatenate([exposed_N, unexposed_N])
        is_exposed_N = np.arange(len(scores_N)) < len(exposed_N)
        order = np.argsort(-scores_N, kind="stable")
        last_of_tie = np.flatnonzero(np.append(np.diff(scores_N[order]) != 0, True))
        true = np.cumsum(is_exposed_N[order])[last_of_tie] / max(len(exposed_N), 1)
        false = np.cumsum(~is_exposed_N[order])[last_of_tie] / max(len(unexposed_N), 1)
        return cls(np.append(0.0, false), np.append(0.0, true), len(exposed_N), len(unexposed_N))

    @property
    def auc(self) -> float:
        """The area under it: .5 is a coin."""
        return float(np.trapezoid(self.true_P, self.false_P))

    def true_at(self, false: float) -> float:
        """The largest true positive rate at a false positive rate of at most ``false``."""
        return float(self.true_P[self.false_P <= false].max())

    def hits_at(self, false: float) -> Hits:
        """The same test as counts."""
        at = int(np.flatnonzero(self.false_P <= false)[-1])
        true, wrong = self.true_P[at] * self.exposed, self.false_P[at] * self.unexposed
        return Hits(round(float(true)), self.exposed, round(float(wrong)), self.unexposed)
