"""Was this person's channel ever in the model? A likelihood-ratio test for each person, from models of many worlds.

In each world some people's channel was in D and was then deleted, and the others' never was; D' is the same in all. For
each person the released models' scores in the other worlds say how an exposed and an unexposed model look, and the
held-out world's score is judged by them. It knows no model: scores come in, rates and bounds go out.

Source: Carlini et al. 2022 (LiRA, online); Hayes et al. 2024 (U-LiRA, for unlearning), here person by person.
Legend: W worlds, S people.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mbd.attacks.bounds import Floats, Roc, hits_above, mean_interval
from mbd.attacks.report import Estimate, Report
from mbd.errors import AttackError

Bools = NDArray[np.bool_]

LEAST_WORLDS = 4
"""Fewer leave no two worlds of each kind beside the one that is judged."""

_RESAMPLES = 1000


@dataclass(frozen=True)
class Rate:
    """A rate with its interval over worlds."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Membership:
    """How well the attack tells exposed from unexposed.

    Attributes:
        roc: over all worlds and people.
        auc: .5 is a coin.
        true_at: the true positive rate at false positive rates of 0.1 % and 1 %.
        epsilon: a lower bound at ``delta``; scores of one world share a model, and are counted as if they did not.
        delta: of the bound.
        confidence: of the bound and of the intervals: over worlds, by the jackknife (auc) or by drawing them again.
        worlds, people: how many.
    """

    roc: Roc
    auc: Rate
    true_at: dict[float, Rate]
    epsilon: float
    delta: float
    confidence: float
    worlds: int
    people: int


def likelihood_ratio_membership(
    score_WS: Floats, exposed_WS: Bools, *, delta: float, seed: int, confidence: float = 0.95
) -> Membership:
    """Attack every person in every world with what the other worlds teach.

    Args:
        score_WS: of each released model on each person's withdrawn rows; larger for people whom it knows.
        exposed_WS: whether the channel was in that world's D.
        delta: of the epsilon that is bounded.
        seed: of the bootstrap.
        confidence: of bound and intervals.

    Raises:
        AttackError: too few worlds, or a person who is never exposed, or always.
    """
    ratio_WS = log_ratios(score_WS, exposed_WS)
    roc = _roc(ratio_WS, exposed_WS)
    rng = np.random.default_rng(seed)
    drawn = [rng.integers(len(ratio_WS), size=len(ratio_WS)) for _ in range(_RESAMPLES)]
    again = [_roc(ratio_WS[at], exposed_WS[at]) for at in drawn]
    tail = (1 - confidence) / 2

    def interval(value: float, values: list[float]) -> Rate:
        low, high = np.quantile(values, [tail, 1 - tail])
        return Rate(value, float(low), float(high))

    # a verdict hangs on the area: few worlds drawn again would be too sure of themselves, so the jackknife's interval
    worlds = np.arange(len(ratio_WS))
    without_W = np.array([_roc(ratio_WS[worlds != w], exposed_WS[worlds != w]).auc for w in worlds])
    low, high = mean_interval(len(worlds) * roc.auc - (len(worlds) - 1) * without_W, confidence)

    # the threshold is fixed beforehand, at a ratio of 1: whoever looked for the best would have to pay for it
    natural = hits_above(ratio_WS[exposed_WS], ratio_WS[~exposed_WS], 0.0)
    return Membership(
        roc=roc,
        auc=Rate(roc.auc, max(low, 0.0), min(high, 1.0)),
        true_at={fpr: interval(roc.true_at(fpr), [each.true_at(fpr) for each in again]) for fpr in (0.001, 0.01)},
        epsilon=natural.epsilon(delta, confidence),
        delta=delta,
        confidence=confidence,
        worlds=len(score_WS),
        people=score_WS.shape[1],
    )


def log_ratios(score_WS: Floats, exposed_WS: Bools) -> Floats:
    """Log p(score | exposed) - log p(score | unexposed) of each held-out world [W, S].

    Means are each person's own; the variance is one for both kinds and all people in units of each person's spread, as
    few worlds estimate no better (Carlini et al. 2022, section VI).

    Raises:
        AttackError: as `likelihood_ratio_membership`.
    """
    if score_WS.shape != exposed_WS.shape or len(score_WS) < LEAST_WORLDS or not np.isfinite(score_WS).all():
        raise AttackError(
            f"Scores of {len(score_WS)} worlds do not carry this attack.",
            remedy=f"give finite scores of at least {LEAST_WORLDS} worlds, and who was exposed in each",
        )
    both = [exposed_WS.sum(axis=0).min(), (~exposed_WS).sum(axis=0).min()]
    if min(both) < 2:
        raise AttackError(
            "Somebody was exposed in nearly all worlds or in nearly none: the others teach nothing about them.",
            remedy="let each person be exposed in at least two worlds and unexposed in two; add worlds",
        )
    ratio_WS = np.empty_like(score_WS)
    for world in range(len(score_WS)):
        others = np.arange(len(score_WS)) != world
        mine_WS, is_in_WS = score_WS[others], exposed_WS[others]
        means = []
        left_WS = mine_WS.copy()
        for kind_WS in (is_in_WS, ~is_in_WS):
            mean_S = np.where(kind_WS, mine_WS, 0.0).sum(axis=0) / kind_WS.sum(axis=0)
            left_WS -= np.where(kind_WS, mean_S, 0.0)
            means.append(mean_S)
        own_S = np.square(left_WS).sum(axis=0) / (len(mine_WS) - 2)
        pooled = float(own_S.mean())
        # half of the variance from everybody: of few worlds a person's own is a poor estimate
        variance_S = np.maximum((own_S + pooled) / 2, 1e-12)
        exposed_S, unexposed_S = means
        held_S = score_WS[world]
        ratio_WS[world] = (np.square(held_S - unexposed_S) - np.square(held_S - exposed_S)) / (2 * variance_S)
    return ratio_WS


