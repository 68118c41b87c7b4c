"""Take revoked channels out of exact statistics, touching only the rows they stand in. It solves nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mbd.cohort.cohort import Cohort
from mbd.cohort.modality import ModalitySet
from mbd.lattice.featurizer import CHUNK_ROWS, Featurizer
from mbd.lattice.layout import Layout
from mbd.lattice.statistics import Statistics

FloatArray = NDArray[np.float64]


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

    G and c are sums over rows. A row that is the same in D and D' adds the same integers to both sums, and integers
    cancel without a remainder. So the rows of the people concerned are enough, and nobody else's are read.

    Args:
        featurizer: the line's public map.
        statistics: of D.
        before: rows of D, among them all that D' lacks or has with fewer channels.
        after: what is left of those rows in D'.
    """
    kept = {row.clip: j for j, row in enumerate(after.rows)}
    left = [after.present(kept[row.clip]) if row.clip in kept else frozenset() for row in before.rows]
    changed = [i for i, channels in enumerate(left) if channels != before.present(i)]
    for start in range(0, len(changed), CHUNK_ROWS):
        chunk = changed[start : start + CHUNK_ROWS]
        phi_ND, label_NK = featurizer.features(before, chunk), featurizer.labels(before, chunk)
        left_ND = _cleared(phi_ND, featurizer.layout, [left[i] for i in chunk])
        statistics = statistics.replace(phi_ND, left_ND, label_NK)
    return Downdate(statistics, len(changed))


def _cleared(phi_ND: FloatArray, layout: Layout, left: Sequence[ModalitySet]) -> FloatArray:
    """Turn phi into phi': blocks of which a row has lost a channel become zeros, all of them in a row that leaves.

    A kept block has the same bits in both, because block B is a function of the channels in B alone.
    """
    left_ND = phi_ND.copy()
    for block in layout.blocks:
        fallen = [n for n, channels in enumerate(left) if not block.channels <= channels]
        left_ND[fallen, block.start : block.stop] = 0.0
    return left_ND


def drop_blocks(statistics: Statistics, old: Layout, new: Layout) -> Statistics:
    """Statistics without the blocks of modalities that left for everyone; no row is read.

    The row count follows by inclusion and exclusion over the presence indicators: a row counts when at least one of
    the remaining single-modality blocks is present.
    """
    one = 1 << statistics.grid.feature_bits
    rows = 0
    for block in new.blocks:
        indicator = next(b.indicator for b in old.blocks if b.channels == block.channels)
        sign = 1 if len(block.channels) % 2 else -1
        rows += sign * int(statistics.gram[indicator, indicator]) // (one * one)
    remaining = statistics.at(old.kept_in(new))
    return replace(remaining, rows=rows)


def changed_heads(layout: Layout, before: Statistics, after: Statistics) -> tuple[ModalitySet, ...]:
    """The patterns whose sub-matrices differ in any bit; all other heads are functions of D' already."""
    starts = [block.start for block in layout.blocks]
    gram_differs = np.logical_or.reduceat(before.gram != after.gram, starts, axis=0)
    gram_differs = np.logical_or.reduceat(gram_differs, starts, axis=1)  # pairs of blocks
    moment_differs = np.logical_or.reduceat((before.moment != after.moment).any(axis=1), starts)
    patterns = []
    for pattern in layout.patterns:
        at = [n for n, block in enumerate(layout.blocks) if block.channels <= pattern]
        if gram_differs[np.ix_(at, at)].any() or moment_differs[at].any():
            patterns.append(pattern)
    return tuple(patterns)
