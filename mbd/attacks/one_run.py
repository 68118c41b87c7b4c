"""Audit a private training in a single run: many canary people, each in it by the toss of a coin.

The attacker, who sees the initial and the released weights, guesses who was in. If the run is (epsilon, delta)-private
for one person, more right guesses than a certain number are unlikely; that gives a lower bound of epsilon. The training
is the production code. It knows no certificate.

Source: Steinke, Nasr and Jagielski 2023, "Privacy auditing with one (1) training run", Theorem 5.2.
Legend: M canaries, P parameters, F features of a canary.
"""

import time
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binom

from mbd.attacks.report import Estimate, Report
from mbd.cohort.cohort import Channel, Cohort, Feature, Partition, Row, Split, Task
from mbd.cohort.modality import Modality
from mbd.errors import AttackError
from mbd.privacy.accounting import epsilon_of
from mbd.privacy.noise import NoiseSource
from mbd.training.private import by_subject, subject_gradient, train_private_tower
from mbd.training.tower import only_channel, train_headed
from mbd.training.tower_recipe import PrivateRecipe

CANARIES = 1024
"""People of one audit: enough to see a tenth of the noise at a claim of 1."""

CONFIDENCE = 0.999
"""That the bound holds."""

_GUESSED = 0.25
"""The share of canaries that is guessed, half of it in and half out, settled before anyone looks."""

_LOUD = 30.0  # in standard deviations of public features: nearly all of a canary's gradient is its own column
_MOST_EPSILON = 50.0


def one_run_epsilon(right: int, guesses: int, canaries: int, *, delta: float, confidence: float = CONFIDENCE) -> float:
    """The largest epsilon that so many right guesses refute at this confidence, to three digits; at least 0.

    Args:
        right: guesses that were right.
        guesses: how many were made.
        canaries: M, guessed or not.
        delta: of the claim.
        confidence: of the refutation.

    Raises:
        AttackError: the counts are impossible.
    """
    if not 0 <= right <= guesses <= canaries or not guesses:
        raise AttackError(
            f"{right} right guesses of {guesses} on {canaries} canaries cannot be.",
            remedy="give right <= guesses <= canaries, and at least one guess",
        )
    low, high = 0.0, _MOST_EPSILON
    if _chance(right, guesses, canaries, 0.0, delta) > 1 - confidence:
        return 0.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        refuted = _chance(right, guesses, canaries, middle, delta) <= 1 - confidence
        low, high = (middle, high) if refuted else (low, middle)
    return low


def _chance(right: int, guesses: int, canaries: int, epsilon: float, delta: float) -> float:
    """The most likely that so many guesses, or more, are right, if the run is (epsilon, delta)-private."""
    success = 1 / (1 + np.exp(-epsilon))
    tail = binom.sf(np.arange(right, -1, -1) - 1, guesses, success)  # P[W >= right - i], i = 0, 1, ...
    steps = np.arange(1, len(tail))
    slope = float(((tail[1:] - tail[0]) / steps).max()) if len(steps) else 0.0
    return min(float(tail[0]) + 2 * canaries * delta * slope, 1.0)


def at_canary_scale(recipe: PrivateRecipe, canaries: int) -> PrivateRecipe:
    """The same private run (rate, noise, steps, clip) of a tower that canaries' gradients move without turning."""
    start = replace(recipe.start, width=4, epochs=0)
    return replace(recipe, start=start, subjects=canaries, learning_rate=1e-4, momentum=0.0)


