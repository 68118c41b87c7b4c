"""A benchmark of the zoo as a command: channels that were withdrawn stay out of it, like out of every training."""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from mbd.backbones.zoo import ZOO
from mbd.benchmark.leaderboard import Leaderboard
from mbd.benchmark.plan import Plan, telling_protocols
from mbd.benchmark.report import write_report
from mbd.benchmark.runner import OnProgress, run
from mbd.cohort import folder
from mbd.cohort.manifest import KEY_BYTES
from mbd.cohort.protocols import Protocol
from mbd.cohort.suppression import Suppressed, drop_suppressed, refuse_suppressed
from mbd.errors import BenchmarkError
from mbd.settings import Settings
from mbd.training.recipe import Recipe
from mbd.workflow.system import suppressed_in


def run_benchmark(
    settings: Settings,
    stored: Path,
    *,
    recipe: Recipe,
    backbones: Sequence[str] | None,
    protocols: Sequence[str] | None,
    seeds: int,
    jobs: int,
    out: Path,
    fresh: bool,
    drop_channels: bool,
    on_progress: OnProgress,
) -> tuple[Leaderboard, Sequence[Path]]:
    """Train and test networks on a cohort, and write the leaderboard and pictures; the results, and the files' paths.

    Args:
        settings: of the deployment whose suppression list counts, if there is one.
        stored: the cohort folder.
        recipe: of all networks.
        backbones: their names; None for the whole zoo.
        protocols: in which ways channels are lost; None for all that tell something of this cohort.
        seeds: how many times each is trained.
        jobs: how many processes work side by side.
        out: where results are kept, and an interrupted benchmark goes on.
        fresh: do everything again.
        drop_channels: make suppressed channels absent instead of refusing them.
        on_progress: told how far it is.

    Raises:
        ChannelSuppressedError: the cohort holds channels that were withdrawn.
        BenchmarkError: as `mbd.benchmark.runner.run`; or there is no such backbone or protocol.
        TrainingError: a network cannot be trained on this cohort.
    """
    named = telling_protocols(folder.open_pieces(stored).head) if protocols is None else map(_protocol, protocols)
    plan = Plan(recipe, tuple(ZOO) if backbones is None else tuple(backbones), seeds, tuple(named))
    with _allowed(stored, suppressed_in(settings), drop=drop_channels) as allowed:
        results = run(plan, allowed, out=out, jobs=jobs, fresh=fresh, on_progress=on_progress)
        cohort = folder.read(allowed)
    board = Leaderboard(results, cohort.modalities)
    return board, write_report(plan, cohort, results, board, out)


@contextmanager
def _allowed(stored: Path, suppressed: Suppressed, *, drop: bool) -> Iterator[Path]:
    """A folder with the channels that may be used, for as long as the body runs."""
    if not drop:
        refuse_suppressed(folder.open_pieces(stored), suppressed)
        yield stored
        return
    with TemporaryDirectory(prefix="mbd-benchmark-") as place:
        rows = drop_suppressed(folder.read(stored), suppressed)
        folder.write(rows, Path(place) / "cohort", key=secrets.token_bytes(KEY_BYTES))
        yield Path(place) / "cohort"


def _protocol(name: str) -> Protocol:
    try:
        return Protocol(name)
    except ValueError:
        known = ", ".join(Protocol)
        raise BenchmarkError(f"There is no protocol '{name}'.", remedy=f"use some of: {known}") from None