def challenge_forgetting(unlearned: Sequence[Floats], retrained: Sequence[Floats], *, delta: float = 0.0) -> float:
    """The forgetting quality F of the NeurIPS 2023 unlearning challenge: 1 is best, hardly above 0 is worst.

    For every example the best threshold tells unlearned from retrained models; its empirical epsilon falls into the
    n-th bin of width .5, n from 1 to 13, and scores 2 / 2^n; F is the mean. Two groups of a dozen equal models score
    far below 1, since the best threshold is looked for on the models that it is judged by: read F beside a null.
    Deviations: thresholds are the midpoints between observed scores, from both sides; no two-sided attack is tried;
    an epsilon of one error alone counts, where the other is 0. The challenge multiplies F by the relative accuracies
    on retained and on test rows.

    Args:
        unlearned: of each example its scores, one for each unlearned model.
        retrained: of retrained models likewise.
        delta: as in epsilon's definition.

    Source: Triantafillou et al. 2024, section 3.
    """
    pairs = zip(unlearned, retrained, strict=True)
    return float(np.mean([_bin_score(_best_epsilon(one_M, two_M, delta)) for one_M, two_M in pairs]))


def _bin_score(epsilon: float) -> float:
    return 2.0 / 2.0 ** min(1 + int(min(epsilon, 100.0) / 0.5), 13)


def _best_epsilon(unlearned_M: Floats, retrained_M: Floats, delta: float) -> float:
    """The largest empirical epsilon of a threshold test, in either direction of the scores and of the two errors."""
    both = np.unique(np.concatenate([unlearned_M, retrained_M]))
    best = 0.0
    for threshold in (both[1:] + both[:-1]) / 2:
        for sign in (1.0, -1.0):
            false_positive = float((sign * retrained_M > sign * threshold).mean())
            false_negative = float((sign * unlearned_M <= sign * threshold).mean())
            if false_positive == 0 and false_negative == 0:
                return float("inf")
            for error, other in ((false_positive, false_negative), (false_negative, false_positive)):
                if error > 0 and 1 - delta - other > 0:
                    best = max(best, float(np.log((1 - delta - other) / error)))
    return best


def _roc(ratio_WS: Floats, exposed_WS: Bools) -> Roc:
    return Roc.of(ratio_WS[exposed_WS], ratio_WS[~exposed_WS])


def compare_membership(
    attacked: Membership, null: Membership, *, claim: float | None, target: str, seed: int
) -> Report:
    """Unlearned models beside the retrain-against-retrain null, in which nobody was ever exposed.

    The verdict is ``held`` when the interval of the area under the curve reaches the null's or a coin's, and the
    bound of epsilon is at most the claim.

    Args:
        attacked: of released models after deletions.
        null: of as many models that were trained without the channels, under the same names of who was exposed.
        claim: epsilon at the bound's delta; None where none is claimed, and the area alone decides.
        target: what is attacked, for people.
        seed: of the worlds.
    """
    # of one person or two, ratios of the null lie far below a coin's: being above those is no success
    told = attacked.auc.low > max(0.5, null.auc.high) or (claim is not None and attacked.epsilon > claim)
    rows = [
        ("area under the curve", attacked.auc),
        ("the same of the null", null.auc),
        *((f"true positives at {fpr:.1%} false ones", rate) for fpr, rate in attacked.true_at.items()),
        *((f"true positives of the null at {fpr:.1%}", rate) for fpr, rate in null.true_at.items()),
    ]
    estimates = [Estimate(name, rate.value, rate.low, rate.high, attacked.confidence) for name, rate in rows]
    bound = Estimate("lower bound of epsilon", attacked.epsilon, low=attacked.epsilon, confidence=attacked.confidence)
    return Report(
        attack="membership",
        target=target,
        question="Does the model tell whose channel was withdrawn from whose was never there?",
        verdict="broken" if told else "held",
        estimates=(*estimates, bound),
        claim=0.5,
        trials=attacked.worlds * attacked.people,
        seed=seed,
        seconds=0.0,
        details={"worlds": attacked.worlds, "people": attacked.people, "epsilon_claimed": claim},
    )