def audit_private_training(
    recipe: PrivateRecipe, *, canaries: int, noise: NoiseSource, seed: int, delta: float = 1e-5
) -> Report:
    """Train one tower on canaries whose gradients do not touch each other, and guess who was in.

    Args:
        recipe: of the tower; with few public epochs and a small learning rate gradients keep their directions.
        canaries: M; each is one person with one row, along an axis of its own.
        noise: the stream of the run.
        seed: of the coins and of public rows.
        delta: that claim and bound are stated at.

    Raises:
        AttackError: too few canaries.
    """
    if canaries < 16:
        raise AttackError(f"{canaries} canaries decide nothing.", remedy="take at least 16, better some hundred")
    started = time.process_time()
    everybody = _people(recipe.modality, canaries, seed)
    is_in_M = np.random.default_rng([seed, 1]).random(canaries) < 0.5
    there = everybody.select(
        [i for i, row in enumerate(everybody.rows) if row.partition is Partition.PUBLIC or is_in_M[_number(row)]]
    )
    released = train_private_tower(recipe, there, noise=noise, purpose="one-run audit", seed=seed).tower
    public = everybody.where(partition=Partition.PUBLIC, split=Split.TRAIN)
    headed = train_headed(recipe.start, public, seed, public=public)
    change_P = _flat(released) - _flat(headed.tower)
    rows = only_channel(everybody.where(partition=Partition.REVOCABLE), recipe.start.modality)
    gradient_MP = np.stack([subject_gradient(headed, batch)[: len(change_P)] for batch in by_subject(rows)])
    # biases and later layers are everybody's: a canary is looked for where it is larger than all others together
    own_MP = np.where(np.abs(gradient_MP) > np.abs(gradient_MP).sum(axis=0) / 2, gradient_MP, 0.0)
    score_M = -(own_MP @ change_P) / np.linalg.norm(own_MP, axis=1)
    half = int(canaries * _GUESSED / 2)
    order = np.argsort(score_M)
    right = int(is_in_M[order[-half:]].sum() + (~is_in_M[order[:half]]).sum())
    found = one_run_epsilon(right, 2 * half, canaries, delta=delta)
    claim = epsilon_of(recipe.run, delta)
    return Report(
        attack="one-run",
        target=f"tower {recipe.names()[0]}",
        question="Do the weights of a private training tell who was in it, beyond what is claimed?",
        verdict="broken" if found > claim else "held",
        estimates=(
            Estimate("lower bound of epsilon", found, low=found, confidence=CONFIDENCE),
            Estimate("share of right guesses", right / (2 * half)),
        ),
        claim=claim,
        trials=canaries,
        seed=seed,
        seconds=time.process_time() - started,
        details={"guesses": 2 * half, "right": right, "delta": delta, "in": int(is_in_M.sum())},
    )


def _people(modality: Modality, canaries: int, seed: int) -> Cohort:
    """Public people with ordinary features, and canaries that are zero but in one column each."""
    rng = np.random.default_rng([seed, 2])
    rows: list[Row] = []
    features: list[Feature] = []
    for n in range(24):
        split = Split.TRAIN if n < 16 else Split.VALID
        rows.append(Row(f"public-{n}", f"public-{n}", float(rng.normal()), Partition.PUBLIC, split))
        # rows in opposite pairs: their mean is zero, and so is what a canary has in other columns after standardisation
        features.append(-features[-1] if n % 2 else rng.normal(size=canaries).astype(np.float32))
    for n in range(canaries):
        rows.append(Row(f"canary-{n}", f"canary-{n}", 3.0, Partition.REVOCABLE, Split.TRAIN))
        features.append((_LOUD * (np.arange(canaries) == n)).astype(np.float32))
    return Cohort(
        name="canaries",
        description="Synthetic: canaries for a one-run audit.",
        synthetic=True,
        task=Task("regression", low=-3.0, high=3.0),
        channels={modality: Channel(modality, "vector", canaries, extractor="synthetic")},
        rows=tuple(rows),
        features={modality: tuple(features)},
    )


def _number(row: Row) -> int:
    return int(row.subject.removeprefix("canary-"))


def _flat(network: torch.nn.Module) -> NDArray[np.float64]:
    return np.concatenate([p.detach().numpy().astype(np.float64).ravel() for p in network.parameters()])
