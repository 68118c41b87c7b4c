"""Tell a release after a deletion from a release that never saw the data: the strongest attack on noised heads.

The adversary knows both solutions, learns the noise's scale from releases of its own, and judges fresh ones by their
likelihood ratio. What comes out is a lower bound of mu that holds with a stated confidence; a sound claim is never
below it. Worst cases are built, not waited for: a history that leaves each solution as far from the exact one as tau
permits, in opposite directions. It releases through the production code and knows no certificate.

Source: Dong, Roth and Su 2022 (section 2); Nasr et al. 2023 (bounds of mu from counts).
Legend: D coordinates, K outputs, N releases.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from mbd.attacks.bounds import best_threshold, hits_above
from mbd.attacks.report import Estimate, Report
from mbd.cohort.cohort import Cohort
from mbd.cohort.modality import ModalitySet, pattern_name
from mbd.deletion.lattice import downdated
from mbd.deletion.outcome import Revocation
from mbd.errors import AttackError
from mbd.lattice.cross_entropy import HeadRows
from mbd.lattice.model import LatticeModel
from mbd.lattice.release import (
    Head,
    ReleasePolicy,
    Unhidden,
    normal_equations,
    release_grid,
    residual_bound,
    solve_head,
    solve_heads,
)
from mbd.lattice.statistics import Statistics
from mbd.privacy.gaussian import compose, epsilon_of
from mbd.privacy.noise import NoiseSource

FloatArray = NDArray[np.float64]

History = Literal["real", "flattest", "dense", "one-sided"]
"""What the heads were before: as they really were; or as far from the solution as tau permits, along the direction in
which that is furthest, or along one that moves every coordinate, the comparator as far on the other side; or flattest
for the deletion alone, while the comparator solves from nothing."""

HISTORIES: tuple[History, ...] = ("real", "flattest", "dense", "one-sided")

CONFIDENCE = 0.999
"""That a bound holds. Many are computed, in tests as well, and a sound claim should hardly ever seem broken."""

_CLOSE = 1 - 1e-6  # of tau: the furthest point that the certified bound still accepts
_SIGNIFICANT = 6.0  # standard errors by which a measured scale must miss the stated one to be believed


class Arms(NamedTuple):
    """What is to be told apart: un-noised solutions of the same heads, secrets that only an auditor holds.

    Attributes:
        unlearned: after the deletion.
        never: of the comparator, which never saw what is withdrawn.
        claim: the mu that the mechanism states for one of these heads.
    """

    unlearned: Unhidden
    never: Unhidden
    claim: float


def loud(policy: ReleasePolicy) -> ReleasePolicy:
    """The same policy with a mu of 1 a head: what some thousand releases can decide. A line's own mu is far smaller."""
    return replace(policy, epsilon=epsilon_of(math.sqrt(policy.heads), policy.delta))


def deletion_arms(
    model: LatticeModel, cohort: Cohort, revocation: Revocation, *, history: History, policy: ReleasePolicy, seed: int
) -> Arms:
    """The heads that a deletion releases again, beside those that the comparator releases.

    Args:
        model: the version before.
        cohort: D.
        revocation: what is withdrawn: of a canary, if the worst is wanted.
        history: where the deletion starts; of no account where the mechanism solves from nothing.
        policy: the line's own, or a loud one.
        seed: of the direction that moves every coordinate.

    Raises:
        AttackError: the deletion releases no head again.
        NotCertifiedError: a head's residual stays above tau.
    """
    down = downdated(model, cohort, revocation, spent=[])
    if not down.changed:
        raise AttackError(
            "This deletion releases no head again: there is no noise to attack.",
            remedy="attack a withdrawal of a channel that training rows of the person have",
        )
    kept, statistics = down.kept, down.statistics
    needs_rows = policy.loss == "cross-entropy"
    rows = kept.featurizer.head_rows(down.after, salt=bytes(32)) if needs_rows else None
    everything = replace(kept, policy=policy, statistics=statistics)
    start: Mapping[ModalitySet, Head] | None = None
    other: Mapping[ModalitySet, Head] | None = None
    if not down.towers.dropped and statistics.rows > policy.exact_rows:  # else the engine solves from nothing
        start, other = _starts(everything, down.changed, history, seed=seed, rows=rows)
    commitment = statistics.commitment(bytes(32))
    unlearned = solve_heads(
        kept.layout, statistics, down.changed, policy=policy, commitment=commitment, start=start, rows=rows
    )
    # the comparator trains all heads of the line, whatever the deletion touches
    never = solve_heads(
        kept.layout, statistics, kept.layout.patterns, policy=policy, commitment=commitment, start=other, rows=rows
    )
    return Arms(unlearned, never, policy.head_mu)


