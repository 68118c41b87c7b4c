"""Runs the units of a plan in parallel, keeps each result as soon as it is there, and goes on where it was stopped.

It knows no network and no protocol. Every unit is one process's work from beginning to end, with one thread, so that
how many run side by side changes no number but the milliseconds.
"""

import json
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from mbd.benchmark.plan import Plan, Unit, identity, require_rows, source_of
from mbd.benchmark.result import Result
from mbd.benchmark.unit import run_unit
from mbd.cohort import folder
from mbd.cohort.cohort import Cohort
from mbd.durable import write_durably
from mbd.errors import BenchmarkError

OnProgress = Callable[[float, str], None]
"""Called with the finished fraction of the whole, and what was done last."""

_MANIFEST = "benchmark.json"
_UNITS = "units"


def run(
    plan: Plan, stored: Path, *, out: Path, jobs: int = 1, fresh: bool = False, on_progress: OnProgress | None = None
) -> list[Result]:
    """Every unit's result, in the plan's order; those that an earlier run left in ``out`` are not done again.

    Those of a network whose file was changed since are.

    Crash point: a result is written whole or not at all; a unit that was not is done again from its start.

    Args:
        plan: what.
        stored: the cohort folder.
        out: where the results are kept.
        jobs: how many processes work side by side.
        fresh: do everything again.
        on_progress: told after every epoch.

    Raises:
        BenchmarkError: ``out`` holds results of another recipe, cohort, protocol or library version; or a process was
            ended from outside. What was finished is kept.
        TrainingError: a network cannot be trained on this cohort.
    """
    cohort = folder.read(stored)
    require_rows(cohort)
    _claim(out, plan, cohort, fresh=fresh)
    waiting = [unit for unit in plan.units if not _done(out, unit)]
    if waiting:
        _run_all(plan, waiting, stored, out, jobs=jobs, on_progress=on_progress)
    return [load(out, unit) for unit in plan.units]


def _done(out: Path, unit: Unit) -> bool:
    return _path(out, unit).exists() and load(out, unit).source == source_of(unit.backbone)


def load(out: Path, unit: Unit) -> Result:
    """A unit's result, as `run` kept it.

    Raises:
        BenchmarkError: the file is not one.
    """
    path = _path(out, unit)
    try:
        return Result.from_json(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BenchmarkError(f"{path} is not a result ({error}).", remedy="remove it, and run again") from error


def _claim(out: Path, plan: Plan, cohort: Cohort, *, fresh: bool) -> None:
    """Make the folder this benchmark's own, or see that it is."""
    found = identity(plan, cohort)
    manifest = out / _MANIFEST
    (out / _UNITS).mkdir(parents=True, exist_ok=True)
    if fresh:
        for path in (out / _UNITS).glob("*.json"):
            path.unlink()
    elif manifest.exists():
        kept: Mapping[str, Any] = json.loads(manifest.read_bytes())
        changed = sorted(name for name in found if kept.get(name) != found[name])
        if changed:
            raise BenchmarkError(
                f"{out} holds results of another benchmark: {', '.join(changed)} differ.",
                remedy="give another --out, or --fresh to do everything again",
            )
    write_durably(manifest, (json.dumps(found, indent=2, sort_keys=True) + "\n").encode())


@dataclass
class _Running:
    """A process at work, and what it tells: finished fractions, or the error that ended it."""

    unit: Unit
    process: BaseProcess
    told: Connection


def _run_all(
    plan: Plan, waiting: Sequence[Unit], stored: Path, out: Path, *, jobs: int, on_progress: OnProgress | None
) -> None:
    fractions = dict.fromkeys(plan.units, 1.0) | dict.fromkeys(waiting, 0.0)
    queue, running = deque(waiting), list[_Running]()
    try:
        while queue or running:
            while queue and len(running) < jobs:
                running.append(_start(plan, queue.popleft(), stored, out))
            ready = connection.wait([each.told for each in running])
            for each in [each for each in running if each.told in ready]:
                done = _hear(each)
                fractions[each.unit] = 1.0 if done is None else done
                if done is None:
                    running.remove(each)
                if on_progress:
                    on_progress(
                        sum(fractions.values()) / len(fractions), f"{each.unit.backbone}, seed {each.unit.seed}"
                    )
    finally:
        for each in running:
            each.process.kill()
            each.process.join()


def _start(plan: Plan, unit: Unit, stored: Path, out: Path) -> _Running:
    spawn = get_context("spawn")
    told, tells = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_work, args=(plan, unit, stored, out, tells), daemon=True)
    process.start()
    tells.close()  # so that the pipe ends with the process
    return _Running(unit, process, told)


def _hear(each: _Running) -> float | None:
    """How far the process is; None when it has ended, and its result is kept.

    Raises:
        BenchmarkError: it was ended from outside.
        Exception: what it could not do.
    """
    try:
        heard = each.told.recv()
    except EOFError:
        each.process.join()
        if each.process.exitcode != 0:
            raise BenchmarkError(
                f"The process for {each.unit.name} was ended from outside (exit code {each.process.exitcode}).",
                remedy="run it again, with fewer --jobs if memory ran out: what was finished is kept",
            ) from None
        return None
    if isinstance(heard, Exception):
        raise heard
    return float(heard)


def _work(plan: Plan, unit: Unit, stored: Path, out: Path, tells: Connection) -> None:
    """What a process does. When the first process has died, its next word ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the first process's to answer, which then ends this one
    try:
        result = run_unit(plan, unit, folder.read(stored), on_progress=tells.send)
        write_durably(_path(out, unit), (json.dumps(result.to_json()) + "\n").encode())
    except Exception as error:  # noqa: BLE001 - the first process raises it
        tells.send(error)


def _path(out: Path, unit: Unit) -> Path:
    return out / _UNITS / f"{unit.name}.json"
