"""``mbd data``: bring people's data into a cohort folder, describe one, and copy one to a bucket."""

import secrets
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mbd.cli.options import CohortFolder, DropSuppressed, Home, Json, UsageError
from mbd.cli.output import Output, command, settings_for
from mbd.cohort.modality import Modality

if TYPE_CHECKING:
    from mbd.cohort.cohort import Cohort

app = typer.Typer(help="Import, describe and copy cohorts.", no_args_is_help=True)
importers = typer.Typer(help="Import data into a cohort folder.", no_args_is_help=True)
app.add_typer(importers, name="import")

SourceFolder = Annotated[Path, typer.Argument(metavar="SOURCE", exists=True, help="The data set's folder.")]
Target = Annotated[Path, typer.Argument(metavar="TARGET", help="The cohort folder to make; it must not exist.")]
BucketUrl = Annotated[str, typer.Argument(metavar="URL", help="The copy: s3://BUCKET/PREFIX.")]
Seed = Annotated[int, typer.Option(metavar="N", min=0, help="Draws who is public.")]
FeaturesFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", exists=True, dir_okay=False, help="Its features: .npy, .npz or .safetensors."),
]


@app.command()
def describe(cohort: CohortFolder, as_json: Json = False) -> None:
    """Say what there is in a cohort: people, channels, labels."""
    with command(as_json) as out:
        from mbd.cohort import folder
        from mbd.cohort.describe import describe as about

        out.result = about(folder.read(cohort))
        show_description(out, out.result)


@app.command()
def copy(cohort: CohortFolder, url: BucketUrl, home: Home = None, as_json: Json = False) -> None:
    """Copy a cohort folder to a bucket, for workers that share no disk, and read it back.

    No deletion reaches a copy: remove it when somebody in it withdraws a channel. A bucket that keeps versions is
    refused, and so are channels that were withdrawn. The AWS_ variables say how to reach the bucket.
    """
    with command(as_json) as out:
        from mbd.cohort.copies import copy_folder
        from mbd.cohort.folder import open_pieces
        from mbd.cohort.suppression import refuse_suppressed
        from mbd.workflow.system import suppressed_in

        refuse_suppressed(open_pieces(cohort), suppressed_in(settings_for(home)))
        copy_folder(cohort, url)
        out.result = {"cohort": url}
        out.say("The copy has the digests of the folder.", lead=url)
        out.command("No deletion reaches it; remove it with", "mbd", "data", "remove", url)


@app.command()
def remove(url: BucketUrl, as_json: Json = False) -> None:
    """Remove a copy of a cohort folder from a bucket for good."""
    with command(as_json) as out:
        from mbd.cohort.copies import remove_copy

        remove_copy(url)
        out.result = {"removed": url}
        out.say("There is no cohort folder any more.", lead=url)


