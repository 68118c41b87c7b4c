"""Statistics of a cohort folder in pieces: the bits of one pass in memory, and memory that does not grow with rows."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbd.cohort import folder
from mbd.cohort.cohort import Partition, Split
from mbd.cohort.copies import copy_folder
from mbd.cohort.modality import Modality
from mbd.errors import CohortError, ExactnessError
from mbd.lattice.layout import Layout
from mbd.lattice.model import save_model
from mbd.lattice.statistics import Grid
from mbd.lattice.streaming import stream_statistics, sum_pieces


@settings(max_examples=8)
@given(rows=st.integers(1, 70), shards=st.integers(1, 5), seed=st.integers(0, 2**32))
def test_pieces_of_any_size_and_shards_in_any_order_give_the_bits_of_one_pass(stored, rows, shards, seed):
    pieces, featurizer = folder.open_pieces(stored.cohort), stored.made.featurizer
    order = np.random.default_rng(seed).permutation(shards).tolist()
    parts = [stream_statistics(featurizer, pieces, rows=rows, shard=shard, shards=shards) for shard in order]
    total = sum(parts[1:], parts[0])
    assert total == stored.made.statistics
    assert total.commitment(stored.made.salt) == stored.made.commitment


@settings(max_examples=4)
@given(seed=st.integers(0, 2**32))
def test_the_order_of_pieces_does_not_matter(stored, seed):
    pieces = folder.open_pieces(stored.cohort)
    cohorts = list(pieces.read(5))
    shuffled = [cohorts[i] for i in np.random.default_rng(seed).permutation(len(cohorts))]
    assert sum_pieces(stored.made.featurizer, pieces.head.task, shuffled) == stored.made.statistics


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
    with pytest.raises(CohortError, match=r"or a part of it is missing.*features"):
        next(pieces)


def of_long_sequences(cohort, rows):
    """So many copies of a cohort's public rows, each with 12 kB of voice."""
    base = cohort.where(partition=Partition.PUBLIC, split=Split.TRAIN)
    rng = np.random.default_rng(0)
    many = base.select(rng.integers(len(base), size=rows))
    voice = rng.normal(size=(1500, 2)).astype(np.float32)
    named = tuple(replace(row, clip=f"clip-{i}") for i, row in enumerate(many.rows))
    return replace(many, rows=named, features={**many.features, Modality.AUDIO: tuple(voice + i for i in range(rows))})


# One arena, and large blocks given back at once: what many threads leave in arenas of their own is not what counts.
MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


@pytest.fixture(scope="module")
def long_cohorts(random_cohort, fit_small, tmp_path_factory):
    """A model whose features are the channels themselves, and cohorts of 400 and 5,000 rows: 5 and 60 MB of voice."""
    base, cohort = tmp_path_factory.mktemp("long"), random_cohort(11, subjects=14, clips=4)
    model = fit_small(cohort)
    layout = Layout(model.layout.raw_widths, 0, {g: 1.0 for g in model.layout.groups if g.endswith(".raw")})
    featurizer = model.featurizer.with_layout(layout)
    statistics = featurizer.statistics(cohort)
    bare = replace(model, featurizer=featurizer, statistics=statistics, heads={})
    save_model(bare, base / "model", cohort_root="c" * 64)
    for rows in (400, 5000):
        folder.write(of_long_sequences(cohort, rows), base / str(rows), key=bytes(32))
    return base


def growth(how, model, places, **environment):
    """By how many MB the peak of a process rises from 400 to 5,000 rows."""
    script = Path(__file__).with_name("peak_memory.py")
    command = [sys.executable, script, how, model, *places]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | MALLOC | environment)
    assert done.returncode == 0, done.stderr[-4000:]
    return float(done.stdout)


def test_memory_does_not_grow_with_the_rows(long_cohorts):
    """A piece takes three MB; all rows take over sixty."""
    assert growth("stream", long_cohorts / "model", [long_cohorts / "400", long_cohorts / "5000"]) < 20


def test_memory_does_not_grow_with_the_rows_of_a_bucket(long_cohorts, s3):
    bucket = s3.bucket()
    urls = [f"s3://{bucket}/{rows}" for rows in ("400", "5000")]
    for url in urls:
        copy_folder(long_cohorts / url.rpartition("/")[2], url, **s3.options)
    reach = {"AWS_ENDPOINT_URL": s3.options["endpoint"], "AWS_REGION": s3.options["region"], "AWS_ALLOW_HTTP": "true"}
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    assert growth("stream", long_cohorts / "model", urls, **reach, **keys) < 20


def test_the_measurement_can_fail(long_cohorts):
    assert growth("load", long_cohorts / "model", [long_cohorts / "400", long_cohorts / "5000"]) > 50
