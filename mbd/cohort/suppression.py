"""Channels that were withdrawn stay withdrawn: import, training and prediction ask here.

It knows no database: whoever calls says, by a function, which channels are suppressed.
"""

from collections.abc import Callable

from mbd.cohort.cohort import Cohort, Pair, Partition
from mbd.cohort.modality import Modality
from mbd.cohort.piecewise import PiecewiseCohort
from mbd.errors import ChannelSuppressedError

Suppressed = Callable[[str, Modality], bool]
"""Whether this subject's channel was withdrawn (also when everyone's was)."""

_REMEDY = "import it again without them: `--drop-suppressed` makes them absent"


def refuse_suppressed(cohort: PiecewiseCohort, suppressed: Suppressed) -> None:
    """Pass a cohort in which no row, of any partition, holds a suppressed channel or what falls with one.

    Raises:
        ChannelSuppressedError: some do; it counts the subjects, and names none.
    """
    holders: dict[Modality, set[str]] = {modality: set() for modality in cohort.head.modalities}
    labels = False
    for piece in cohort.pieces():
        fallen = piece.closure(_pairs(piece, suppressed))
        for m, modality in enumerate(piece.modalities):
            mine = {row.subject for row, has in zip(piece.rows, piece.presence[:, m], strict=True) if has}
            holders[modality] |= {subject for subject in mine if (subject, modality) in fallen}
        labels = labels or len(drop_suppressed(piece, suppressed)) < len(piece)
    name = cohort.head.name
    for modality, people in holders.items():
        if count := len(people):
            raise ChannelSuppressedError(
                f"Cohort '{name}' holds {modality} of {count} subject{'s'[: count > 1]} who withdrew it.",
                remedy=_REMEDY,
            )
    if labels:
        raise ChannelSuppressedError(
            f"Cohort '{name}' holds labels that were made from channels which their subjects withdrew.",
            remedy=_REMEDY,
        )


def drop_suppressed(cohort: Cohort, suppressed: Suppressed) -> Cohort:
    """The cohort with every suppressed channel absent, and what falls with it, in rows of any partition.

    Of a piece of a cohort (`mbd.cohort.piecewise.Changed`) it makes that piece of what it makes of the whole.
    """
    return cohort.without(_pairs(cohort, suppressed), partitions=tuple(Partition))


def _pairs(cohort: Cohort, suppressed: Suppressed) -> frozenset[Pair]:
    return frozenset((s, m) for s in cohort.subjects for m in Modality if suppressed(s, m))
