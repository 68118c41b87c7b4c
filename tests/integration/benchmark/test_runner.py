"""A benchmark in processes of its own: what is finished is kept, what was killed is done again, nothing is mixed."""

import json
import os
import shutil
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from mbd.benchmark.plan import Plan, Unit, source_of
from mbd.benchmark.runner import load, run
from mbd.cohort import folder
from mbd.cohort.manifest import KEY_BYTES
from mbd.cohort.protocols import Protocol
from mbd.errors import BenchmarkError, TrainingError
from mbd.training.recipe import Recipe

PLAN = Plan(Recipe(epochs=2, batch_size=8), ("mbd", "control"), 2, (Protocol.FIXED, Protocol.RATES))


@pytest.fixture(scope="module")
def stored(random_cohort, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("benchmark") / "cohort"
    folder.write(random_cohort(0, clips=6), target, key=bytes(KEY_BYTES))
    return target


@pytest.fixture(scope="module")
def finished(stored, tmp_path_factory):
    out = tmp_path_factory.mktemp("benchmark") / "out"
    told = []
    results = run(PLAN, stored, out=out, jobs=2, on_progress=lambda done, about: told.append((done, about)))
    return out, results, told


def without_cost(results):
    return [{name: value for name, value in each.to_json().items() if name != "milliseconds"} for each in results]


def test_every_network_is_tested_at_every_seed_on_the_same_masks(finished):
    _, results, told = finished
    assert [(each.backbone, each.seed) for each in results] == [(u.backbone, u.seed) for u in PLAN.units]
    for first, second in (results[:2], results[2:]):
        assert {n: m.masks for n, m in first.conditions.items()} == {n: m.masks for n, m in second.conditions.items()}
    rates = [each.conditions["rates/0.5"].masks for each in results]
    assert rates[0] != rates[2]
    for each in results:
        assert sum(each.rows) == 6
        assert each.conditions["fixed/tav"].metrics["mae"] == pytest.approx(
            sum(each.conditions["fixed/tav"].errors) / 6
        )
        assert each.conditions["rates/0.0"].metrics == each.conditions["fixed/tav"].metrics
        assert each.milliseconds > 0
        assert each.mli > 0
        assert each.chosen_epoch < each.epochs == 2
    assert told[-1][0] == 1.0
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_the_number_of_processes_changes_no_number(finished, stored, tmp_path):
    one_seed = replace(PLAN, seeds=1)
    assert without_cost(run(one_seed, stored, out=tmp_path, jobs=1)) == without_cost(finished[1][:2])


def test_a_finished_benchmark_is_not_done_again_unless_it_is_asked_for(finished, stored):
    out, results, _ = finished
    written = {path: path.stat().st_mtime_ns for path in (out / "units").iterdir()}
    assert run(PLAN, stored, out=out) == results
    assert {path: path.stat().st_mtime_ns for path in (out / "units").iterdir()} == written


def test_more_seeds_add_to_what_is_there(finished, stored, tmp_path):
    shutil.copytree(finished[0], tmp_path / "out")
    for unit in PLAN.units[1:]:
        (tmp_path / "out" / "units" / f"{unit.name}.json").unlink()
    before = (tmp_path / "out" / "units" / "mbd-seed0.json").read_bytes()
    two_seeds = run(replace(PLAN, backbones=("mbd",)), stored, out=tmp_path / "out")
    assert without_cost(two_seeds) == without_cost(finished[1][::2])
    assert (tmp_path / "out" / "units" / "mbd-seed0.json").read_bytes() == before


def test_a_process_that_is_killed_is_named_and_leaves_no_half_result(stored, tmp_path):
    slow = Plan(Recipe(epochs=2_000, batch_size=8, patience=2_000), ("mbd",), 1, PLAN.protocols)
    killed = threading.Event()

    def kill(_done, _about):
        if not killed.is_set():
            children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
            spawned = [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
            killed.set()
            os.kill(spawned[-1], signal.SIGKILL)

    with pytest.raises(BenchmarkError, match=r"mbd-seed0 was ended from outside \(exit code -9\)") as caught:
        run(slow, stored, out=tmp_path, on_progress=kill)
    assert "what was finished is kept" in caught.value.remedy
    assert list((tmp_path / "units").iterdir()) == []


def test_a_failure_ends_the_other_processes(stored, tmp_path):
    diverging = Plan(Recipe(epochs=50, batch_size=8, learning_rate=1e30), ("mbd", "control"), 1, PLAN.protocols)
    with pytest.raises(TrainingError, match="diverged"):
        run(diverging, stored, out=tmp_path, jobs=2)
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    assert not [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_results_of_another_recipe_are_not_mixed_with_these(finished, stored):
    out, _, _ = finished
    other = Plan(Recipe(epochs=3, batch_size=8), PLAN.backbones, 2, PLAN.protocols)
    with pytest.raises(BenchmarkError, match="another benchmark: recipe differ") as caught:
        run(other, stored, out=out)
    assert "--fresh" in caught.value.remedy


def test_a_network_whose_file_was_changed_is_done_again_and_the_others_are_not(finished, stored, tmp_path):
    shutil.copytree(finished[0], tmp_path / "out")
    units = {path.name: path for path in (tmp_path / "out" / "units").iterdir()}
    before = {name: path.read_bytes() for name, path in units.items()}
    old = json.loads(before["mbd-seed1.json"]) | {"source": "0" * 64, "mli": -1.0}
    units["mbd-seed1.json"].write_text(json.dumps(old))
    assert without_cost(run(PLAN, stored, out=tmp_path / "out")) == without_cost(finished[1])
    after = {name: path.read_bytes() for name, path in units.items()}
    assert {name for name in after if after[name] != before[name]} <= {"mbd-seed1.json"}
    assert json.loads(after["mbd-seed1.json"])["source"] == source_of("mbd") != source_of("control")


def test_a_damaged_result_is_named(finished, tmp_path):
    out, results, _ = finished
    (tmp_path / "units").mkdir()
    path = tmp_path / "units" / "mbd-seed0.json"
    path.write_bytes((out / "units" / "mbd-seed0.json").read_bytes())
    assert load(tmp_path, Unit("mbd", 0)) == results[0]
    for damaged in ("{", "{}", json.dumps(results[0].to_json() | {"unknown": 1})):
        path.write_text(damaged)
        with pytest.raises(BenchmarkError, match="is not a result"):
            load(tmp_path, Unit("mbd", 0))
