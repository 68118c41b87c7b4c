"""One network of a benchmark: trained on everybody's training rows, tested under every condition of the plan.

The network answers by itself, without the lattice's heads, and no deletion follows. Its epoch is chosen on validation
rows alone; test rows are read when everything is chosen. Letters: S steps, M channels, N test rows, K outputs.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mbd.backbones.base import Backbone
from mbd.benchmark.cost import milliseconds_a_row, parameters
from mbd.benchmark.plan import Plan, Unit, source_of
from mbd.benchmark.result import Measured, Result
from mbd.cohort.batch import make_batch
from mbd.cohort.cohort import Cohort, Partition, Split, Task
from mbd.cohort.masks import Masks, draw_masks
from mbd.cohort.modality import ModalitySet, parse_pattern
from mbd.cohort.protocols import Protocol, fixed
from mbd.metrics.balance import Contributions, contributions, learning_imbalance
from mbd.metrics.sentiment import coarse_accuracies, evaluate
from mbd.training.data import training_rows
from mbd.training.loop import train

FloatArray = NDArray[np.float64]

_BATCH_ROWS = 256
_TIMED_ROWS = 32
_TRAINING_SHARE = 0.8
"""Of a unit's work, for the progress alone."""


def run_unit(plan: Plan, unit: Unit, cohort: Cohort, *, on_progress: Callable[[float], None]) -> Result:
    """Train and test one network.

    Args:
        plan: whose unit it is.
        unit: which.
        cohort: all rows.
        on_progress: told the finished fraction.

    Raises:
        TrainingError: it cannot be trained on these rows.
    """
    torch.set_num_threads(plan.recipe.threads)
    learning = _Learning()
    trained = train(
        plan.recipe_of(unit.backbone),
        cohort,
        seed=unit.seed,
        partitions=tuple(Partition),
        on_progress=lambda done, most, _: on_progress(_TRAINING_SHARE * done / most),
        on_step=learning.look,
    )
    backbone, test = trained.backbone, cohort.where(split=Split.TEST)
    people = _people(test)
    measured = {}
    conditions = plan.conditions(cohort)
    for n, condition in enumerate(conditions):
        masks = draw_masks(test, condition, unit.seed)
        name = f"{condition.protocol}/{condition.name}"
        measured[name] = _measured(backbone, test, masks, condition.protocol, people)
        on_progress(_TRAINING_SHARE + (1 - _TRAINING_SHARE) * (n + 1) / len(conditions))
    shares = _contributions(backbone, test, training_rows(cohort, tuple(Partition)), unit.seed)
    timed = make_batch(test, range(min(_TIMED_ROWS, len(test))), context=backbone.reads_context)
    return Result(
        backbone=unit.backbone,
        seed=unit.seed,
        source=source_of(unit.backbone),
        parameters=parameters(backbone),
        milliseconds=milliseconds_a_row(backbone, timed),
        epochs=len(trained.transcript.curve),
        chosen_epoch=trained.transcript.chosen_epoch,
        rows=tuple(int(n) for n in people.sum(axis=1)),
        conditions=measured,
        shapley={} if shares is None else {modality.value: phi for modality, phi in shares.shapley.items()},
        mei=None if shares is None else _or_none(shares.mei),
        mli=_or_none(learning.imbalance),
    )


class _Learning:
    """The norms of each modality's gradients, step by step."""

    def __init__(self) -> None:
        self._norms: list[list[float]] = []
        self._sizes: list[int] = []

    def look(self, backbone: Backbone) -> None:
        """Note one step's."""
        names = {modality.value for modality in backbone.interface.channels}
        groups = [group.parameters for group in backbone.parameter_groups() if group.name in names]
        self._sizes = [sum(parameter.numel() for parameter in group) for group in groups]
        self._norms.append([_norm(group) for group in groups])

    @property
    def imbalance(self) -> float:
        """MLI."""
        return learning_imbalance(np.array(self._norms), np.array(self._sizes))


def _norm(group: tuple[nn.Parameter, ...]) -> float:
    return math.sqrt(sum(float(p.grad.square().sum()) for p in group if p.grad is not None))


def predict(backbone: Backbone, rows: Cohort, masks: Masks) -> FloatArray:
    """A network's own answers [N, K] to what masks leave of rows."""
    scales = {m: backbone.standardiser.get_buffer(f"{m.value}_scale").double().numpy() for m in rows.modalities}
    answers = []
    with torch.inference_mode():
        for start in range(0, len(rows), _BATCH_ROWS):
            indices = range(start, min(start + _BATCH_ROWS, len(rows)))
            batch = make_batch(rows, indices, context=backbone.reads_context)
            answers.append(backbone(masks.apply(batch, indices, scales)).prediction.double().numpy())
    return np.concatenate(answers)


def _measured(
    backbone: Backbone, test: Cohort, masks: Masks, protocol: Protocol, people_PN: NDArray[np.bool_]
) -> Measured:
    outputs_NK = predict(backbone, test, masks)
    metrics = evaluate(test.targets, outputs_NK, test.task)
    if test.task.kind == "regression":
        metrics |= coarse_accuracies(test.targets[:, 0], outputs_NK[:, 0])
    errors_P = people_PN @ _errors(test.targets, outputs_NK, test.task)
    finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
    return Measured(protocol.value, masks.digest, finite, tuple(float(error) for error in errors_P))


def _contributions(backbone: Backbone, test: Cohort, training: Cohort, seed: int) -> Contributions | None:
    """Of minus the mean error of the rows that have every channel, so that all subsets are of the same rows.

    None where nobody has every channel.
    """
    complete = test.select(np.flatnonzero(test.presence.all(axis=1)))
    if not len(complete):
        return None
    scores: dict[ModalitySet, float] = {}
    for condition in fixed(complete.modalities):
        outputs_NK = predict(backbone, complete, draw_masks(complete, condition, seed))
        error_N = _errors(complete.targets, outputs_NK, complete.task)
        scores[parse_pattern(condition.name)] = -float(error_N.mean())
    mean_NK = np.broadcast_to(training.targets.mean(axis=0), complete.targets.shape)
    empty = -float(_errors(complete.targets, mean_NK, complete.task).mean())
    return contributions(scores, empty=empty)


def _errors(targets_NK: FloatArray, outputs_NK: FloatArray, task: Task) -> FloatArray:
    """[N]: absolute errors of scores, or 1 where the class is wrong."""
    if task.kind == "regression":
        return np.asarray(np.abs(targets_NK - outputs_NK)[:, 0])
    return np.asarray(targets_NK.argmax(axis=1) != outputs_NK.argmax(axis=1), dtype=np.float64)


def _people(test: Cohort) -> NDArray[np.bool_]:
    """[P, N]: whose row is whose."""
    people = np.zeros((len(test.subjects), len(test)), dtype=np.bool_)
    for person, rows in enumerate(test.rows_of.values()):
        people[person, list(rows)] = True
    return people


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
