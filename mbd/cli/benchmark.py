"""``mbd benchmark``: the networks of the zoo, trained and tested alike on a cohort."""

import os
from pathlib import Path
from typing import Annotated

import typer

from mbd.cli.models import RecipeOption, recipe_named
from mbd.cli.options import DropSuppressed, Home, Json
from mbd.cli.output import command, settings_for


def benchmark(
    cohort: Annotated[
        Path, typer.Option(metavar="DIR", exists=True, file_okay=False, help="A cohort folder (mbd data import).")
    ],
    folder: Annotated[
        Path, typer.Option("--out", metavar="DIR", file_okay=False, help="Where results, table and pictures go.")
    ],
    backbones: Annotated[str, typer.Option(metavar="NAMES", help="all, or names with commas between them.")] = "all",
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="How channels are lost; may be repeated. fixed, rates, frames, spans, shared, imbalanced, spectrum.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="How many times each network is trained.")] = 5,
    recipe: RecipeOption = "mosi",
    jobs: Annotated[
        int, typer.Option(metavar="N", min=1, help="Processes side by side.", show_default="one a core")
    ] = os.cpu_count() or 1,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do everything again, also what is finished.")] = False,
    drop_suppressed: DropSuppressed = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Compare the networks of the zoo on a cohort.

    Each is trained by the one loop on everybody's training rows, and answers by itself while channels are taken away in
    many ways. A leaderboard and pictures are written. An interrupted benchmark goes on when the same command is given
    again.
    """
    with command(as_json) as out:
        from mbd.benchmark.leaderboard import METRICS, by_protocol
        from mbd.workflow.benchmarking import run_benchmark

        with out.stages() as stages:
            board, files = run_benchmark(
                settings_for(home),
                cohort,
                recipe=recipe_named(recipe),
                backbones=None if backbones == "all" else tuple(name.strip() for name in backbones.split(",")),
                protocols=None if protocol is None else tuple(protocol),
                seeds=seeds,
                jobs=jobs,
                out=folder,
                fresh=fresh,
                drop_channels=drop_suppressed,
                on_progress=lambda done, about: stages.update("networks", done, about),
            )
        columns, rows = by_protocol(board)
        out.result = {
            "metric": board.headline,
            "leaderboard": [dict(zip(columns, row, strict=True)) for row in rows],
            "files": [str(path) for path in files],
        }
        out.table(f"{METRICS[board.headline]}, mean over conditions", columns, rows)
        for path in files:
            out.unbroken("Written", path)