def audit_release(
    arms: Arms,
    patterns: Sequence[ModalitySet],
    *,
    noise: NoiseSource,
    releases: int,
    target: str,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    on_progress: Callable[[float], None] = lambda done: None,
) -> Report:
    """Release both arms many times and bound, from below, how well the best test tells them apart.

    Args:
        arms: what to tell apart.
        patterns: the heads that the adversary sees together.
        noise: any stream; an auditor's own.
        releases: of each arm, at least 1,000. A quarter teaches the adversary the scales, a quarter the threshold, and
            the rest is judged.
        target: what is attacked, for people.
        seed: what noise and histories were made from, for the report.
        confidence: of the bound.
        on_progress: told the finished fraction.

    Raises:
        AttackError: too few releases, or a head that is not in both arms.
    """
    if releases < 1000:
        raise AttackError(
            f"{releases} releases an arm bound nothing that anyone would state.", remedy="ask for at least 1,000"
        )
    if missing := [p for p in patterns if p not in arms.unlearned.solved or p not in arms.never.solved]:
        names = ", ".join(map(pattern_name, missing))
        raise AttackError(f"The heads {names} are not in both arms.", remedy="choose heads that were released again")
    started = time.process_time()
    pair = [_Arm(unhidden, patterns, noise) for unhidden in (arms.unlearned, arms.never)]
    quarter, total = releases // 4, 2 * releases
    scales: list[FloatArray] = []
    done = 0
    for arm in pair:
        deviation_Q = np.zeros(arm.width)
        for i in range(quarter):
            deviation_Q += np.square(arm.draw(i) - arm.mean_Q)
            done += 1
            _tell(on_progress, done, total)
        scales.append(_believed(np.sqrt(deviation_Q / quarter), arm.sigma_Q, quarter))
    score = _likelihood_ratio(pair, scales)
    scores: list[FloatArray] = []
    for arm in pair:
        mine = np.empty(releases - quarter)
        for i in range(quarter, releases):
            mine[i - quarter] = score(arm.draw(i))
            done += 1
            _tell(on_progress, done, total)
        scores.append(mine)
    (teach_1, judge_1), (teach_0, judge_0) = ((mine[:quarter], mine[quarter:]) for mine in scores)
    threshold = best_threshold(teach_1, teach_0, confidence=confidence)
    found = hits_above(judge_1, judge_0, threshold).mu(confidence)
    claim = compose([arms.claim] * len(patterns))
    repeated = sum(len(arm.seen) for arm in pair) - len(pair[0].seen | pair[1].seen) + pair[0].again + pair[1].again
    off_grid = pair[0].off_grid + pair[1].off_grid
    distance_Q = (pair[0].mean_Q - pair[1].mean_Q) / pair[1].sigma_Q
    return Report(
        attack="distinguishing",
        target=target,
        question="Can a release after the deletion be told from one that never saw the data, beyond what is claimed?",
        verdict="broken" if found > claim or repeated or off_grid else "held",
        estimates=(
            Estimate("lower bound of mu", found, low=found, confidence=confidence),
            Estimate("distance of the two solutions, in stated standard deviations", float(np.linalg.norm(distance_Q))),
            Estimate("noise that was drawn twice", float(repeated)),
            Estimate("numbers off the public grid", float(off_grid)),
        ),
        claim=claim,
        trials=2 * releases,
        seed=seed,
        seconds=time.process_time() - started,
        details={
            "heads": [pattern_name(p) for p in patterns],
            "coordinates": pair[0].width,
            "releases_an_arm": releases,
            "coordinates_with_another_scale_than_stated": [
                int((scale_Q != arm.sigma_Q).sum()) for scale_Q, arm in zip(scales, pair, strict=True)
            ],
        },
    )


class _Arm:
    """One arm's heads as one vector, and its releases by number."""

    def __init__(self, unhidden: Unhidden, patterns: Sequence[ModalitySet], noise: NoiseSource) -> None:
        self._patterns, self._noise = patterns, noise
        self._unhidden = replace(unhidden, solved={p: unhidden.solved[p] for p in patterns})
        self.mean_Q = np.concatenate([unhidden.solved[p].weights_DK.ravel() for p in patterns])
        self.width = len(self.mean_Q)
        # what the mechanism states; a bug may draw other noise
        self.sigma_Q = np.full(self.width, unhidden.sigma)
        self._grid = release_grid(unhidden.sigma)
        self.seen: set[bytes] = set()
        self.again = self.off_grid = 0

    def draw(self, number: int) -> FloatArray:
        """Release ``number`` [Q]. Both arms take the same purposes: their noise must differ all the same."""
        heads = self._unhidden.release(f"audit/{number}", self._noise).heads
        released_Q = np.concatenate([heads[p].weights_DK.ravel() for p in self._patterns])
        steps_Q = released_Q / self._grid
        self.off_grid += int((steps_Q != np.rint(steps_Q)).sum())
        stream = (released_Q - self.mean_Q)[:8].tobytes()
        self.again += stream in self.seen
        self.seen.add(stream)
        return released_Q


