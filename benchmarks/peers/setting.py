"""What every method is given, and what it gives back. It knows no method.

Two families start from the same rows and the same backbone architecture (Missing-by-Design):

- ``network``: the network was trained on everybody's rows, so what is withdrawn sits in all of its weights.
- ``heads``: the network was trained on public people alone and stays; convex heads on its features know everybody.

Legend: N rows, D coordinates, K outputs.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mbd.backbones.base import Backbone
from mbd.cohort.batch import make_batch
from mbd.cohort.cohort import Cohort, Pair
from mbd.cohort.modality import ModalitySet
from mbd.lattice.featurizer import Featurizer
from mbd.lattice.fit import training_rows
from mbd.lattice.model import LatticeModel
from mbd.privacy.noise import NoiseSource
from mbd.training.recipe import Recipe

FloatArray = NDArray[np.float64]

DELTA = 1e-5
"""Every epsilon of the comparison is stated at this delta."""

EPSILON = 1.0
"""What methods with a bound of their own are calibrated to, where they can choose."""

Predictor = Callable[[Cohort], FloatArray]
"""Outputs [N, K] for rows, each from the channels that it has."""


@dataclass(frozen=True)
class Setting:
    """One request on one cohort.

    Attributes:
        cohort: D, all splits.
        pairs: what is withdrawn.
        seed: of everything random; another one in every world.
        recipe: of the network that everybody's rows shape.
        network: trained on all training rows of D by this recipe and seed, in evaluation mode. Change a copy.
        network_seconds: what that training took.
        model: our line on D: public backbone, exact statistics, released heads.
        noise: the committed stream of this world.
    """

    cohort: Cohort
    pairs: frozenset[Pair]
    seed: int
    recipe: Recipe
    network: Backbone
    network_seconds: float
    model: LatticeModel
    noise: NoiseSource

    @cached_property
    def after(self) -> Cohort:
        """D', all splits."""
        return self.cohort.without(self.pairs)

    @cached_property
    def before_rows(self) -> Cohort:
        """The training rows of D."""
        return training_rows(self.cohort)

    @cached_property
    def after_rows(self) -> Cohort:
        """The training rows of D'."""
        return training_rows(self.after)

    @cached_property
    def revoked_rows(self) -> Cohort:
        """The training rows of D that lose a channel or leave, with all that they have in D."""
        kept = {row.clip: self.after_rows.present(i) for i, row in enumerate(self.after_rows.rows)}
        rows = self.before_rows
        changed = [i for i, row in enumerate(rows.rows) if kept.get(row.clip, frozenset()) != rows.present(i)]
        return rows.select(changed)

    def problem(self, rows: Cohort, pattern: ModalitySet) -> "Problem":
        """The convex problem of one availability pattern's head on these rows.

        As the lattice has it: a row takes part with all blocks that it has; those that it lacks are zero.
        """
        phi_ND = self.model.featurizer.head_inputs(rows, range(len(rows)), pattern)
        return Problem(phi_ND, rows.targets, self.model.layout.penalty_D[self.model.layout.coordinates(pattern)])


class Problem(NamedTuple):
    """A strongly convex head: sum over rows of a loss of ``phi w``, and 1/2 w^T diag(penalty) w.

    Attributes:
        phi_ND: features in [-1, 1].
        target_NK: labels: a score, or one-hot classes.
        penalty_D: at least 1.
    """

    phi_ND: FloatArray
    target_NK: FloatArray
    penalty_D: FloatArray


@dataclass(frozen=True)
class Unlearned:
    """A model after a method has dealt with the request.

    Attributes:
        predict: what is released.
        seconds: processor time of the deletion alone: not of what was trained before the request.
        epsilon: what the method claims at `DELTA`; 0 where it is exact, None where it claims nothing.
        network: the network, if there is one, for relearning and reconstruction.
        heads: released weights by availability pattern, if there are any.
        details: whatever is worth knowing, as plain JSON.
    """

    predict: Predictor
    seconds: float
    epsilon: float | None
    network: Backbone | None = None
    heads: Mapping[ModalitySet, FloatArray] | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Peer:
    """A method.

    Attributes:
        name: as in the tables.
        family: what it works on; ``shards`` trains networks of its own.
        source: the paper and its equations.
        deviations: what differs from the paper.
        unlearn: does it.
        reference: whether it is what others are held against: training again without the withdrawn channels.
    """

    name: str
    family: Literal["network", "heads", "shards"]
    source: str
    deviations: tuple[str, ...]
    unlearn: Callable[[Setting], Unlearned]
    reference: bool = False


class Stopwatch:
    """Processor time between entering and leaving, summed over uses."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count what happens in the block."""
        started = time.process_time()
        try:
            yield
        finally:
            self.seconds += time.process_time() - started


def network_outputs(network: Backbone, rows: Cohort) -> FloatArray:
    """Outputs [N, K] of a network for rows, each from the channels that it has."""
    if not len(rows):
        return np.zeros((0, rows.task.outputs))
    with torch.no_grad():
        network.eval()
        parts = [
            network(make_batch(rows, range(start, min(start + 512, len(rows))))).prediction.double().numpy()
            for start in range(0, len(rows), 512)
        ]
    return np.concatenate(parts)


def heads_outputs(featurizer: Featurizer, heads: Mapping[ModalitySet, FloatArray], rows: Cohort) -> FloatArray:
    """Outputs [N, K] of convex heads for rows; zeros in a row that no head can answer."""
    outputs_NK = np.zeros((len(rows), rows.task.outputs))
    in_force = frozenset(featurizer.layout.modalities)
    patterns = [rows.present(i) & in_force for i in range(len(rows))]
    for pattern in dict.fromkeys(p for p in patterns if p in heads):
        mine = [i for i, has in enumerate(patterns) if has == pattern]
        outputs_NK[mine] = featurizer.head_inputs(rows, mine, pattern) @ heads[pattern]
    return outputs_NK
