"""Statistics of a cohort folder, here or in a bucket, accumulated by Ray tasks. It needs the extra ``ray``.

It starts no cluster itself. Each task reads its shard of the folder's Parquet and safetensors files by ranges, and only
integers travel: no row enters Ray's object store, where it could be spilled to a disk that no withdrawal reaches.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbd.cohort.folder import PIECE_ROWS, Pieces, open_pieces
from mbd.errors import MbdError, SettingsError
from mbd.lattice.model_store import open_featurizer
from mbd.lattice.statistics import Statistics
from mbd.lattice.streaming import stream_statistics

Arrays = dict[str, NDArray[np.int64]]


def ray_statistics(
    model: str | Path, cohort: str | Path, *, tasks: int, rows: int = PIECE_ROWS, **options: Any
) -> Statistics:
    """The statistics of the training rows of a cohort folder under a model's constants.

    The folder's files are compared with their digests once, here, before any task starts; a task that finds another
    file fails. Partial sums are added as they arrive, in whatever order; a task that Ray repeats gives the same bits
    again.

    Args:
        model: a saved model's folder, which every worker sees under this path, or ``STORE/ADDRESS``, of which workers
            fetch the public constants by themselves.
        cohort: a cohort folder on a filesystem that all workers share, or its ``s3://BUCKET/PREFIX``.
        tasks: how many shards to make, one CPU each.
        rows: of a piece.
        options: for S3, see `mbd.cohort.place.open_place`. They travel with the tasks, keys included; without any, the
            AWS_ variables of each worker hold.

    Raises:
        SettingsError: Ray is not installed, or not started.
        CohortError: the folder is damaged, or changes meanwhile.
        StoreError: a blob of the model is missing or damaged, or the store cannot be used.
        TrainingError: a file of the model's folder is damaged.
        ExactnessError: the sums could reach 2^53; checked before each sum.
    """
    ray = _started_ray()
    featurizer, pieces = open_featurizer(model, **options), open_pieces(cohort, **options)
    total = Statistics.zero(featurizer.grid, featurizer.layout.width, pieces.head.task.outputs)
    run = ray.remote(_shard)
    waiting = [run.remote(model, pieces, options, rows=rows, shard=shard, shards=tasks) for shard in range(tasks)]
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


def _shard(model: str | Path, pieces: Pieces, options: dict[str, Any], *, rows: int, shard: int, shards: int) -> Arrays:
    """One task: nothing but integers leaves it."""
    featurizer = open_featurizer(model, **options)
    return stream_statistics(featurizer, pieces, rows=rows, shard=shard, shards=shards).arrays()


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