def _believed(measured_Q: FloatArray, stated_Q: FloatArray, releases: int) -> FloatArray:
    """The scales that the adversary goes by: the stated ones, except where releases clearly show others."""
    error = _SIGNIFICANT / math.sqrt(2 * releases)
    floor = stated_Q * 2.0**-20  # no noise at all would divide by zero
    return np.where(np.abs(measured_Q / stated_Q - 1) > error, np.maximum(measured_Q, floor), stated_Q)


def _likelihood_ratio(pair: Sequence[_Arm], scales: Sequence[FloatArray]) -> Callable[[FloatArray], float]:
    """Log p(x | unlearned) - log p(x | never) of Gaussians with these means and scales."""
    (one, zero), (one_Q, zero_Q) = pair, scales
    constant = float(np.log(zero_Q / one_Q).sum())
    if np.array_equal(one_Q, zero_Q):  # the squares cancel, and so would their digits
        weight_Q = (one.mean_Q - zero.mean_Q) / np.square(one_Q)
        middle_Q = (one.mean_Q + zero.mean_Q) / 2
        return lambda x_Q: float(weight_Q @ (x_Q - middle_Q))

    def score(x_Q: FloatArray) -> float:
        near = np.square((x_Q - one.mean_Q) / one_Q).sum()
        far = np.square((x_Q - zero.mean_Q) / zero_Q).sum()
        return constant + 0.5 * float(far - near)

    return score


def _starts(
    model: LatticeModel, changed: Sequence[ModalitySet], history: History, *, seed: int, rows: HeadRows | None
) -> tuple[Mapping[ModalitySet, Head], Mapping[ModalitySet, Head] | None]:
    """Released heads to start the deletion from, and the comparator."""
    if history == "real":
        return {p: model.heads[p] for p in changed}, None
    if rows is not None:
        raise AttackError(
            "Worst histories are built from a head's own matrix, and cross-entropy heads have none.",
            remedy="attack cross-entropy heads with their real history",
        )
    one: dict[ModalitySet, Head] = {}
    zero: dict[ModalitySet, Head] = {}
    for pattern in model.layout.patterns:
        for sign, side in ((1.0, one), (-1.0, zero)):
            weights_DK = worst_start(model, model.statistics, pattern, history, sign=sign, seed=seed)
            side[pattern] = Head(weights_DK, 1.0, model.policy.head_mu, "a history that nobody had")
    return one, None if history == "one-sided" else zero


def worst_start(
    model: LatticeModel, statistics: Statistics, pattern: ModalitySet, history: History, *, sign: float, seed: int
) -> FloatArray:
    """Weights [D, K] whose certified residual is hardly below tau: the solver takes them as they are."""
    layout, policy = model.layout, model.policy
    solution_DK = solve_head(layout, statistics, pattern, policy=policy).weights_DK
    matrix_DD, _ = normal_equations(layout, statistics, pattern)
    if history != "dense":
        direction_D = np.linalg.eigh(matrix_DD)[1][:, 0]
        direction_DK = np.zeros_like(solution_DK)
        direction_DK[:, 0] = direction_D
    else:
        signs_DK = np.random.default_rng(seed).choice([-1.0, 1.0], size=solution_DK.shape)
        direction_DK = cho_solve(cho_factor(matrix_DD), signs_DK)
    direction_DK *= sign * policy.tau / np.linalg.norm(matrix_DD @ direction_DK)
    low, high = 0.0, 1.0
    for _ in range(30):  # rounding takes its share of tau: find what is left
        middle = (low + high) / 2
        bound = residual_bound(layout, statistics, pattern, solution_DK + middle * direction_DK, policy=policy)
        low, high = (middle, high) if bound <= _CLOSE * policy.tau else (low, middle)
    return np.asarray(solution_DK + low * direction_DK)


def _tell(on_progress: Callable[[float], None], done: int, total: int) -> None:
    if done % 500 == 0:
        on_progress(done / total)
