"""Two Ray workers end with the bits of one process. Needs the extra `ray`; skipped, and said so, without it."""

import importlib.util
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from mbd.cohort.copies import copy_folder
from mbd.cohort.folder import open_pieces
from mbd.cohort.store import open_store
from mbd.errors import CohortError, SettingsError, StoreError
from mbd.lattice.model_store import push_model
from mbd.lattice.on_ray import _shard, ray_statistics

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="Ray is not installed: run `uv pip install -p .venv -c constraints.txt -e '.[dev]'`, then this test",
)

TOKEN = secrets.token_hex(32)
"""Of every cluster of this process: Ray reads it once, and the tests of a module may come in two halves."""


@pytest.fixture(scope="module")
def cluster():
    """A Ray of this test's own, with two workers, on the loopback, in a folder that is removed."""
    import ray

    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.delenv("RAY_AUTH_MODE")  # Ray sets it by itself; undone with the rest
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)  # or Ray writes one into the home
    place = Path(tempfile.mkdtemp(prefix="mbd-ray-", dir="/tmp"))  # a socket's path holds 107 bytes
    try:
        ray.init(
            address="local",
            num_cpus=2,
            object_store_memory=80 * 2**20,
            include_dashboard=False,
            configure_logging=False,
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=str(place),
        )
        yield
    finally:
        ray.shutdown()
        monkeypatch.undo()
        shutil.rmtree(place, ignore_errors=True)


@needs_ray
def test_ray_that_was_not_started_is_refused(stored):
    with pytest.raises(SettingsError, match="Ray is not started"):
        ray_statistics(stored.model, stored.cohort, tasks=2)


def test_without_ray_the_remedy_names_the_extra(stored, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SettingsError, match=r"missing-by-design\[science,ray\]"):
        ray_statistics(stored.model, stored.cohort, tasks=2)


@needs_ray
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(("tasks", "rows"), [(2, 7), (3, 1000)])
def test_the_workers_sum_to_the_bits_of_one_process(stored, tasks, rows):
    total = ray_statistics(stored.model, stored.cohort, tasks=tasks, rows=rows)
    assert total == stored.made.statistics
    assert total.commitment(stored.made.salt) == stored.made.commitment


@needs_ray
@pytest.mark.usefixtures("cluster")
def test_what_a_worker_refuses_is_an_error_of_ours(stored):
    with pytest.raises(CohortError, match="pieces of 0 rows"):
        ray_statistics(stored.model, stored.cohort, tasks=2, rows=0)


@pytest.fixture(scope="module")
def in_bucket(s3, stored):
    """The cohort's and the model's URL, and how to reach them."""
    bucket = s3.bucket()
    cohort, models = f"s3://{bucket}/cohorts/c", f"s3://{bucket}/models"
    copy_folder(stored.cohort, cohort, **s3.options)
    return f"{models}/{push_model(stored.model, open_store(models, **s3.options))}", cohort, s3.options


@needs_ray
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("rows", [7, 1000])
def test_the_workers_read_a_bucket_alone_and_sum_to_the_bits_of_one_process(stored, in_bucket, rows):
    model, cohort, options = in_bucket
    total = ray_statistics(model, cohort, tasks=2, rows=rows, **options)
    assert total == stored.made.statistics
    assert total.commitment(stored.made.salt) == stored.made.commitment


@needs_ray
@pytest.mark.usefixtures("cluster")
def test_rows_that_changed_after_the_check_fail_the_task(stored, tmp_path):
    """What a task is given is what was checked: another folder in its place is noticed in the worker."""
    import ray

    shutil.copytree(stored.cohort, tmp_path / "c")
    pieces = open_pieces(tmp_path / "c")
    shutil.rmtree(tmp_path / "c")
    shutil.copytree(stored.cohort, tmp_path / "c")
    task = ray.remote(_shard).remote(stored.model, pieces, {}, rows=7, shard=0, shards=1)
    with pytest.raises(ray.exceptions.RayTaskError) as caught:
        ray.get(task)
    assert isinstance(caught.value.cause, CohortError)
    assert "has changed since it was opened" in caught.value.cause.message


@needs_ray
@pytest.mark.usefixtures("cluster")
def test_a_model_that_is_not_in_the_store_is_an_error_of_ours(in_bucket):
    model, cohort, options = in_bucket
    with pytest.raises(StoreError, match="has no blob"):
        ray_statistics(f"{model.rpartition('/')[0]}/{'a' * 64}", cohort, tasks=2, **options)


@needs_ray
@pytest.mark.usefixtures("cluster")
def test_a_damaged_folder_is_found_before_any_task(stored, tmp_path):
    shutil.copytree(stored.cohort, tmp_path / "c")
    (tmp_path / "c" / "rows.parquet").write_bytes(b"nothing")
    with pytest.raises(CohortError, match=r"rows\.parquet is not the file"):
        ray_statistics(stored.model, tmp_path / "c", tasks=2)
