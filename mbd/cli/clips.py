"""``mbd clips``: read short videos in stages, summarise and score what was read, and make a cohort's table of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mbd.cli.options import Home, Json
from mbd.cli.output import Output, command, settings_for

if TYPE_CHECKING:
    from mbd.clips.manifest import Clip
    from mbd.clips.pipeline import Reading

app = typer.Typer(help="Read short videos: words, opinions, scenes.", no_args_is_help=True)

List = Annotated[
    Path, typer.Argument(metavar="LIST", exists=True, dir_okay=False, help="The list of clips: a CSV file.")
]
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", file_okay=False, help="Where readings are kept.")]


@app.command()
def read(
    listed: List,
    folder: Folder,
    stages: Annotated[
        Path, typer.Option(metavar="FILE", exists=True, dir_okay=False, help="Which stages: a TOML file.")
    ],
    fresh: Annotated[bool, typer.Option("--fresh", help="Read all clips again.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Run the stages over clips; what is read already is kept.

    What a person withdrew is not decoded, and a reading that held it is made anew without it.
    """
    with command(as_json) as out:
        from mbd.clips.manifest import read_manifest
        from mbd.clips.pipeline import read_clips
        from mbd.clips.stages import load_stages
        from mbd.workflow.system import suppressed_in

        with out.stages() as shown:
            found = read_clips(
                read_manifest(listed),
                load_stages(stages),
                folder,
                withheld=suppressed_in(settings_for(home)),
                fresh=fresh,
                on_progress=lambda done, about: shown.update("clips", done, about),
            )
        out.result = {
            "clips": len(found),
            "transcripts": sum(reading.transcript is not None for reading in found),
            "opinions": sum(len(reading.opinions) for reading in found),
            "frames": sum(len(reading.scenes) for reading in found),
            "withheld": sum(bool(reading.withheld) for reading in found),
        }
        out.table("Read", ["what", "how many"], list(out.result.items()))


@app.command()
def summary(
    listed: List,
    folder: Folder,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", dir_okay=False, help="Draw sentiment over the months as SVG.")
    ] = None,
    least_people: Annotated[
        int, typer.Option(metavar="N", min=1, help="Leave out months of an outlet with fewer people.")
    ] = 3,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Sentiment and scenes by outlet and month.

    An aspect's number is the share of clips that speak well of it less the share that speak badly.
    """
    with command(as_json) as out:
        from mbd.clips.summary import aspects_of, draw, rows_of, summarise, to_json

        cells = summarise(*_loaded(listed, folder, home), least_people=least_people)
        columns = ["outlet", "month", "clips", "people", "scene", *aspects_of(cells)]
        rows = list(rows_of(cells))
        out.result = {"cells": [to_json(cell) for cell in cells]}
        out.table("By outlet and month", columns, rows)
        if not rows:
            out.say(f"No outlet has clips of {least_people} people in one month: see --least-people.")
        if picture is not None and aspects_of(cells):
            draw(cells, picture)
            out.unbroken("Written", picture)


@app.command()
def score(listed: List, folder: Folder, home: Home = None, as_json: Json = False) -> None:
    """Hold what was read against what the list says is true.

    Word error rate of transcripts, macro F1 of aspects and of scenes, as far as the list says.
    """
    with command(as_json) as out:
        from mbd.clips.scores import score as judge

        out.result = dict(judge(*_loaded(listed, folder, home)))
        out.table("Against the list", ["score", "value"], [(name, f"{v:.3f}") for name, v in out.result.items()])


@app.command()
def table(
    listed: List,
    folder: Folder,
    target: Annotated[Path, typer.Argument(metavar="TARGET", file_okay=False, help="Where the table goes.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Write what was read as a table that becomes a cohort."""
    with command(as_json) as out:
        from mbd.clips.table import INDEX, write_table

        files = write_table(*_loaded(listed, folder, home), target)
        out.result = {"index": str(target / INDEX)} | {modality.value: str(path) for modality, path in files.items()}
        words = [word for modality, path in files.items() for word in (f"--{modality.value}", path)]
        _say_next(out, target / INDEX, words)


def _say_next(out: Output, index: Path, words: Sequence[Path | str]) -> None:
    follows = ["--text-from-audio"] if "--text" in words else []
    out.unbroken("Written", index)
    out.command("Next", "mbd", "data", "import", "table", index, "COHORT", *words, *follows)


def _loaded(listed: Path, folder: Path, home: Path | None) -> "tuple[Sequence[Clip], Sequence[Reading]]":
    from mbd.clips.manifest import read_manifest
    from mbd.clips.pipeline import load_readings
    from mbd.workflow.system import suppressed_in

    clips = read_manifest(listed)
    return clips, load_readings(clips, folder, withheld=suppressed_in(settings_for(home)))