@importers.command()
def synthetic(
    target: Target,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="The same seed makes the same people.")] = 0,
    sequence: Annotated[bool, typer.Option("--sequence", help="Voice and face as sequences of frames.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Synthetic people, made by a program: to try things out without anybody's data."""
    with command(as_json) as out:
        from mbd.cohort.synthetic import synthetic_cohort

        _write(out, synthetic_cohort(seed, sequence=sequence), target, home, drop=False)


@importers.command()
def mosi(
    source: SourceFolder,
    target: Target,
    public_subjects: Annotated[int, typer.Option(metavar="N", min=1, help="How many train videos are public.")] = 20,
    seed: Seed = 0,
    word_level: Annotated[
        bool, typer.Option("--word-level", help="The 229 valid clips only, word by word: sequences, with the face.")
    ] = False,
    drop_suppressed: DropSuppressed = False,
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
    source: SourceFolder,
    target: Target,
    fold: Annotated[int, typer.Option(metavar="N", help="Which of six folds of four test actors.", min=0, max=5)] = 0,
    seed: Seed = 0,
    drop_suppressed: DropSuppressed = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """RAVDESS: voice and face of 24 actors, 8 emotions."""
    with command(as_json) as out:
        from mbd.cohort.importers.ravdess import ravdess as read
        from mbd.cohort.importers.ravdess import ravdess_fold

        _write(out, read(source, **ravdess_fold(seed, fold)), target, home, drop=drop_suppressed)


@importers.command()
def mmsa(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", exists=True, dir_okay=False, help="The .pkl file.")],
    target: Target,
    public_subjects: Annotated[int, typer.Option(metavar="N", min=1, help="How many train videos are public.")],
    seed: Seed = 0,
    score: Annotated[float, typer.Option(metavar="X", min=0, help="Labels lie in [-X, X].")] = 3.0,
    non_finite_as_zero: Annotated[
        bool, typer.Option("--non-finite-as-zero", help="Read NaN and infinity of silent frames as 0.")
    ] = False,
    drop_suppressed: DropSuppressed = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """An MMSA .pkl file (MOSI, MOSEI, ...), executing nothing in it."""
    with command(as_json) as out:
        from mbd.cohort.importers.mmsa import mmsa as read

        cohort = read(
            source, public_subjects=public_subjects, seed=seed, score=score, non_finite_as_zero=non_finite_as_zero
        )
        _write(out, cohort, target, home, drop=drop_suppressed)


@importers.command()
def table(
    source: Annotated[
        Path, typer.Argument(metavar="INDEX", exists=True, dir_okay=False, help="The index: .csv or .parquet.")
    ],
    target: Target,
    text: FeaturesFile = None,
    audio: FeaturesFile = None,
    vision: FeaturesFile = None,
    classes: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Names of the classes. Default: the label is a score.")
    ] = None,
    low: Annotated[float, typer.Option(metavar="X", help="The lowest score.")] = -3.0,
    high: Annotated[float, typer.Option(metavar="X", help="The highest score.")] = 3.0,
    name: Annotated[str | None, typer.Option(help="Name of the cohort. Default: the index's.", metavar="NAME")] = None,
    description: Annotated[str, typer.Option(metavar="TEXT", help="A sentence about it.")] = "Imported from a table.",
    text_from_audio: Annotated[
        bool, typer.Option("--text-from-audio", help="The text is a transcript of the voice and falls with it.")
    ] = False,
    drop_suppressed: DropSuppressed = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Your own data: an index and a features file per modality.

    The index has one row a clip, with the columns clip, subject, label, partition (public or revocable) and split
    (train, valid or test). Features: .npy has one row for each of the index; .npz and .safetensors one array named by
    each clip. A clip without an array, or whose .npy row is all NaN, lacks the channel.
    """
    paths = {Modality.TEXT: text, Modality.AUDIO: audio, Modality.VISION: vision}
    if not any(paths.values()):
        raise UsageError("give at least one of --text, --audio, --vision")
    if text_from_audio and text is None:
        raise UsageError("--text-from-audio goes with --text")
    with command(as_json) as out:
        from mbd.cohort.cohort import Task
        from mbd.cohort.importers.table import Source
        from mbd.cohort.importers.table import table as read

        sources = {modality: Source(path) for modality, path in paths.items() if path is not None}
        if text_from_audio and text is not None:
            sources[Modality.TEXT] = Source(text, derived_from=(Modality.AUDIO,), consent="follows")
        names = tuple(part.strip() for part in classes.split(",")) if classes else ()
        task = Task("classification", classes=names) if names else Task("regression", low=low, high=high)
        cohort = read(source, sources, task=task, name=name or source.stem, description=description)
        _write(out, cohort, target, home, drop=drop_suppressed)


def show_description(out: Output, about: dict[str, Any]) -> None:
    """A cohort's description, for people."""
    out.say(about["description"], lead=f"{about['name']} ({about['origin']}).")
    task = about["task"]
    what = f"{task['outputs']} classes" if task["classes"] else f"a score from {task['low']:g} to {task['high']:g}"
    out.say(f"{about['rows']} clips of {about['subjects']} people. To predict: {what}.")
    show_places(out, "Who", about)
    channels = about["channels"].items()
    out.table(
        "Channels",
        ["modality", "kind", "numbers", "present", "absent", "derived from", "consent"],
        [
            (
                name,
                channel["kind"],
                channel["dim"],
                channel["rows_present"],
                channel["rows_absent"],
                ", ".join(channel["derived_from"]) or "-",
                channel["consent"],
            )
            for name, channel in channels
        ],
    )
    for name, channel in channels:
        frames = channel["frames"]
        length = f"; {frames['min']} to {frames['max']} frames, median {frames['median']:g}" if frames else ""
        out.item(f"{name}: {channel['extractor']}{length}")
    out.table("Availability", ["pattern", "clips"], list(about["patterns"].items()))
    if "histogram" in about["labels"]:
        edges = about["labels"]["histogram"]["edges"]
        ranges = [f"{low:.2f} to {high:.2f}" for low, high in pairwise(edges)]
        counts = about["labels"]["histogram"]["counts"]
    else:
        ranges, counts = list(about["labels"]["counts"]), list(about["labels"]["counts"].values())
    out.table("Labels", ["label", "clips"], list(zip(ranges, counts, strict=True)))
    for warning in about["warnings"]:
        out.say(warning, lead="Note:", style="yellow")


def show_places(out: Output, title: str, about: dict[str, Any]) -> None:
    """How many clips of how many people stand in each partition and split."""
    out.table(
        title,
        ["partition", "split", "clips", "people"],
        [(place["partition"], place["split"], place["rows"], place["subjects"]) for place in about["places"]],
    )


def _write(out: Output, cohort: "Cohort", target: Path, home: Path | None, *, drop: bool) -> None:
    from mbd.cohort import folder
    from mbd.cohort.manifest import KEY_BYTES
    from mbd.cohort.suppression import drop_suppressed, refuse_suppressed
    from mbd.workflow.system import suppressed_in

    suppressed = suppressed_in(settings_for(home))
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
    out.say(f"{len(cohort)} clips of {len(cohort.subjects)} people.")
    out.unbroken("Manifest root", manifest.root)
    out.command("Look at it with", "mbd", "data", "describe", target)
