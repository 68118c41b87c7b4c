"""Channels that were withdrawn stay withdrawn: import, training and prediction ask here.

It knows no database: whoever calls says, by a function, which channels are suppressed.
"""

from collections.abc import Callable

from mbd.cohort.cohort import Cohort, Pair, Partition
from mbd.cohort.modality import Modality
from mbd.errors import ChannelSuppressedError

Suppressed = Callable[[str, Modality], bool]
"""Whether this subject's channel was withdrawn (also when everyone's was)."""

_REMEDY = "import it again without them: `--drop-suppressed` makes them absent"


def refuse_suppressed(cohort: Cohort, suppressed: Suppressed) -> None:
    """Pass a cohort in which no row, of any partition, holds a suppressed channel or what falls with one.

    Raises:
        ChannelSuppressedError: some do; it counts the subjects, and names none.
    """
    fallen = cohort.closure(_pairs(cohort, suppressed))
    for m, modality in enumerate(cohort.modalities):
        holders = {row.subject for row, has in zip(cohort.rows, cohort.presence[:, m], strict=True) if has}
        count = sum((subject, modality) in fallen for subject in holders)
        if count:
            raise ChannelSuppressedError(
                f"Cohort '{cohort.name}' holds {modality} of {count} subject{'s'[: count > 1]} who withdrew it.",
                remedy=_REMEDY,
            )
    if len(drop_suppressed(cohort, suppressed)) < len(cohort):
        raise ChannelSuppressedError(
            f"Cohort '{cohort.name}' holds labels that were made from channels which their subjects withdrew.",
            remedy=_REMEDY,
        )


def drop_suppressed(cohort: Cohort, suppressed: Suppressed) -> Cohort:
    """The cohort with every suppressed channel absent, and what falls with it, in rows of any partition."""
    return cohort.without(_pairs(cohort, suppressed), partitions=tuple(Partition))


def _pairs(cohort: Cohort, suppressed: Suppressed) -> frozenset[Pair]:
    return frozenset((s, m) for s in cohort.subjects for m in Modality if suppressed(s, m))
