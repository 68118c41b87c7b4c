"""Worlds of one line: some people gave a channel and withdrew it, the others never gave it; what is left is the same.

Each world is a line made anew, a deletion through the production code, and a line that never had the channels. Models
are looked at and dropped; numbers stay, and three attacks read them: membership, relearning, reconstruction. It knows
no deployment.

Source: Hayes et al. 2024 (the worlds); Golatkar et al. 2020 (relearning).
Legend: W worlds, S people, N rows, D coordinates, K outputs.
"""

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy.special import log_softmax

from mbd.attacks.bounds import Floats
from mbd.attacks.canary import known_noise
from mbd.attacks.membership import (
    LEAST_WORLDS,
    Bools,
    challenge_forgetting,
    compare_membership,
    likelihood_ratio_membership,
)
from mbd.attacks.reconstruction import Reconstruction, compare_reconstructions, reconstruct
from mbd.attacks.relearning import compare_relearning, head_loss, relearn_head
from mbd.attacks.report import Estimate, OnProgress, Report
from mbd.cohort.cohort import Cohort, Partition, Split
from mbd.cohort.modality import Modality, pattern_name
from mbd.deletion import engine
from mbd.deletion.outcome import EntangledMechanism, Outcome, Revocation
from mbd.errors import AttackError
from mbd.lattice.model import LatticeModel
from mbd.privacy.gaussian import epsilon_of
from mbd.privacy.guarantee import Certified, Exact
from mbd.privacy.noise import NoiseSource

DELTA = 1e-5
"""Every epsilon of these attacks is stated at this delta."""


class MakeLine(Protocol):
    """Makes a line on a cohort, as `mbd train` would."""

    def __call__(self, cohort: Cohort, *, noise: NoiseSource, purpose: str, seed: int) -> LatticeModel:
        """The line; with another seed its networks start elsewhere."""


@dataclass(frozen=True)
class World:
    """What an attacker sees in one world.

    Attributes:
        exposed_S: whose channel was in the line, and was deleted.
        before_S, after_S, never_S: how well the line does on each person's rows before the deletion, after it, and
            where nobody's channel was ever there; larger is better.
        epsilon: what the deletion claims at `DELTA`; 0 where it is exact, None where it claims nothing.
        mechanism: of the deletion.
        steps: until the withdrawn rows are learnt again, after the deletion and by a line that never knew them; None
            where nothing was exposed or heads do not have squared loss.
        rebuilt: what the networks after the deletion, and those that never knew the channels, make up for them; None
            where nobody asked.
        seconds: of processor time.
    """

    exposed_S: Bools
    before_S: Floats
    after_S: Floats
    never_S: Floats
    epsilon: float | None
    mechanism: str
    steps: tuple[float, float] | None
    rebuilt: tuple[Reconstruction, Reconstruction] | None
    seconds: float


