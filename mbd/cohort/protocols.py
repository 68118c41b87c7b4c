"""What an evaluation does to test rows: which channels and frames they keep, and how much noise is added.

A `Condition` says it in numbers; the functions named like protocols list the conditions of each. What a condition means
for the rows of one cohort is `mbd.cohort.masks`.

A mask of channels is bool [n, 3], columns in Modality's order, never more than what the rows have; `Batch.mask` applies
it. A row may end up with nothing: models answer such a row with their prior. It knows nothing of models or metrics.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from mbd.cohort.cohort import Cohort
from mbd.cohort.modality import Modality, ModalitySet, in_order, pattern_name, subsets
from mbd.cohort.streams import uniform
from mbd.errors import CohortError

RATES = tuple(tenths / 10 for tenths in range(10))
"""0 to .9."""

SHARED_RATES = (0.3, 0.5, 0.7)

IMBALANCED_RATES = {1: (0.5,), 2: (0.3, 0.7), 3: (0.3, 0.5, 0.7)}
"""By the number of channels: rates whose mean is the .5 of the shared protocol. Those of less than three are ours."""

NOISES = (0.0, 0.5, 1.0, 2.0)
SPECTRUM_RATES = (0.0, 0.3, 0.6, 0.9)


class Protocol(StrEnum):
    """A family of conditions."""

    FIXED = "fixed"
    RATES = "rates"
    FRAMES = "frames"
    SPANS = "spans"
    SHARED = "shared"
    IMBALANCED = "imbalanced"
    SPECTRUM = "spectrum"


@dataclass(frozen=True)
class Condition:
    """What an evaluation does to each test row; what is not said is not done.

    A vector channel is a sequence of one frame: losing its frame is losing the channel.

    Attributes:
        protocol: whose condition it is.
        name: in its protocol.
        pattern: the channels that a row may keep; None for all.
        missing: the probability that a row's channel is absent, for each modality in order.
        lost: the probability that a frame of a channel does not arrive, each frame for itself.
        span: the share of a channel's frames that are lost in one piece.
        noise: standard deviations of the Gaussian noise that each number gets, in units of that feature's own.

    Raises:
        CohortError: a rate or share is not in [0, 1], or the noise is negative or not finite.
    """

    protocol: Protocol
    name: str
    pattern: ModalitySet | None = None
    missing: tuple[float, float, float] = (0.0, 0.0, 0.0)
    lost: float = 0.0
    span: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        for rate in self.missing:
            _require_rate(rate, "missing channels")
        _require_rate(self.lost, "lost frames")
        _require_rate(self.span, "frames lost in one piece")
        if not 0 <= self.noise < math.inf:
            raise CohortError(f"{self.noise} is no amount of noise.", remedy="use a number that is not negative")


def fixed(modalities: Collection[Modality]) -> tuple[Condition, ...]:
    """Every non-empty subset of the channels, small ones first: seven for three channels."""
    return tuple(Condition(Protocol.FIXED, pattern_name(p), pattern=p) for p in subsets(modalities))


def rates(values: Sequence[float] = RATES) -> tuple[Condition, ...]:
    """Each channel of each row is absent with this probability, independently."""
    return tuple(Condition(Protocol.RATES, str(rate), missing=(rate, rate, rate)) for rate in values)


def frames(values: Sequence[float] = RATES) -> tuple[Condition, ...]:
    """Each frame of each channel is lost with this probability, independently."""
    return tuple(Condition(Protocol.FRAMES, str(rate), lost=rate) for rate in values)


def spans(values: Sequence[float] = RATES) -> tuple[Condition, ...]:
    """One piece of each channel is lost, of this share of its frames."""
    return tuple(Condition(Protocol.SPANS, str(share), span=share) for share in values)


def shared(values: Sequence[float] = SHARED_RATES) -> tuple[Condition, ...]:
    """MissBench's shared missing rate (SMR): one rate for all modalities. The very masks of `rates`."""
    return tuple(Condition(Protocol.SHARED, str(rate), missing=(rate, rate, rate)) for rate in values)


def imbalanced(modalities: Collection[Modality]) -> tuple[Condition, ...]:
    """MissBench's imbalanced missing rates (IMR): every way to share `IMBALANCED_RATES` out among the channels.

    Their mean is the .5 of `shared`. A channel at some rate loses the very rows that it loses at that shared rate.
    """
    channels = in_order(modalities)
    found = []
    for order in permutations(IMBALANCED_RATES[len(channels)]):
        rate = dict(zip(channels, order, strict=True))
        text, audio, vision = (rate.get(modality, 0.0) for modality in Modality)
        name = "-".join(f"{modality.value[0]}{rate[modality]}" for modality in channels)
        found.append(Condition(Protocol.IMBALANCED, name, missing=(text, audio, vision)))
    return tuple(found)


def spectrum(noises: Sequence[float] = NOISES, values: Sequence[float] = SPECTRUM_RATES) -> tuple[Condition, ...]:
    """QA-MoE's Continuous Reliability Spectrum: each amount of noise with each rate of lost frames.

    The rate is one of frames, of which a vector has one. The two axes and the diagonal of the grid are missing alone,
    noise alone, and both.
    """
    return tuple(
        Condition(Protocol.SPECTRUM, f"noise{noise}-lost{rate}", lost=rate, noise=noise)
        for noise in noises
        for rate in values
    )


def all_conditions(modalities: Collection[Modality]) -> tuple[Condition, ...]:
    """The conditions of every protocol for a cohort with these channels."""
    return (
        *fixed(modalities),
        *rates(),
        *frames(),
        *spans(),
        *shared(),
        *imbalanced(modalities),
        *spectrum(),
    )


def availability(cohort: Cohort, pattern: Collection[Modality]) -> NDArray[np.bool_]:
    """Fixed missing: every row keeps the channels of the pattern that it has."""
    mask = np.zeros((len(cohort), len(Modality)), dtype=np.bool_)
    for column, modality in enumerate(Modality):
        if modality in cohort.modalities and modality in pattern:
            mask[:, column] = cohort.presence[:, cohort.modalities.index(modality)]
    return mask


def random_missing(cohort: Cohort, rate: float, seed: int) -> NDArray[np.bool_]:
    """Random missing: each channel of each row is absent with probability ``rate``, independently.

    Every (seed, split, modality, clip, rate) has its own stream, so that neither the order of the rows, nor a deleted
    row, nor another modality changes what a clip keeps.

    Raises:
        CohortError: the rate is not in [0, 1].
    """
    return imbalanced_missing(cohort, (rate, rate, rate), seed)


def imbalanced_missing(cohort: Cohort, rate_of: Sequence[float], seed: int) -> NDArray[np.bool_]:
    """`random_missing` with a rate for each modality, in order.

    Raises:
        CohortError: a rate is not in [0, 1].
    """
    for rate in rate_of:
        _require_rate(rate, "missing channels")
    kept = [
        [
            uniform("mbd random missing v1", seed, row.split, modality, row.clip, rate) >= rate
            for modality, rate in zip(Modality, rate_of, strict=True)
        ]
        for row in cohort.rows
    ]
    return availability(cohort, cohort.modalities) & np.array(kept, dtype=np.bool_).reshape(-1, len(Modality))


def _require_rate(rate: float, what: str) -> None:
    if not 0 <= rate <= 1:
        raise CohortError(f"{rate} is no rate of {what}.", remedy="use a number from 0 to 1")
