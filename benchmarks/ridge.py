"""The baseline to beat: plain ridge on the raw features of a pattern, its penalty chosen on validation rows."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mbd.cohort.cohort import Cohort, Split
from mbd.cohort.modality import Modality, ModalitySet, in_order

FloatArray = NDArray[np.float64]

PENALTIES = tuple(10.0 ** (k / 2) for k in range(-2, 11))


@dataclass(frozen=True)
class Ridge:
    """A fitted ridge.

    Attributes:
        centre, scale: [F] of each channel, from the training rows.
        weights_FK: of the channels' standardised features one after the other.
        offset_K: the unpenalised intercept.
    """

    centre: Mapping[Modality, FloatArray]
    scale: Mapping[Modality, FloatArray]
    weights_FK: FloatArray
    offset_K: FloatArray

    def predict(self, rows: Cohort) -> FloatArray:
        """Predictions [N, K]; a channel that a row lacks is zero after standardisation: the training rows' mean."""
        blocks = []
        for modality, centre_F in self.centre.items():
            x_NF = np.zeros((len(rows), len(centre_F)))
            there = [i for i in range(len(rows)) if modality in rows.present(i)]
            if there:
                x_NF[there] = (_channel(rows.select(there), modality) - centre_F) / self.scale[modality]
            blocks.append(x_NF)
        return np.asarray(np.concatenate(blocks, axis=1) @ self.weights_FK + self.offset_K)


def fit_ridge(cohort: Cohort, pattern: ModalitySet) -> Ridge:
    """Ridge on the channels of ``pattern``, trained on all training rows that have them, public and revocable alike.

    Standardised by those rows, with an unpenalised intercept; the penalty minimises the squared error on the validation
    rows that have the channels.
    """
    train, valid = (_complete(cohort.where(split=split), pattern) for split in (Split.TRAIN, Split.VALID))
    centre, scale = {}, {}
    for modality in in_order(pattern):
        x_NF = _channel(train, modality)
        centre[modality], scale[modality] = x_NF.mean(axis=0), x_NF.std(axis=0)
        scale[modality][scale[modality] < 1e-9] = 1.0
    x_train, x_valid = (
        np.concatenate([(_channel(part, m) - centre[m]) / scale[m] for m in centre], axis=1) for part in (train, valid)
    )
    offset = train.targets.mean(axis=0)
    gram, moment = x_train.T @ x_train, x_train.T @ (train.targets - offset)
    values, vectors = np.linalg.eigh(gram)
    rotated = vectors.T @ moment

    def weights(penalty: float) -> FloatArray:
        return vectors @ (rotated / (values + penalty)[:, None])

    errors = [((x_valid @ weights(p) + offset - valid.targets) ** 2).sum() for p in PENALTIES]
    return Ridge(centre, scale, weights(PENALTIES[int(np.argmin(errors))]), offset)


def ridge_predictions(cohort: Cohort, pattern: ModalitySet, rows: Cohort) -> FloatArray:
    """Predictions [N, K] for ``rows``, which have all channels of ``pattern``, by ridge on these channels."""
    return fit_ridge(cohort, pattern).predict(rows)


def complete_rows(cohort: Cohort, pattern: ModalitySet) -> Cohort:
    """The test rows that have every channel of a pattern, cut down to it."""
    return _complete(cohort.where(split=Split.TEST), pattern)


def _complete(cohort: Cohort, pattern: ModalitySet) -> Cohort:
    return cohort.select([i for i in range(len(cohort)) if pattern <= cohort.present(i)]).restrict(pattern)


def _channel(rows: Cohort, modality: Modality) -> FloatArray:
    """[N, F] of rows that all have the channel; the mean over frames."""
    frames = [np.atleast_2d(rows.feature(i, modality)).mean(axis=0) for i in range(len(rows))]
    return np.stack(frames).astype(np.float64)
