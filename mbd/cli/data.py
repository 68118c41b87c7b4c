"""``mbd data``: bring people's data into a cohort folder, and describe one."""

import secrets
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mbd.cli.output import Home, Json, Output, command, settings_for

if TYPE_CHECKING:
    from mbd.cohort.cohort import Cohort

app = typer.Typer(help="Import and describe cohorts.", no_args_is_help=True)
importers = typer.Typer(help="Import data into a cohort folder of ours.", no_args_is_help=True)
app.add_typer(importers, name="import")

Source = Annotated[Path, typer.Argument(help="What to import.")]
Target = Annotated[Path, typer.Argument(help="The cohort folder to make; it must not exist.")]
Seed = Annotated[int, typer.Option(help="Draws who is public.")]
Drop = Annotated[bool, typer.Option("--drop-suppressed", help="Make channels absent that their people withdrew.")]


@app.command()
def describe(cohort: Annotated[Path, typer.Argument(help="A cohort folder.")], as_json: Json = False) -> None:
    """Print what a person wants to know about a cohort before using it."""
    with command(as_json) as out:
        from mbd.cohort import folder
        from mbd.cohort.describe import describe as about

        out.result = about(folder.read(cohort))
        show_description(out, out.result)


@importers.command()
def mosi(
    source: Source,
    target: Target,
    public_subjects: Annotated[int, typer.Option(help="How many train videos are public.")] = 20,
    seed: Seed = 0,
    word_level: Annotated[bool, typer.Option("--word-level", help="The 229 valid clips as sequences.")] = False,
    drop_suppressed: Drop = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """CMU-MOSI: text and voice, official split."""
    with command(as_json) as out:
        from mbd.cohort.importers.mosi import mosi as read
        from mbd.cohort.importers.mosi import mosi_wordlevel

        if word_level:
            cohort = mosi_wordlevel(source, seed=seed)
        else:
            cohort = read(source, public_subjects=public_subjects, seed=seed)
        _write(out, cohort, target, home, drop=drop_suppressed)


@importers.command()
def ravdess(
    source: Source,
    target: Target,
    fold: Annotated[int, typer.Option(help="Which of six folds of four test actors.", min=0, max=5)] = 0,
    seed: Seed = 0,
    drop_suppressed: Drop = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """RAVDESS: voice and face of 24 actors, 8 emotions, actors disjoint."""
    with command(as_json) as out:
        from mbd.cohort.importers.ravdess import ravdess as read
        from mbd.cohort.importers.ravdess import ravdess_fold

        _write(out, read(source, **ravdess_fold(seed, fold)), target, home, drop=drop_suppressed)


@importers.command()
def mmsa(
    source: Source,
    target: Target,
    public_subjects: Annotated[int, typer.Option(help="How many train videos are public.")],
    seed: Seed = 0,
    score: Annotated[float, typer.Option(help="Labels lie in [-score, score].")] = 3.0,
    non_finite_as_zero: Annotated[
        bool, typer.Option("--non-finite-as-zero", help="Read NaN and infinity of silent frames as 0.")
    ] = False,
    drop_suppressed: Drop = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """An MMSA .pkl file (MOSI, MOSEI, ...), read without executing anything in it."""
    with command(as_json) as out:
        from mbd.cohort.importers.mmsa import mmsa as read

        cohort = read(
            source, public_subjects=public_subjects, seed=seed, score=score, non_finite_as_zero=non_finite_as_zero
        )
        _write(out, cohort, target, home, drop=drop_suppressed)


@importers.command()
def table(
    source: Annotated[Path, typer.Argument(help="CSV or Parquet with columns clip subject label partition split.")],
    target: Target,
    text: Annotated[Path | None, typer.Option(help="Text features: .npy, .npz or .safetensors.")] = None,
    audio: Annotated[Path | None, typer.Option(help="Audio features.")] = None,
    vision: Annotated[Path | None, typer.Option(help="Vision features.")] = None,
    classes: Annotated[str | None, typer.Option(help="Class names, with commas. Default: a score.")] = None,
    low: Annotated[float, typer.Option(help="The lowest score.")] = -3.0,
    high: Annotated[float, typer.Option(help="The highest score.")] = 3.0,
    name: Annotated[str | None, typer.Option(help="Name of the cohort. Default: the index's.")] = None,
    description: Annotated[str, typer.Option(help="A sentence about it.")] = "Imported from a table.",
    text_from_audio: Annotated[
        bool, typer.Option("--text-from-audio", help="The text is a transcript of the voice and falls with it.")
    ] = False,
    drop_suppressed: Drop = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Your own data: an index and one file of features per modality."""
    with command(as_json) as out:
        from mbd.cohort.cohort import Task
        from mbd.cohort.importers.table import Source as Channel
        from mbd.cohort.importers.table import table as read
        from mbd.cohort.modality import Modality

        given = {Modality.TEXT: text, Modality.AUDIO: audio, Modality.VISION: vision}
        sources = {modality: Channel(path) for modality, path in given.items() if path is not None}
        if not sources:
            raise typer.BadParameter("give at least one of --text, --audio, --vision")
        if text_from_audio and text is not None:
            sources[Modality.TEXT] = Channel(text, derived_from=(Modality.AUDIO,), consent="follows")
        names = tuple(part.strip() for part in classes.split(",")) if classes else ()
        task = Task("classification", classes=names) if names else Task("regression", low=low, high=high)
        cohort = read(source, sources, task=task, name=name or source.stem, description=description)
        _write(out, cohort, target, home, drop=drop_suppressed)


def show_description(out: Output, about: dict[str, Any]) -> None:
    """A cohort's description, for people."""
    out.say(f"[bold]{about['name']}[/] ({about['origin']}): {about['description']}")
    task = about["task"]
    what = f"{task['outputs']} classes" if task["classes"] else f"a score from {task['low']:g} to {task['high']:g}"
    out.say(f"{about['rows']} clips of {about['subjects']} people; the task is {what}; a label {task['label_policy']}.")
    out.table(
        "Who",
        ["partition", "split", "clips", "people"],
        [(place["partition"], place["split"], place["rows"], place["subjects"]) for place in about["places"]],
    )
    out.table(
        "Channels",
        ["modality", "kind", "features", "present", "absent", "made by", "derived from", "consent"],
        [
            (
                name,
                channel["kind"],
                channel["dim"],
                channel["rows_present"],
                channel["rows_absent"],
                channel["extractor"],
                ", ".join(channel["derived_from"]) or "-",
                channel["consent"],
            )
            for name, channel in about["channels"].items()
        ],
    )
    out.table("Availability", ["pattern", "clips"], list(about["patterns"].items()))
    if "histogram" in about["labels"]:
        edges = about["labels"]["histogram"]["edges"]
        ranges = [f"{low:.2f} to {high:.2f}" for low, high in pairwise(edges)]
        counts = about["labels"]["histogram"]["counts"]
    else:
        ranges, counts = list(about["labels"]["counts"]), list(about["labels"]["counts"].values())
    out.table("Labels", ["label", "clips"], list(zip(ranges, counts, strict=True)))
    for warning in about["warnings"]:
        out.say(f"[yellow]Note:[/] {warning}")


def _write(out: Output, cohort: "Cohort", target: Path, home: Path | None, *, drop: bool) -> None:
    from mbd.cohort import folder
    from mbd.cohort.manifest import KEY_BYTES
    from mbd.cohort.suppression import drop_suppressed, refuse_suppressed
    from mbd.workflow.system import open_system

    settings = settings_for(home)
    if (settings.state / "keys").exists():
        with open_system(settings, create=False) as system:
            suppressed = system.suppressed()
        cohort = drop_suppressed(cohort, suppressed) if drop else cohort
        refuse_suppressed(cohort, suppressed)
    manifest = folder.write(cohort, target, key=secrets.token_bytes(KEY_BYTES))
    out.result = {
        "cohort": str(target),
        "name": cohort.name,
        "rows": len(cohort),
        "subjects": len(cohort.subjects),
        "manifest_root": manifest.root,
    }
    out.say(f"{len(cohort)} clips of {len(cohort.subjects)} people; manifest root {manifest.root}.")
    out.path("Look at it with", f"mbd data describe {target}")
