"""Take revoked channels out of exact statistics, touching only the rows they stand in. It solves nothing."""

from dataclasses import dataclass

import numpy as np

from mbd.cohort.cohort import Cohort
from mbd.cohort.modality import ModalitySet
from mbd.lattice.featurizer import Featurizer
from mbd.lattice.layout import Layout
from mbd.lattice.statistics import Statistics


@dataclass(frozen=True)
class Downdate:
    """Statistics without the revoked channels.

    Attributes:
        statistics: of D', bit for bit.
        rows_touched: how many rows changed or left.
    """

    statistics: Statistics
    rows_touched: int


def downdate(featurizer: Featurizer, statistics: Statistics, before: Cohort, after: Cohort) -> Downdate:
    """G' = G - phi^T phi + phi'^T phi' over the rows that differ between D and D'; the cost does not grow with n.

    A kept block has the same bits in phi and phi', because block B is a function of the channels in B alone.
    """
    kept = {row.clip: j for j, row in enumerate(after.rows)}
    changed = [
        i
        for i, row in enumerate(before.rows)
        if row.clip not in kept or after.present(kept[row.clip]) != before.present(i)
    ]
    remaining = [kept[before.rows[i].clip] for i in changed if before.rows[i].clip in kept]
    removed = featurizer.statistics(before.select(changed))
    restored = featurizer.statistics(after.select(remaining))
    return Downdate(statistics - removed + restored, len(changed))


def drop_blocks(statistics: Statistics, old: Layout, new: Layout) -> Statistics:
    """Statistics without the blocks of modalities that left for everyone; no row is read.

    The row count follows by inclusion and exclusion over the presence indicators: a row counts when at least one of
    the remaining single-modality blocks is present.
    """
    kept = np.concatenate(
        [np.arange(b.start, b.stop) for b in old.blocks if b.channels in set(new.patterns)] or [np.zeros(0, np.intp)]
    ).astype(np.intp)
    one = 1 << statistics.grid.feature_bits
    rows = 0
    for block in new.blocks:
        indicator = next(b.indicator for b in old.blocks if b.channels == block.channels)
        sign = 1 if len(block.channels) % 2 else -1
        rows += sign * int(statistics.gram[indicator, indicator]) // (one * one)
    remaining = statistics.at(kept)
    return Statistics(remaining.grid, remaining.gram, remaining.moment, rows)


def changed_heads(layout: Layout, before: Statistics, after: Statistics) -> tuple[ModalitySet, ...]:
    """The patterns whose sub-matrices differ in any bit; all other heads are functions of D' already."""
    gram_differs = before.gram != after.gram
    moment_differs = (before.moment != after.moment).any(axis=1)
    patterns = []
    for pattern in layout.patterns:
        at = layout.coordinates(pattern)
        if gram_differs[np.ix_(at, at)].any() or moment_differs[at].any():
            patterns.append(pattern)
    return tuple(patterns)
