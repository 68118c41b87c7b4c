"""Statistics summed over the ranks of a `torch.distributed` group. It does not know who started them, or on what rows.

Int64 addition is associative and commutative, so whatever tree or ring the backend reduces along, every rank ends with
the bits of one process. No sum can overflow: the rows of all ranks are counted first, and their number is held against
the grid's bound, under which every entry stays below 2^53.
"""

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from mbd.errors import ExactnessError
from mbd.lattice.statistics import Statistics
from mbd.ranks import Ranks, all_ranks


def sum_over_ranks(mine: Statistics, group: dist.ProcessGroup | None = None) -> Statistics:
    """The sum of every rank's statistics, on every rank. All ranks of the group must call it.

    Args:
        mine: this rank's; its rows are nobody else's.
        group: of a backend that reduces int64 tensors on the CPU (gloo); the default group when None.

    Raises:
        ExactnessError: on all ranks alike, and before any statistics are exchanged: the ranks' layouts or grids
            differ, or all rows together could sum to 2^53.
        RanksError: another process stopped.
    """
    ranks = all_ranks(group)
    shape = [*mine.gram.shape, *mine.moment.shape, mine.grid.feature_bits, mine.grid.label_limit]
    headers = ranks.gather([*shape, mine.rows])
    if len({tuple(header[:-1]) for header in headers}) > 1:
        raise ExactnessError(
            "The ranks' statistics belong to different layouts or grids.",
            remedy="give every rank the same model's constants",
        )
    rows = sum(header[-1] for header in headers)
    mine.grid.require(rows)
    return Statistics(mine.grid, _summed(mine.gram, ranks), _summed(mine.moment, ranks), rows)


def _summed(array: NDArray[np.int64], ranks: Ranks) -> NDArray[np.int64]:
    return ranks.sum(torch.from_numpy(array.copy())).numpy()  # summed in place: the caller's array stays as it is
