"""Sentiment and emotion metrics whose conventions are in their names. It knows arrays, not rows, people or models.

The field reports Acc-2 and F1 in two conventions that differ by points and are often mixed up:
*Has0* splits at ``score >= 0`` and keeps neutral clips; *Non0* drops clips whose true score is exactly 0 and splits at
``score > 0``. Both are given, by name. Their F1 is weighted by true class sizes, as in the field's tables.

Acc-7, Acc-5 and Acc-3 clip scores to the outermost classes and round, as MMSA does for MOSI and MOSEI (its
``Mult_acc_7``, ``Mult_acc_5``, and ``mult_a3``, which it computes and does not report). CH-SIMS has scores from -1 to 1
and other classes, split at .1 and .7; those are not these.
"""

import numpy as np
from numpy.typing import NDArray

from mbd.cohort.cohort import Task
from mbd.errors import MbdError

Floats = NDArray[np.float64]
Classes = NDArray[np.int64]


def evaluate(targets: Floats, predictions: Floats, task: Task) -> dict[str, float]:
    """All metrics of a task.

    Args:
        targets: [n,K], the scores, or one-hot rows.
        predictions: [n,K], predicted scores, or one number a class, of which the largest wins.
        task: decides which metrics apply.

    Returns:
        Fractions and errors by name: ``mae corr acc2_has0 acc2_non0 f1_has0 f1_non0 acc7`` for regression,
        ``accuracy macro_f1`` for classification. A metric that no row counts for (Non0 of neutral clips) is NaN.

    Raises:
        MbdError: the shapes differ, or there is no row.
    """
    if targets.shape != predictions.shape or targets.ndim != 2 or not len(targets):
        raise MbdError(
            f"Targets of shape {targets.shape} cannot be compared with predictions of shape {predictions.shape}.",
            remedy="give two arrays of one shape [rows, outputs] with at least one row",
        )
    if task.kind == "classification":
        return classification_metrics(targets.argmax(axis=1), predictions.argmax(axis=1), classes=len(task.classes))
    return regression_metrics(targets[:, 0], predictions[:, 0])


def regression_metrics(targets: Floats, predictions: Floats) -> dict[str, float]:
    """Metrics of sentiment scores [n] on the scale from -3 to 3."""
    has0_true, has0_predicted = _as_classes(targets >= 0), _as_classes(predictions >= 0)
    counts = targets != 0
    non0_true, non0_predicted = _as_classes(targets[counts] > 0), _as_classes(predictions[counts] > 0)
    return {
        "mae": float(np.abs(targets - predictions).mean()),
        "corr": correlation(targets, predictions),
        "acc2_has0": accuracy(has0_true, has0_predicted),
        "acc2_non0": accuracy(non0_true, non0_predicted),
        "f1_has0": weighted_f1(has0_true, has0_predicted, classes=2),
        "f1_non0": weighted_f1(non0_true, non0_predicted, classes=2),
        "acc7": accuracy(seven_classes(targets), seven_classes(predictions)),
    }


def coarse_accuracies(targets: Floats, predictions: Floats) -> dict[str, float]:
    """``acc5 acc3`` of sentiment scores [n] on the scale from -3 to 3: for tables of the field.

    `evaluate` leaves them out, as they say little beyond ``acc7`` and the two of ``acc2``.
    """
    return {
        "acc5": accuracy(five_classes(targets), five_classes(predictions)),
        "acc3": accuracy(three_classes(targets), three_classes(predictions)),
    }


def classification_metrics(targets: Classes, predictions: Classes, *, classes: int) -> dict[str, float]:
    """Accuracy, and the mean F1 of the classes that occur among targets or predictions."""
    f1, true_counts, predicted_counts = _f1_by_class(targets, predictions, classes)
    occurring = true_counts + predicted_counts > 0
    return {"accuracy": accuracy(targets, predictions), "macro_f1": float(f1[occurring].mean())}


def correlation(targets: Floats, predictions: Floats) -> float:
    """Pearson's correlation; 0 where either side has no variance, since nothing then follows anything."""
    x, y = targets - targets.mean(), predictions - predictions.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    constant = np.ptp(targets) == 0 or np.ptp(predictions) == 0
    return 0.0 if constant or scale == 0 else float(np.clip(x @ y / scale, -1.0, 1.0))


def accuracy(targets: Classes, predictions: Classes) -> float:
    """The share of rows that agree; NaN without rows."""
    return float((targets == predictions).mean()) if len(targets) else float("nan")


def weighted_f1(targets: Classes, predictions: Classes, *, classes: int) -> float:
    """F1 by class, weighted by *true* class sizes: the order of the arguments matters. NaN without rows."""
    f1, true_counts, _ = _f1_by_class(targets, predictions, classes)
    return float(f1 @ true_counts / true_counts.sum()) if len(targets) else float("nan")


def seven_classes(scores: Floats) -> Classes:
    """Acc-7's classes -3..3: clip, then round (halves to the even neighbour, as NumPy does)."""
    return _rounded(scores, 3.0)


def five_classes(scores: Floats) -> Classes:
    """Acc-5's classes -2..2, likewise: the two outermost on each side of Acc-7's become one."""
    return _rounded(scores, 2.0)


def three_classes(scores: Floats) -> Classes:
    """Acc-3's classes -1..1, likewise: the sign of the rounded score, so that -0.5 to 0.5 is neutral."""
    return _rounded(scores, 1.0)


def _rounded(scores: Floats, limit: float) -> Classes:
    return np.rint(np.clip(scores, -limit, limit)).astype(np.int64)


def _f1_by_class(targets: Classes, predictions: Classes, classes: int) -> tuple[Floats, Classes, Classes]:
    """F1 = 2 hits / (true + predicted) of each class, 0 for one that never occurs; and the two counts."""
    true_counts = np.bincount(targets, minlength=classes)
    predicted_counts = np.bincount(predictions, minlength=classes)
    hits = np.bincount(targets[targets == predictions], minlength=classes)
    return 2 * hits / np.maximum(true_counts + predicted_counts, 1), true_counts, predicted_counts


def _as_classes(positive: NDArray[np.bool_]) -> Classes:
    return positive.astype(np.int64)
