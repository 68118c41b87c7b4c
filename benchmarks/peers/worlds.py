"""Worlds: the same people each time, half of whom gave their voice and withdraw it, while the others never did.

What is left, D', is the same in every world of a request. So models after a deletion that were exposed to a person can
be held against models that never were, and retrained models of different worlds show what a seed alone changes.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from benchmarks.cohorts import cohorts
from benchmarks.peers.setting import Setting, Stopwatch
from mbd.cohort.cohort import EVERYONE, Cohort, Pair, Partition, Split
from mbd.cohort.modality import Modality
from mbd.lattice.fit import fit_lattice
from mbd.lattice.model import LatticeModel
from mbd.lattice.release import ReleasePolicy
from mbd.privacy.noise import NoiseSource
from mbd.training.loop import train
from mbd.training.recipe import Recipe

Request = Literal["people", "everyone"]
"""Some people's voices, or the voice of all people who can withdraw."""

VOICE = Modality.AUDIO

NETWORK = Recipe(epochs=20, batch_size=64, trains_on="everyone")
"""Of the network that everybody's rows shape: nearly as good as the shipped recipes in a fourth of the steps."""

PUBLIC = replace(NETWORK, trains_on="public")
"""The same network for the heads, trained on public people."""


@dataclass(frozen=True)
class World:
    """One world of one request.

    Attributes:
        seed: of everything random in it.
        whole: the cohort in which everybody has given everything; what is read of it is other than D only in voices.
        targets: the people whose exposure is in question.
        members: those of them whose voice is in D.
        setting: what the methods are given.
    """

    seed: int
    whole: Cohort
    targets: tuple[str, ...]
    members: frozenset[str]
    setting: Setting


def make_world(name: str, request: Request, seed: int) -> World:
    """A world with its own draw of members, of initial weights and of noise."""
    _, _, whole = next(cohorts(name))
    targets = tuple(
        dict.fromkeys(
            row.subject
            for i, row in enumerate(whole.rows)
            if (row.partition, row.split) == (Partition.REVOCABLE, Split.TRAIN) and VOICE in whole.present(i)
        )
    )
    if request == "everyone":
        members, cohort = frozenset(targets), whole
        pairs: frozenset[Pair] = frozenset({(EVERYONE, VOICE)})
    else:
        drawn = np.random.default_rng([seed, 1]).permutation(len(targets))
        members = frozenset(targets[i] for i in drawn[: len(targets) // 2])
        cohort = whole.without((person, VOICE) for person in targets if person not in members)
        pairs = frozenset((person, VOICE) for person in members)
    watch = Stopwatch()
    with watch.running():
        network = train(NETWORK, cohort, seed=seed, partitions=tuple(Partition)).backbone
    noise = NoiseSource(hashlib.sha256(f"a benchmark's noise is no secret {name} {request} {seed}".encode()).digest())
    setting = Setting(
        cohort=cohort,
        pairs=pairs,
        seed=seed,
        recipe=NETWORK,
        network=network,
        network_seconds=watch.seconds,
        model=our_line(cohort, seed, noise),
        noise=noise,
    )
    return World(seed, whole, targets, members, setting)


def our_line(cohort: Cohort, seed: int, noise: NoiseSource) -> LatticeModel:
    """Public backbone, statistics of all training rows, released heads, at the constants that we ship."""
    backbone = train(PUBLIC, cohort, seed=seed).backbone
    return fit_lattice(
        backbone,
        cohort,
        policy=ReleasePolicy(),
        noise=noise,
        purpose=f"benchmark/{seed}",
        salt=hashlib.sha256(f"salt {seed}".encode()).digest(),
    )


def by_person(rows: Cohort, people: tuple[str, ...]) -> Mapping[str, list[int]]:
    """The positions of each person's training rows that have a voice."""
    return {
        person: [i for i in rows.rows_of[person] if rows.rows[i].split is Split.TRAIN and VOICE in rows.present(i)]
        for person in people
    }
