"""One rank, started by torchrun: `rank.py MODEL COHORT TARGET`; each rank writes what it ends with to TARGET-<rank>.

It also sends what a test of the reduction itself wants to know: sums that float64 cannot hold, and the two refusals.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch.distributed as dist

from mbd.cohort.folder import open_pieces
from mbd.errors import ExactnessError
from mbd.lattice.distributed import sum_over_ranks
from mbd.lattice.model import load_model
from mbd.lattice.statistics import Grid, Statistics
from mbd.lattice.streaming import stream_statistics


def main(model_folder: str, cohort: str, target: str) -> None:
    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    model = load_model(Path(model_folder))
    mine = stream_statistics(model.featurizer, open_pieces(Path(cohort)), rows=7, shard=rank, shards=ranks)
    before = mine.gram.copy()
    total = sum_over_ranks(mine)
    found = {
        "ranks": ranks,
        "rows": mine.rows,
        "commitment": total.commitment(model.salt),
        "unchanged": bool(np.array_equal(mine.gram, before)),
        "odd": odd_sum(rank),
        "layouts": refusal(mine if rank else mine.at(np.arange(2))),
        "bound": refusal(at_the_bound(mine.grid)),
    }
    dist.destroy_process_group()
    Path(f"{target}-{rank}").write_text(json.dumps(found))


def odd_sum(rank: int) -> list[int]:
    """Numbers whose sum float64 cannot hold; the row bound keeps real entries far below."""
    grid = Grid(feature_bits=1, label_limit=1)
    value = 2**61 + 1 + 2 * rank
    gram = np.array([[value, -value], [-value, 1]], np.int64)
    return sum_over_ranks(Statistics(grid, gram, gram[:, :1], 1)).gram.flatten().tolist()


def at_the_bound(grid: Grid) -> Statistics:
    """Statistics of as many rows as one process may hold."""
    return replace(Statistics.zero(grid, 2, 1), rows=grid.max_rows)


def refusal(mine: Statistics) -> str:
    try:
        sum_over_ranks(mine)
    except ExactnessError as error:
        return error.message
    return "no refusal"


main(*sys.argv[1:])
