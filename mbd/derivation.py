"""What falls with what: channels that were made from a withdrawn one. It knows neither cohorts nor records.

A line *follows*, for each of its channels, those other channels with which it falls. S is a subject, M a modality, as
the caller names them.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypeAlias, TypeVar

S = TypeVar("S")
M = TypeVar("M")

Follows: TypeAlias = Mapping[M, Collection[M]]
"""Of each channel of a line, the channels with which it falls; none for one that is consented to by itself."""


def closure(pairs: Iterable[tuple[S, M]], follows: Follows[M]) -> frozenset[tuple[S, M]]:
    """The pairs and every pair that falls with them, in one line."""
    fallen = set(pairs)
    waiting = list(fallen)
    while waiting:
        subject, source = waiting.pop()
        for modality, sources in follows.items():
            pair = (subject, modality)
            if source in sources and pair not in fallen:
                fallen.add(pair)
                waiting.append(pair)
    return frozenset(fallen)


def fallen_everywhere(pairs: Collection[tuple[S, M]], lines: Sequence[Follows[M]]) -> frozenset[tuple[S, M]]:
    """What falls with the pairs in every line that has it: where policies differ, each line keeps its own."""
    closures = [closure(pairs, follows) for follows in lines]
    return frozenset(
        pair
        for pair in frozenset[tuple[S, M]]().union(*closures)
        if all(pair in fallen or pair[1] not in follows for fallen, follows in zip(closures, lines, strict=True))
    )
