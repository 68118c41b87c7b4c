"""Which coordinate of the design matrix means what. It knows names and widths, no rows and no weights.

Legend: D all coordinates, A an availability pattern, B a block (a non-empty subset of the modalities).
Blocks stand in the order of `mbd.cohort.modality.subsets`; inside a block: the channel itself (single-modality
blocks only), the learned embedding h_B, what towers make of the channel (likewise), the presence indicator.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbd.cohort.modality import (
    Modality,
    ModalitySet,
    in_order,
    parse_modality,
    parse_pattern,
    pattern_name,
    subsets,
)
from mbd.errors import TrainingError

INDICATOR_PENALTY = 1.0
"""Of presence indicators where a line does not say otherwise, and the least that any coordinate may carry."""


@dataclass(frozen=True)
class Block:
    """One embedding of one modality subset.

    Attributes:
        channels: the subset B.
        start: its first coordinate.
        raw: coordinates that carry the channel itself (0 for pairs and triples).
        learned: coordinates of h_B.
        towers: the coordinates of each tower on the channel, by the tower's name (none for pairs and triples).
    """

    channels: ModalitySet
    start: int
    raw: int
    learned: int
    towers: tuple[tuple[str, int], ...] = ()

    @property
    def name(self) -> str:
        """Short name, for example ``ta``."""
        return pattern_name(self.channels)

    @property
    def raw_at(self) -> slice:
        """Where the channel itself stands."""
        return slice(self.start, self.start + self.raw)

    @property
    def learned_at(self) -> slice:
        """Where the embedding stands."""
        return slice(self.start + self.raw, self.start + self.raw + self.learned)

    @property
    def towers_at(self) -> dict[str, slice]:
        """Where each tower's output stands."""
        at, start = {}, self.start + self.raw + self.learned
        for name, width in self.towers:
            at[name] = slice(start, start + width)
            start += width
        return at

    @property
    def groups_at(self) -> dict[str, slice]:
        """Where each group of coordinates stands, by the group's name; a group without coordinates is left out."""
        at = {f"{self.name}.raw": self.raw_at, f"{self.name}.learned": self.learned_at, **self.towers_at}
        return {group: span for group, span in at.items() if span.start < span.stop}

    @property
    def indicator(self) -> int:
        """The coordinate that is 1 when the block is present."""
        return self.start + self.raw + self.learned + sum(width for _, width in self.towers)

    @property
    def stop(self) -> int:
        """One past its last coordinate."""
        return self.indicator + 1


def group_names(raw_widths: Mapping[Modality, int], embedding: int, towers: Collection[str] = ()) -> tuple[str, ...]:
    """The names of the coordinate groups that share a penalty: ``t.raw``, ``ta.learned``, ``a.shard0``, ..."""
    raw = [f"{pattern_name([m])}.raw" for m in in_order(raw_widths) if raw_widths[m]]
    learned = [f"{pattern_name(subset)}.learned" for subset in subsets(raw_widths)]
    return tuple(raw + (learned if embedding else []) + list(towers))


