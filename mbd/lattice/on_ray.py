"""Statistics of a cohort folder, accumulated by Ray tasks. It needs the extra ``ray``, and starts no cluster itself.

Each task reads its shard of the folder's Parquet and safetensors files by itself, and only integers travel: no row
enters Ray's object store, where it could be spilled to a disk that no withdrawal reaches.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbd.cohort.folder import open_pieces
from mbd.errors import MbdError, SettingsError
from mbd.lattice.model import load_model
from mbd.lattice.statistics import Grid, Statistics
from mbd.lattice.streaming import PIECE_ROWS, stream_statistics

Arrays = dict[str, NDArray[np.int64]]


def ray_statistics(model: Path, cohort: Path, *, tasks: int, rows: int = PIECE_ROWS) -> Statistics:
    """The statistics of the training rows of a cohort folder under a model's constants.

    Partial sums are added as they arrive, in whatever order; a task that Ray repeats gives the same bits again.

    Args:
        model: folder of a saved model; every worker sees it under this path.
        cohort: a cohort folder, seen likewise.
        tasks: how many shards to make, one CPU each.
        rows: of a piece.

    Raises:
        SettingsError: Ray is not installed, or not started.
        CohortError: the folder is damaged.
        ExactnessError: the sums could reach 2^53; checked before each sum.
    """
    ray = _started_ray()
    total = Statistics.zero(*_shape(model, cohort))
    run = ray.remote(_shard)
    waiting = [run.remote(model, cohort, rows, shard, tasks) for shard in range(tasks)]
    while waiting:
        [done], waiting = ray.wait(waiting, num_returns=1)
        try:
            part = ray.get(done)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, MbdError):
                raise error.cause from error
            raise
        total += Statistics.from_arrays(part)
    return total


def _shard(model: Path, cohort: Path, rows: int, shard: int, shards: int) -> Arrays:
    """One task: nothing but integers leaves it."""
    featurizer = load_model(model).featurizer
    return stream_statistics(featurizer, open_pieces(cohort), rows=rows, shard=shard, shards=shards).arrays()


def _shape(model: Path, cohort: Path) -> tuple[Grid, int, int]:
    """Grid, width and outputs; files that are damaged are found here, before any task is started."""
    featurizer = load_model(model).featurizer
    return featurizer.grid, featurizer.layout.width, open_pieces(cohort).task.outputs


def _started_ray() -> Any:
    try:
        ray = import_module("ray")
    except ImportError as error:
        raise SettingsError(
            "Ray is not installed.", remedy="install the extra: pip install 'missing-by-design[science,ray]'"
        ) from error
    if not ray.is_initialized():
        raise SettingsError("Ray is not started.", remedy="call ray.init() first, with the cluster's address if any")
    return ray
