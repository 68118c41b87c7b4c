"""Consequence 3 of exact arithmetic, across real processes: shards summed anywhere give the bits of one process."""

import multiprocessing

import numpy as np

from mbd.lattice.fit import training_rows
from mbd.lattice.model import load_model, save_model


def shard_statistics(folder, cohort, rows):
    """The statistics of some rows, computed in another process from the saved model's constants."""
    return load_model(folder).featurizer.statistics(cohort.select(rows)).arrays()


def test_two_processes_sum_to_the_bits_of_one(random_cohort, fit_small, tmp_path):
    from mbd.lattice.statistics import Statistics

    cohort = random_cohort(11, subjects=14, clips=4)
    model = fit_small(cohort)
    save_model(model, tmp_path / "model", cohort_root="c" * 64)
    rows = training_rows(cohort)
    shuffled = np.random.default_rng(0).permutation(len(rows)).tolist()
    shards = [shuffled[0::3], shuffled[1::3], shuffled[2::3]]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        parts = pool.starmap(shard_statistics, [(tmp_path / "model", rows, shard) for shard in shards])
    total = sum((Statistics.from_arrays(part) for part in parts[1:]), Statistics.from_arrays(parts[0]))
    assert total == model.statistics
    assert total.commitment(model.salt) == model.commitment
