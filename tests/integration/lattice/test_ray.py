"""Two Ray workers end with the bits of one process. Needs the extra `ray`; skipped, and said so, without it."""

import importlib.util
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from mbd.errors import CohortError, SettingsError
from mbd.lattice.on_ray import ray_statistics

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="Ray is not installed: run `uv pip install -p .venv -c constraints.txt -e '.[dev]'`, then this test",
)


@pytest.fixture(scope="module")
def cluster():
    """A Ray of this test's own, with two workers, on the loopback, in a folder that is removed."""
    import ray

    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.delenv("RAY_AUTH_MODE")  # Ray sets it by itself; undone with the rest
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))  # or Ray writes one into the home
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


@needs_ray
@pytest.mark.usefixtures("cluster")
def test_a_damaged_folder_is_found_before_any_task(stored, tmp_path):
    shutil.copytree(stored.cohort, tmp_path / "c")
    (tmp_path / "c" / "rows.parquet").write_bytes(b"nothing")
    with pytest.raises(CohortError, match=r"rows\.parquet is not the file"):
        ray_statistics(stored.model, tmp_path / "c", tasks=2)
