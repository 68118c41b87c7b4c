"""The comparator: the same named algorithm, the same public constants, run on D' from the start.

It stands beside a deletion so that a person sees the two agree. It releases nothing: its un-noised solutions are for
the eyes of whoever holds D'.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from mbd.cohort.cohort import EVERYONE, Cohort
from mbd.cohort.modality import ModalitySet
from mbd.deletion.lattice import drop_for_everyone
from mbd.deletion.outcome import Revocation
from mbd.lattice.fit import training_rows
from mbd.lattice.model import LatticeModel
from mbd.lattice.release import sensitivity, solve_head
from mbd.lattice.solve import Solution
from mbd.lattice.statistics import Statistics

NOISE_TAIL = 1e-9
"""How seldom honest noise alone passes the radius that `compare` allows it."""


@dataclass(frozen=True)
class Refit:
    """What training on D' from the start gives.

    Attributes:
        statistics: G', c', n' accumulated over D'.
        solutions: the solution of every head, before noise.
    """

    statistics: Statistics
    solutions: Mapping[ModalitySet, Solution]


@dataclass(frozen=True)
class HeadDistance:
    """How far a released head lies from the refit's solution.

    Attributes:
        distance: Frobenius norm of the difference.
        bound: sensitivity plus the radius that holds all but `NOISE_TAIL` of the head's Gaussian.
    """

    distance: float
    bound: float


def refit(model: LatticeModel, cohort: Cohort, revocation: Revocation) -> Refit:
    """Run the line's algorithm on D' from the start.

    Args:
        model: any version of the line from before the deletion, for its public constants only.
        cohort: D.
        revocation: what is withdrawn.
    """
    closure = cohort.closure(revocation.pairs)
    everyone = frozenset(modality for subject, modality in closure if subject == EVERYONE)
    featurizer = drop_for_everyone(model, everyone).featurizer
    after = training_rows(cohort).without(closure)
    statistics = featurizer.statistics(after)
    layout = featurizer.layout
    cross_entropy = model.policy.loss == "cross-entropy"
    rows = featurizer.head_rows(after, salt=model.salt) if cross_entropy else None
    return Refit(
        statistics,
        {p: solve_head(layout, statistics, p, policy=model.policy, rows=rows) for p in layout.patterns},
    )


def compare(model: LatticeModel, reference: Refit) -> dict[ModalitySet, HeadDistance]:
    """Each released head of a model after deletion against the refit's solution."""
    allowance = sensitivity(model.layout, model.policy)
    distances = {}
    for pattern, head in model.heads.items():
        radius = head.sigma * math.sqrt(chi2.isf(NOISE_TAIL, head.weights_DK.size))
        distance = float(np.linalg.norm(head.weights_DK - reference.solutions[pattern].weights_DK))
        distances[pattern] = HeadDistance(distance, allowance + radius)
    return distances
