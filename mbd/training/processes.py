"""`train` by several processes of this machine: this one, and others that it starts and joins over the loopback.

This process is the first rank: whoever holds the lock over the checkpoint is the only one that writes it, and when it
ends, so do the others. It knows no other machine: there, torchrun starts the processes.
"""

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch.distributed as dist

from mbd.cohort import folder
from mbd.cohort.cohort import Cohort, Partition
from mbd.errors import RanksError
from mbd.training.loop import OnProgress, Trained, train
from mbd.training.randomness import Device
from mbd.training.recipe import Recipe

_SILENCE = timedelta(minutes=10)
"""How long a process that is alive may keep the others waiting."""

_GRACE_SECONDS = 5.0
_AGAIN = "give the command again, with fewer processes if memory ran out: training goes on from its last epoch"


@dataclass(frozen=True)
class _Work:
    """What the other processes do: the same training, on the same rows.

    Attributes:
        count: of all processes.
        meeting: a folder where each leaves a file when it has come.
        stored: the cohort folder.
        errors: where one that cannot go on leaves the reason.
    """

    count: int
    meeting: Path
    stored: Path
    errors: "SimpleQueue[Exception]"
    recipe: Recipe
    seed: int
    checkpoint_dir: Path | None


def train_by(
    processes: int,
    recipe: Recipe,
    cohort: Cohort,
    *,
    stored: Path,
    seed: int,
    manifest_root: str | None = None,
    on_progress: OnProgress | None = None,
    checkpoint_dir: Path | None = None,
    device: Device = "cpu",
) -> Trained:
    """`train` by so many processes, this one included; by this one alone, it is the same call.

    Args:
        processes: how many.
        recipe: what to train, how, and on whose rows.
        cohort: the rows.
        stored: the folder where the other processes read the same rows.
        seed: of everything random.
        manifest_root: Merkle root of the cohort's manifest (hex), for the transcript.
        on_progress: told about each epoch.
        checkpoint_dir: where a killed run goes on from.
        device: where the network trains.

    Raises:
        TrainingError: as `train` says.
        RanksError: another process ended before its time, or read other rows.
    """

    def of_this_process() -> Trained:
        return train(
            recipe,
            cohort,
            seed=seed,
            partitions=recipe.partitions,
            manifest_root=manifest_root,
            on_progress=on_progress,
            checkpoint_dir=checkpoint_dir,
            device=device,
        )

    if processes == 1:
        return of_this_process()
    with TemporaryDirectory(prefix="mbd-ranks-") as meeting:
        errors: SimpleQueue[Exception] = get_context("spawn").SimpleQueue()
        with _others(_Work(processes, Path(meeting), stored, errors, recipe, seed, checkpoint_dir)):
            return of_this_process()


@contextmanager
def _others(work: _Work) -> Iterator[None]:
    """The other processes, for as long as the body runs; none is left after it."""
    others = [
        get_context("spawn").Process(target=_other, args=(rank, work), daemon=True) for rank in range(1, work.count)
    ]
    try:
        for other in others:
            other.start()
        _join(0, work, waits_for=others)
        yield
        dist.destroy_process_group()
        for other in others:
            other.join(_GRACE_SECONDS)
    except RanksError as error:
        raise _cause(others, work, error) from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        for other in others:
            if other.is_alive():
                other.kill()
                other.join()


def _other(rank: int, work: _Work) -> None:
    """What another process does. It says nothing of a process that stopped before it: that one says why itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the first process's to answer, which then ends this one
    try:
        stored, recipe = folder.open_pieces(work.stored), work.recipe
        cohort = stored.where(None if recipe.sees_revocable else Partition.PUBLIC)
        _join(rank, work, waits_for=[parent_process()])
        train(recipe, cohort, seed=work.seed, partitions=recipe.partitions, checkpoint_dir=work.checkpoint_dir)
    except RanksError:
        return
    except Exception as error:  # noqa: BLE001  (the first process raises it)
        work.errors.put(error)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _join(rank: int, work: _Work, *, waits_for: Sequence[Any]) -> None:
    """Meet the other processes over the loopback, unless one that this one waits for has ended instead.

    Raises:
        RanksError: it has.
    """
    (work.meeting / f"rank-{rank}").touch()
    while len(list(work.meeting.glob("rank-*"))) < work.count:
        if not all(process.is_alive() for process in waits_for):
            raise RanksError("A training process ended before it had begun.", remedy=_AGAIN)
        time.sleep(0.02)
    options: Any = dist.ProcessGroupGloo._Options()  # type: ignore[attr-defined]  # noqa: SLF001  (it has no public name)
    options._devices = [dist.ProcessGroupGloo.create_device(hostname="127.0.0.1")]  # noqa: SLF001  (nor has this)
    options._timeout = _SILENCE  # noqa: SLF001  (nor this)
    place = f"file://{work.meeting / 'store'}"
    dist.init_process_group("gloo", init_method=place, rank=rank, world_size=work.count, pg_options=options)


def _cause(others: Sequence[BaseProcess], work: _Work, met: RanksError) -> Exception:
    """Why another process stopped, where it can be known: its own error, or the signal that ended it."""
    for other in others:
        other.join(_GRACE_SECONDS)
    if not work.errors.empty():
        return work.errors.get()
    if signals := [signal.Signals(-code).name for other in others if (code := other.exitcode or 0) < 0]:
        return RanksError(f"A training process was ended from outside ({', '.join(signals)}).", remedy=_AGAIN)
    return met
