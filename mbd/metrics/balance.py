"""How evenly a model's modalities contribute (MEI), and how evenly they learn (MLI): **by our own definitions**.

MissBench (arXiv 2603.09874) names a Modality Equity Index and a Modality Learning Index; we know their aims from its
abstract and not their formulas, so no number from here may stand beside one of that paper. It knows no model: scores
and norms of gradients come in.

Letters: M modalities, S steps of training.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mbd.cohort.modality import Modality, ModalitySet, in_order, subsets
from mbd.errors import MbdError

Floats = NDArray[np.float64]

_ROUNDING = 1e-12


@dataclass(frozen=True)
class Contributions:
    """What each modality contributes.

    Attributes:
        shapley: phi of each modality in units of the score, negative where it does harm; they sum to what all
            modalities together gain over none.
        mei: how even the positive ones are: 1 when all contribute the same, 0 when one does all. NaN when none is
            positive, as there is nothing to share out, and with a single modality, as nobody could share it.
    """

    shapley: Mapping[Modality, float]
    mei: float


def contributions(scores: Mapping[ModalitySet, float], *, empty: float) -> Contributions:
    """Shapley values of the modalities, and MEI = H(phi+ / sum phi+) / log M, phi+ being the positive ones.

    phi_m is what m adds to a subset's score, averaged over all orders in which the modalities may come (Shapley 1953).
    What is no more than rounding beside the scores counts as no contribution.

    Args:
        scores: of the same rows for every non-empty subset of the modalities; more is better, so give minus an error.
        empty: the score without any modality: that of the training rows' mean label.

    Raises:
        MbdError: a subset has no score, or a score is not finite.
    """
    modalities = in_order(modality for subset in scores for modality in subset)
    value = {**scores, frozenset[Modality](): empty}
    if not scores or set(scores) != set(subsets(modalities)) or not all(map(math.isfinite, value.values())):
        raise MbdError(
            "Contributions need one finite score for every subset of the modalities.",
            remedy="score all subsets on the same rows, and pass the score of the mean label as `empty`",
        )
    M = len(modalities)
    shapley = {
        modality: sum(
            (value[subset | {modality}] - value[subset]) / (M * math.comb(M - 1, len(subset)))
            for subset in value
            if modality not in subset
        )
        for modality in modalities
    }
    least = _ROUNDING * max(map(abs, value.values()))
    positive = np.array([phi for phi in shapley.values() if phi > least])
    if M == 1 or not len(positive):
        return Contributions(shapley, math.nan)
    shares = positive / positive.sum()
    return Contributions(shapley, float(np.clip(-(shares @ np.log(shares)) / math.log(M), 0.0, 1.0)))


def learning_imbalance(norms_SM: Floats, sizes_M: NDArray[np.int64]) -> float:
    """MLI, less is better: the coefficient of variation of the modalities' gradients, averaged over steps.

    mean_S of std_M(g) / mean_M(g), with g = norm / sqrt(size), the root mean square of a group's gradient, and the
    standard deviation over the M modalities themselves (not M - 1). It is 0 when all learn alike and sqrt(M - 1) when
    one learns alone. Steps at which nothing learns are left out; NaN when there is no other.

    Args:
        norms_SM: [S, M], the Euclidean norms of the gradients of each modality's parameter group.
        sizes_M: [M], how many numbers each group has.

    Raises:
        MbdError: the shapes differ, a norm is negative or not finite, or a group is empty.
    """
    if (
        norms_SM.ndim != 2
        or norms_SM.shape[1:] != sizes_M.shape
        or not len(sizes_M)
        or not (np.isfinite(norms_SM) & (norms_SM >= 0)).all()
        or not (sizes_M > 0).all()
    ):
        raise MbdError(
            "Norms of gradients are compared at every step, for every modality's group of parameters.",
            remedy="give finite norms [steps, modalities] and the size of each group",
        )
    g_SM = norms_SM / np.sqrt(sizes_M)
    g_SM = g_SM[g_SM.any(axis=1)]
    return float((g_SM.std(axis=1) / g_SM.mean(axis=1)).mean()) if len(g_SM) else math.nan
