"""The three modalities and their subsets. It knows no data: only names and their one order."""

from collections.abc import Collection, Iterable
from enum import StrEnum
from itertools import combinations

from mbd.errors import CohortError


class Modality(StrEnum):
    """A channel through which a person is recorded. Declaration order is the order everywhere."""

    TEXT = "text"
    AUDIO = "audio"
    VISION = "vision"


COLUMN = {modality: column for column, modality in enumerate(Modality)}
"""Where a modality stands in arrays that have a column for each."""

ModalitySet = frozenset[Modality]
"""An availability pattern, or the channels of a block."""


def in_order(modalities: Iterable[Modality]) -> tuple[Modality, ...]:
    """The same modalities, each once, as text, audio, vision."""
    return tuple(sorted(set(modalities), key=COLUMN.__getitem__))


def pattern_name(pattern: Collection[Modality]) -> str:
    """The short name of a subset: ``t a v ta tv av tav`` (first letters, in order)."""
    return "".join(modality.value[0] for modality in in_order(pattern))


def parse_pattern(name: str) -> ModalitySet:
    """The subset that a short name stands for; the inverse of `pattern_name`."""
    by_letter = {modality.value[0]: modality for modality in Modality}
    pattern = frozenset(by_letter[letter] for letter in name if letter in by_letter)
    if not name or pattern_name(pattern) != name:
        raise CohortError(f"'{name}' is not an availability pattern.", remedy="use one of t a v ta tv av tav")
    return pattern


def parse_modality(name: str) -> Modality:
    """A modality by its full name."""
    try:
        return Modality(name)
    except ValueError:
        raise CohortError(f"'{name}' is not a modality.", remedy="use one of text, audio, vision") from None


def subsets(modalities: Iterable[Modality]) -> tuple[ModalitySet, ...]:
    """All non-empty subsets, small ones first: for three modalities ``t a v ta tv av tav``."""
    ordered = in_order(modalities)
    return tuple(frozenset(c) for size in range(1, len(ordered) + 1) for c in combinations(ordered, size))