@dataclass(frozen=True)
class Layout:
    """The design matrix of one cohort.

    Attributes:
        raw_widths: coordinates of each channel itself; its keys are the modalities in force.
        embedding: width of every h_B.
        penalties: the public diagonal Lambda, one value (>= 1) for each `groups` name.
        indicator_penalty: the diagonal's value (>= 1) at every presence indicator. The smallest value is lambda_min;
            noise and release grid are in inverse proportion to it: large cohorts need more than 1.
        towers: the width of each tower's output by the tower's name: ``a.shard0`` sees the voice.
    """

    raw_widths: Mapping[Modality, int]
    embedding: int
    penalties: Mapping[str, float]
    indicator_penalty: float = INDICATOR_PENALTY
    towers: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if set(self.penalties) != set(self.groups):
            raise TrainingError(
                f"Penalties are needed for {sorted(self.groups)}, given for {sorted(self.penalties)}.",
                remedy="give one penalty for each group of coordinates",
            )
        diagonal = [self.indicator_penalty, *self.penalties.values()]
        if not all(np.isfinite(value) and value >= INDICATOR_PENALTY for value in diagonal):
            raise TrainingError(
                "A penalty below 1 would weaken the strong convexity that the guarantee rests on.",
                remedy="choose penalties of at least 1",
            )

    @cached_property
    def modalities(self) -> tuple[Modality, ...]:
        """The modalities in force, in order."""
        return in_order(self.raw_widths)

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """All blocks, small subsets first."""
        blocks: list[Block] = []
        for channels in subsets(self.raw_widths):
            start = blocks[-1].stop if blocks else 0
            raw = self.raw_widths[next(iter(channels))] if len(channels) == 1 else 0
            mine = tuple((n, w) for n, w in self.towers.items() if channels == frozenset({tower_modality(n)}))
            blocks.append(Block(channels, start, raw, self.embedding, mine))
        return tuple(blocks)

    @cached_property
    def patterns(self) -> tuple[ModalitySet, ...]:
        """The availability patterns that have a head: every block's subset."""
        return tuple(block.channels for block in self.blocks)

    @property
    def width(self) -> int:
        """D, the number of coordinates."""
        return self.blocks[-1].stop if self.blocks else 0

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """The coordinate groups of this layout, see `group_names`."""
        return group_names(self.raw_widths, self.embedding, self.towers)

    @cached_property
    def penalty_D(self) -> NDArray[np.float64]:
        """The diagonal of Lambda, float64 [D]."""
        penalty_D = np.full(self.width, self.indicator_penalty)
        for block in self.blocks:
            for group, span in block.groups_at.items():
                penalty_D[span] = self.penalties[group]
        return penalty_D

    @property
    def lambda_min(self) -> float:
        """The smallest entry of Lambda: every head's objective is this strongly convex."""
        return float(self.penalty_D.min())

    def coordinates(self, pattern: ModalitySet) -> NDArray[np.intp]:
        """The coordinates of all blocks B that are subsets of ``pattern``, ascending."""
        spans = [np.arange(b.start, b.stop) for b in self.blocks if b.channels <= pattern]
        return np.concatenate(spans) if spans else np.zeros(0, dtype=np.intp)

    def kept_in(self, narrower: "Layout") -> NDArray[np.intp]:
        """The coordinates, ascending, of all that a narrower layout has left of this one."""
        mine = {block.channels: block for block in self.blocks}
        spans = [np.zeros(0, np.intp)]
        for block in narrower.blocks:
            there = mine[block.channels]
            spans += [np.arange(at.start, at.stop) for group, at in there.groups_at.items() if group in block.groups_at]
            spans.append(np.array([there.indicator]))
        return np.concatenate(spans).astype(np.intp)

    def without(self, modalities: Collection[Modality]) -> "Layout":
        """The layout after these modalities are gone for everyone; block order is kept."""
        raw_widths = {m: w for m, w in self.raw_widths.items() if m not in modalities}
        towers = {name: width for name, width in self.towers.items() if tower_modality(name) not in modalities}
        return self._narrowed(raw_widths, towers)

    def without_towers(self, names: Collection[str]) -> "Layout":
        """The layout without the output of these towers."""
        return self._narrowed(self.raw_widths, {n: width for n, width in self.towers.items() if n not in names})

    def _narrowed(self, raw_widths: Mapping[Modality, int], towers: Mapping[str, int]) -> "Layout":
        penalties = {group: self.penalties[group] for group in group_names(raw_widths, self.embedding, towers)}
        return replace(self, raw_widths=raw_widths, towers=towers, penalties=penalties)

    def as_json(self) -> dict[str, Any]:
        """The public constants, for hashing and for the model's file."""
        return {
            "rawWidths": {m.value: self.raw_widths[m] for m in self.modalities},
            "embedding": self.embedding,
            "penalties": dict(self.penalties),
            "indicatorPenalty": self.indicator_penalty,
            "towers": [[name, width] for name, width in self.towers.items()],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Layout":
        """The inverse of `as_json`."""
        raw_widths = {parse_modality(name): int(width) for name, width in value["rawWidths"].items()}
        penalties, indicator = dict(value["penalties"]), float(value["indicatorPenalty"])
        towers = {str(name): int(width) for name, width in value["towers"]}
        return cls(raw_widths, int(value["embedding"]), penalties, indicator, towers)


def tower_modality(name: str) -> Modality:
    """The one channel that a tower sees, from its name."""
    (modality,) = parse_pattern(name.partition(".")[0])
    return modality
