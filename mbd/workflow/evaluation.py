"""How well a model answers for every availability pattern, and what it says about single rows.

Suppressed channels are taken out before anything is read, whatever the cohort holds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from mbd.cohort.cohort import Cohort, Split, Task
from mbd.cohort.modality import Modality, pattern_name
from mbd.cohort.piecewise import PiecewiseCohort
from mbd.cohort.suppression import drop_suppressed
from mbd.errors import CohortError
from mbd.lattice.model import LatticeModel
from mbd.metrics.sentiment import evaluate

Suppressed = Callable[[str, Modality], bool]


class Channel(StrEnum):
    """How a prediction came by a channel."""

    PRESENT = "present"
    RECONSTRUCTED = "reconstructed"
    """Made up from the others, by a network that has a generator."""

    SUPPRESSED = "suppressed"
    ABSENT = "absent"


@dataclass(frozen=True)
class RowPrediction:
    """One row's answer.

    Attributes:
        clip: whose it is, to its owner.
        pattern: the head that answered, for example ``tv``; empty when no channel was left to answer from.
        channels: how each modality that the model knows was come by.
        output: the score, or the class with the largest output; None when no channel was left.
    """

    clip: str
    pattern: str
    channels: dict[str, Channel]
    output: float | str | None


def metrics_by_pattern(
    model: LatticeModel, cohort: PiecewiseCohort, suppressed: Suppressed
) -> dict[str, dict[str, float]]:
    """Metrics on the test rows for every availability pattern that still has a head.

    For a pattern, each row keeps the channels of the pattern that it has; a row that has none is left out and counted
    nowhere (``rows`` says how many remain).

    Raises:
        CohortError: the cohort has no test rows.
    """
    test = drop_suppressed(cohort.where(split=Split.TEST), suppressed)
    if not len(test):
        raise CohortError("The cohort has no test rows.", remedy="give some subjects the split 'test'")
    table = {}
    for pattern in model.layout.patterns:
        rows = test.restrict(pattern)
        if len(rows):
            outputs = model.predict(rows).outputs_NK
            table[pattern_name(pattern)] = {"rows": len(rows), **evaluate(rows.targets, outputs, model.task)}
    return table


def predict_rows(model: LatticeModel, cohort: Cohort, suppressed: Suppressed) -> list[RowPrediction]:
    """Each row's answer, and how each channel was come by.

    Raises:
        CohortError: the cohort's channels are not those that the model was trained on.
    """
    _require_same_channels(model, cohort)
    known = tuple(model.featurizer.backbone.interface.channels)
    generates = model.featurizer.backbone.generates and model.layout.embedding > 0
    answers = []
    allowed = drop_suppressed(cohort, suppressed)
    kept = {row.clip: j for j, row in enumerate(allowed.rows)}
    predictions = model.predict(allowed)
    for row in cohort.rows:
        j = kept.get(row.clip)
        pattern = predictions.patterns[j] if j is not None else frozenset()
        channels = {
            m.value: Channel.SUPPRESSED
            if m not in model.layout.modalities or suppressed(row.subject, m)
            else Channel.PRESENT
            if m in pattern
            else Channel.RECONSTRUCTED
            if generates and pattern
            else Channel.ABSENT
            for m in known
        }
        output = _answer(model.task, predictions.outputs_NK[j]) if j is not None and pattern else None
        answers.append(RowPrediction(row.clip, pattern_name(pattern), channels, output))
    return answers


def _answer(task: Task, output_K: np.ndarray) -> float | str:
    return float(output_K[0]) if task.kind == "regression" else task.classes[int(output_K.argmax())]


def _require_same_channels(model: LatticeModel, cohort: Cohort) -> None:
    for modality, shape in model.featurizer.backbone.interface.channels.items():
        channel = cohort.channels.get(modality)
        if channel is not None and channel.dim != shape.dim:
            raise CohortError(
                f"The cohort's {modality} has {channel.dim} features; the model was trained on {shape.dim}.",
                remedy="extract the features as for the training cohort (`mbd data describe` names the extractor)",
            )
