"""The baseline to beat: plain ridge on the raw features of a pattern, its penalty chosen on validation rows."""

import numpy as np
from numpy.typing import NDArray

from mbd.cohort.cohort import Cohort, Split
from mbd.cohort.modality import ModalitySet, in_order

FloatArray = NDArray[np.float64]

PENALTIES = tuple(10.0 ** (k / 2) for k in range(-2, 11))


def ridge_predictions(cohort: Cohort, pattern: ModalitySet, rows: Cohort) -> FloatArray:
    """Predictions [N, K] for ``rows`` by ridge on the channels of ``pattern``, which each of the rows must have.

    Trained on all training rows that have them (public and revocable alike), standardised by those rows, with an
    unpenalised intercept; the penalty minimises the squared error on the validation rows.
    """
    train, valid = (_complete(cohort.where(split=split), pattern) for split in (Split.TRAIN, Split.VALID))
    x_train, x_valid, x_rows = (_channels(part, pattern) for part in (train, valid, rows))
    centre, scale = x_train.mean(axis=0), x_train.std(axis=0)
    scale[scale < 1e-9] = 1.0
    x_train, x_valid, x_rows = ((x - centre) / scale for x in (x_train, x_valid, x_rows))
    offset = train.targets.mean(axis=0)
    gram, moment = x_train.T @ x_train, x_train.T @ (train.targets - offset)
    values, vectors = np.linalg.eigh(gram)
    rotated = vectors.T @ moment

    def weights(penalty: float) -> FloatArray:
        return vectors @ (rotated / (values + penalty)[:, None])

    errors = [((x_valid @ weights(p) + offset - valid.targets) ** 2).sum() for p in PENALTIES]
    return np.asarray(x_rows @ weights(PENALTIES[int(np.argmin(errors))]) + offset)


def complete_rows(cohort: Cohort, pattern: ModalitySet) -> Cohort:
    """The test rows that have every channel of a pattern, cut down to it."""
    return _complete(cohort.where(split=Split.TEST), pattern)


def _complete(cohort: Cohort, pattern: ModalitySet) -> Cohort:
    return cohort.select([i for i in range(len(cohort)) if pattern <= cohort.present(i)]).restrict(pattern)


def _channels(cohort: Cohort, pattern: ModalitySet) -> FloatArray:
    return np.stack(
        [
            np.concatenate([np.atleast_2d(cohort.feature(i, m)).mean(axis=0) for m in in_order(pattern)])
            for i in range(len(cohort))
        ]
    ).astype(np.float64)
