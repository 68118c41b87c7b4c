"""``mbd clips``: read short videos in stages, summarise and score what was read, and make a cohort's table of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mbd.cli.options import Home, Json
from mbd.cli.output import Output, command, settings_for
from mbd.errors import ClipError

if TYPE_CHECKING:
    from mbd.clips.manifest import Clip
    from mbd.clips.reading import Reading
    from mbd.clips.standing import Ask

app = typer.Typer(help="Read short videos: words, opinions, scenes.", no_args_is_help=True)

List = Annotated[
    Path, typer.Argument(metavar="LIST", exists=True, dir_okay=False, help="The list of clips: a CSV file.")
]
Folder = Annotated[
    Path, typer.Argument(metavar="FOLDER", file_okay=False, help="Where the readings of this list are kept.")
]


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

    What a person withdrew is not looked at, and a reading that held it is made anew without it.
    """
    with command(as_json) as out:
        from mbd.clips.manifest import read_manifest
        from mbd.clips.pipeline import read_clips
        from mbd.clips.stages import load_stages

        withheld = _ask(out, home)
        with out.stages() as shown:
            found = read_clips(
                read_manifest(listed),
                load_stages(stages),
                folder,
                withheld=withheld,
                fresh=fresh,
                on_progress=lambda done, about: shown.update("clips", done, about),
            )
        out.result = {
            "clips": len(found),
            "transcripts": sum(reading.transcript is not None for reading in found),
            "opinions": sum(len(reading.opinions or ()) for reading in found),
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

        cells = summarise(*_loaded(out, listed, folder, home), least_people=least_people)
        columns = ["outlet", "month", "clips", "people", "scene", *aspects_of(cells)]
        rows = list(rows_of(cells))
        out.result = {"cells": [to_json(cell) for cell in cells]}
        out.table("By outlet and month", columns, rows)
        if not rows:
            out.say(f"No outlet has clips of {least_people} people in one month: see --least-people.")
        if picture is not None and aspects_of(cells):
            draw(cells, picture)
            out.unbroken("Written", picture)
        elif picture is not None:
            out.say(f"No picture: {least_people} people speak of no aspect in one month of an outlet.")


@app.command()
def score(listed: List, folder: Folder, home: Home = None, as_json: Json = False) -> None:
    """Hold what was read against what the list says is true.

    Word error rate of transcripts, macro F1 of aspects and of scenes, as far as the list says.
    """
    with command(as_json) as out:
        from mbd.clips.scores import score as judge

        out.result = dict(judge(*_loaded(out, listed, folder, home)))
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
        from mbd.clips.table import INDEX, class_names, write_table
        from mbd.cohort.modality import Modality

        clips, readings = _loaded(out, listed, folder, home)
        if (target / INDEX).exists() and (target / INDEX).samefile(listed):
            raise ClipError(f"{target} holds the list itself.", remedy="give another folder for the table")
        classes = class_names(clips, readings)
        files = write_table(clips, readings, target)
        out.result = {"index": str(target / INDEX)} | {modality.value: str(path) for modality, path in files.items()}
        words = [word for modality, path in files.items() for word in (f"--{modality.value}", path)]
        words += ["--text-from-audio"] if Modality.TEXT in files else []
        words += ["--classes", ",".join(classes)] if classes else []
        words += ["--home", home] if home is not None else []
        out.unbroken("Written", target / INDEX)
        out.command("Next", "mbd", "data", "import", "table", target / INDEX, "COHORT", *words)


def _ask(out: Output, home: Path | None) -> "Ask":
    """The deployment's suppression list, whenever it is asked."""
    from mbd.workflow.system import is_deployment, suppressed_in

    settings = settings_for(home)
    if not is_deployment(settings):
        out.say(f"There is no deployment in {settings.state}: nothing counts as withdrawn.")
    return lambda: suppressed_in(settings)


def _loaded(out: Output, listed: Path, folder: Path, home: Path | None) -> "tuple[Sequence[Clip], Sequence[Reading]]":
    from mbd.clips.manifest import read_manifest
    from mbd.clips.pipeline import load_readings

    clips = read_manifest(listed)
    return clips, load_readings(clips, folder, withheld=_ask(out, home))