def look_into_worlds(
    make: MakeLine,
    cohort: Cohort,
    people: Sequence[str],
    modality: Modality,
    *,
    worlds: int,
    seed: int,
    rebuild: bool = False,
    traits: Mapping[str, Floats] | None = None,
    entangled: EntangledMechanism = "retrain",
    spent: Sequence[float] = (),
    on_progress: OnProgress,
) -> list[World]:
    """Make, delete and look, world by world. Each person is exposed in half of the worlds, drawn for each alone.

    Args:
        make: of the attacked line.
        cohort: in which all of the people have given the channel.
        people: who can withdraw it.
        modality: the channel.
        worlds: how many.
        seed: of everything random.
        rebuild: whether networks are asked to make up the channel; they must be `MissingByDesign`.
        traits: what was planted in each person's channel.
        entangled: what the deletion does to a network that everybody's rows shape.
        spent: the mu of earlier releases of the line, which decide what the deletion may still spend.
        on_progress: told the finished fraction.

    Raises:
        AttackError: too few worlds, or nobody to attack.
    """
    if worlds < LEAST_WORLDS or not people:
        raise AttackError(
            f"{worlds} worlds of {len(people)} people are too few for this attack.",
            remedy=f"take at least {LEAST_WORLDS} worlds, and a channel that somebody can withdraw",
        )
    rng = np.random.default_rng([seed, 3])
    exposed_WS = np.stack([rng.permutation(worlds) < worlds // 2 for _ in people], axis=1)
    found = []
    for number, exposed_S in enumerate(exposed_WS):
        on_progress(number / worlds, f"world {number + 1} of {worlds}")
        started = time.process_time()
        leaving = frozenset((person, modality) for person, is_in in zip(people, exposed_S, strict=True) if is_in)
        given = cohort.without((p, modality) for p in people if (p, modality) not in leaving)
        left = given.without(leaving)
        noise = known_noise(seed, number)
        before = make(given, noise=noise, purpose="before", seed=seed + number)
        never = make(left, noise=noise, purpose="never exposed", seed=seed + worlds + number)
        outcome = (
            engine.delete(
                before,
                given,
                Revocation(leaving, "audit"),
                noise=noise,
                occasion="audit/2",
                spent=list(spent),
                salt=before.salt,
                entangled=entangled,
            )
            if leaving
            else None
        )
        after = outcome.model if outcome else make(left, noise=noise, purpose="nobody left", seed=seed + number)
        mine = tuple(person for person, _ in leaving)
        before_S, after_S, never_S = (_scores(model, cohort, people, modality) for model in (before, after, never))
        found.append(
            World(
                exposed_S,
                before_S,
                after_S,
                never_S,
                epsilon=_claimed(outcome),
                mechanism=outcome.mechanism if outcome else "nobody left",
                steps=_relearnt(before, after, never, cohort.of_subjects(mine), modality) if mine else None,
                rebuilt=(
                    _rebuilt(after, never, cohort, people=mine, modality=modality, traits=traits) if rebuild else None
                ),
                seconds=time.process_time() - started,
            )
        )
    return found


def membership_report(worlds: Sequence[World], *, target: str, seed: int, confidence: float) -> Report:
    """Exposed people against people who never were, beside the retrain-against-retrain null.

    Also given: the area under the curve of the same attack before the deletion, which is what it can find; and the
    forgetting score of the NeurIPS 2023 challenge over each person's worlds of exposure, with its null: models that
    never knew anybody, from the worlds of exposure against the others.

    Args:
        worlds: of `look_into_worlds`.
        target: what is attacked, for people.
        seed: of the bootstrap.
        confidence: of bound and intervals.

    Raises:
        AttackError: too few worlds.
    """
    started = time.process_time()
    exposed_WS = np.stack([world.exposed_S for world in worlds])
    before_WS, after_WS, never_WS = (
        np.stack([getattr(world, name) for world in worlds]) for name in ("before_S", "after_S", "never_S")
    )
    attacked, null, undeleted = (
        likelihood_ratio_membership(scores_WS, exposed_WS, delta=DELTA, seed=seed, confidence=confidence)
        for scores_WS in (after_WS, never_WS, before_WS)
    )
    claims = [world.epsilon for world in worlds]
    claim = None if None in claims else max(epsilon for epsilon in claims if epsilon is not None)
    report = _of_worlds(worlds, compare_membership(attacked, null, claim=claim, target=target, seed=seed), started)
    people = range(exposed_WS.shape[1])
    unlearned, retrained = ([s_WS[exposed_WS[:, n], n] for n in people] for s_WS in (after_WS, never_WS))
    others = [never_WS[~exposed_WS[:, n], n] for n in people]
    area = undeleted.auc
    more = (
        Estimate("area under the curve before the deletion", area.value, area.low, area.high, confidence),
        Estimate("forgetting score of the NeurIPS 2023 challenge", challenge_forgetting(unlearned, retrained)),
        Estimate("the same of the null", challenge_forgetting(others, retrained)),
    )
    return replace(report, estimates=(*report.estimates, *more))


def relearning_report(worlds: Sequence[World], *, target: str, seed: int, confidence: float) -> Report:
    """Steps until withdrawn rows are learnt again, beside those of lines that never knew them.

    Raises:
        AttackError: fewer than three worlds in which something could be learnt again.
    """
    started = time.process_time()
    pairs = [world.steps for world in worlds if world.steps is not None]
    after, never = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    report = compare_relearning(after, never, target=target, seed=seed, confidence=confidence)
    return _of_worlds(worlds, report, started)


def reconstruction_report(worlds: Sequence[World], *, target: str, seed: int, confidence: float) -> Report:
    """What networks make up for withdrawn channels, beside networks that never saw them.

    Raises:
        AttackError: fewer than three worlds in which networks were asked.
    """
    started = time.process_time()
    pairs = [world.rebuilt for world in worlds if world.rebuilt is not None]
    after, never = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    report = compare_reconstructions(after, never, target=target, seed=seed, confidence=confidence)
    return _of_worlds(worlds, report, started)


def _of_worlds(worlds: Sequence[World], report: Report, started: float) -> Report:
    """The report with the worlds' time, and without a verdict where a deletion claimed nothing that could be broken."""
    seconds = sum(world.seconds for world in worlds) + time.process_time() - started
    claimed = all(world.epsilon is not None for world in worlds)
    details = {**report.details, "mechanisms": sorted({world.mechanism for world in worlds})}
    return replace(report, seconds=seconds, verdict=report.verdict if claimed else "measured", details=details)


def _claimed(outcome: Outcome | None) -> float | None:
    if outcome is None or isinstance(outcome.guarantee, Exact):
        return 0.0
    return epsilon_of(outcome.guarantee.mu, DELTA) if isinstance(outcome.guarantee, Certified) else None


def _rows(cohort: Cohort, people: Sequence[str], modality: Modality) -> Cohort:
    """The training rows of these people that have the channel."""
    mine = cohort.where(partition=Partition.REVOCABLE, split=Split.TRAIN).of_subjects(people)
    return mine.select([i for i in range(len(mine)) if modality in mine.present(i)])


def _scores(model: LatticeModel, cohort: Cohort, people: Sequence[str], modality: Modality) -> Floats:
    """Minus the mean loss on each person's rows [S]: with all channels, and with this one alone."""
    rows = _rows(cohort, people, modality)
    alone = frozenset({modality})
    looks = [rows, rows.restrict(alone)] if alone in model.heads else [rows]
    losses_N = []
    for some in looks:
        outputs_NK = model.predict(some).outputs_NK
        if model.policy.loss == "cross-entropy":
            losses_N.append(-(log_softmax(outputs_NK, axis=1) * rows.targets).sum(axis=1))
        else:
            losses_N.append(np.square(outputs_NK - rows.targets).mean(axis=1))
    loss_N = np.mean(losses_N, axis=0)
    return np.array([-loss_N[list(rows.rows_of[person])].mean() for person in people])


def _relearnt(
    before: LatticeModel, after: LatticeModel, never: LatticeModel, rows: Cohort, modality: Modality
) -> tuple[float, float] | None:
    """Steps of the smallest head that reads the channel: on the features of its own network, if these differ."""
    readers = [pattern for pattern in after.heads if modality in pattern]
    rows = _rows(rows, rows.subjects, modality)
    readers = [pattern for pattern in readers if all(pattern <= rows.present(i) for i in range(len(rows)))]
    if not readers or before.policy.loss != "squared":
        return None
    head = min(readers, key=lambda pattern: (len(pattern), pattern_name(pattern)))
    everything = range(len(rows))
    known_ND = before.featurizer.head_inputs(rows, everything, head)
    target = head_loss(before.heads[head].weights_DK, known_ND, rows.targets)
    after_steps, never_steps = (
        relearn_head(
            model.heads[head].weights_DK,
            model.featurizer.head_inputs(rows, everything, head),
            rows.targets,
            target=target,
        )
        for model in (after, never)
    )
    return after_steps, never_steps


def _rebuilt(
    after: LatticeModel,
    never: LatticeModel,
    cohort: Cohort,
    *,
    people: Sequence[str],
    modality: Modality,
    traits: Mapping[str, Floats] | None,
) -> tuple[Reconstruction, Reconstruction] | None:
    """What both networks make up; None where a few people, or rows without other channels, give nothing to go by."""
    # a line's network computes in float64 and keeps its weights; the attacker runs it as it was trained
    one, two = (copy.deepcopy(model.featurizer.backbone).float() for model in (after, never))
    try:
        return (
            reconstruct(one, cohort, people, modality, traits=traits),
            reconstruct(two, cohort, people, modality, traits=traits),
        )
    except AttackError:
        return None
