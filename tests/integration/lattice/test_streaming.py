"""Statistics of a cohort folder in pieces: the bits of one pass in memory, and memory that does not grow with rows."""

import json
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbd.cohort import folder
from mbd.cohort.cohort import Channel
from mbd.cohort.modality import Modality
from mbd.errors import CohortError, ExactnessError
from mbd.lattice.featurizer import Featurizer
from mbd.lattice.layout import Layout
from mbd.lattice.model import LatticeModel, save_model
from mbd.lattice.statistics import Grid
from mbd.lattice.streaming import stream_statistics, sum_pieces


@settings(max_examples=20)
@given(rows=st.integers(1, 70), shards=st.integers(1, 5), seed=st.integers(0, 2**32))
def test_pieces_of_any_size_and_shards_in_any_order_give_the_bits_of_one_pass(stored, rows, shards, seed):
    pieces, featurizer = folder.open_pieces(stored.cohort), stored.made.featurizer
    order = np.random.default_rng(seed).permutation(shards).tolist()
    parts = [stream_statistics(featurizer, pieces, rows=rows, shard=shard, shards=shards) for shard in order]
    total = sum(parts[1:], parts[0])
    assert total == stored.made.statistics
    assert total.commitment(stored.made.salt) == stored.made.commitment


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32))
def test_the_order_of_pieces_does_not_matter(stored, seed):
    pieces = folder.open_pieces(stored.cohort)
    cohorts = list(pieces.read(5))
    shuffled = [cohorts[i] for i in np.random.default_rng(seed).permutation(len(cohorts))]
    assert sum_pieces(stored.made.featurizer, pieces.task, shuffled) == stored.made.statistics


def test_a_shard_without_rows_has_the_statistics_of_nobody(stored):
    pieces = folder.open_pieces(stored.cohort)
    nobody = stream_statistics(stored.made.featurizer, pieces, rows=10**6, shard=1, shards=2)
    assert nobody.rows == 0
    assert nobody + stored.made.statistics == stored.made.statistics


def test_a_cohort_without_rows_has_the_statistics_of_nobody(stored, tmp_path):
    folder.write(folder.read(stored.cohort).select([]), tmp_path / "empty", key=bytes(32))
    assert stream_statistics(stored.made.featurizer, folder.open_pieces(tmp_path / "empty")).rows == 0


def test_the_bound_holds_for_the_sum_of_the_pieces(stored):
    """Each piece is within the bound; all together are not."""
    coarse = Grid(feature_bits=11, label_limit=2**53 // (30 * 2**11))
    assert 10 < coarse.max_rows < stored.made.statistics.rows
    with pytest.raises(ExactnessError, match="float64 rounds"):
        stream_statistics(replace(stored.made.featurizer, grid=coarse), folder.open_pieces(stored.cohort), rows=10)


@pytest.mark.parametrize(
    "asked", [{"rows": 0}, {"rows": 5, "shard": 2, "shards": 2}, {"rows": 5, "shard": -1, "shards": 2}]
)
def test_a_shard_that_cannot_be_is_refused(stored, asked):
    with pytest.raises(CohortError, match="There is no shard"):
        next(folder.open_pieces(stored.cohort).read(**asked))


def test_a_folder_that_was_changed_is_not_opened(random_cohort, tmp_path):
    folder.write(random_cohort(3), tmp_path / "c", key=bytes(32))
    path = tmp_path / "c" / "features.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(CohortError, match=r"features\.safetensors is not the file"):
        folder.open_pieces(tmp_path / "c")


def test_a_folder_that_disappears_while_it_is_read_is_an_error_of_ours(random_cohort, tmp_path):
    folder.write(random_cohort(3), tmp_path / "c", key=bytes(32))
    pieces = folder.open_pieces(tmp_path / "c").read(5)
    next(pieces)
    (tmp_path / "c" / "features.safetensors").unlink()
    with pytest.raises(CohortError, match="no features"):
        next(pieces)
