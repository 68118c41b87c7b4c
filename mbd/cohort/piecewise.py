"""A cohort that need not be in memory: gone through piece by piece, or cut down first. It knows no file."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from mbd.cohort.cohort import Cohort, Partition, Split


class PiecewiseCohort(Protocol):
    """People's clips in memory (`Cohort`), in a folder (`mbd.cohort.folder.Pieces`), or changed on the way."""

    @property
    def head(self) -> Cohort:
        """The cohort without its rows: its name, its task, its channels."""
        ...

    def pieces(self) -> Iterator[Cohort]:
        """All rows in order, each piece a cohort; as often as one likes."""
        ...

    def where(self, partition: Partition | None = None, split: Split | None = None) -> Cohort:
        """The rows that match all that is given, in order and in memory."""
        ...


@dataclass(frozen=True)
class Changed:
    """A cohort whose pieces are changed as they pass.

    Attributes:
        source: where they come from.
        change: what each becomes; what it makes of a row must not depend on the others.
    """

    source: PiecewiseCohort
    change: Callable[[Cohort], Cohort]

    @property
    def head(self) -> Cohort:
        """See `PiecewiseCohort`."""
        return self.change(self.source.head)

    def pieces(self) -> Iterator[Cohort]:
        """See `PiecewiseCohort`."""
        return map(self.change, self.source.pieces())

    def where(self, partition: Partition | None = None, split: Split | None = None) -> Cohort:
        """See `PiecewiseCohort`."""
        return self.change(self.source.where(partition, split))


def join(head: Cohort, pieces: Iterable[Cohort]) -> Cohort:
    """One cohort of all rows of the pieces."""
    parts = list(pieces)
    return replace(
        head,
        rows=tuple(row for part in parts for row in part.rows),
        features={m: tuple(feature for part in parts for feature in part.features[m]) for m in head.channels},
    )
