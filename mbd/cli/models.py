"""``mbd train``, ``evaluate`` and ``predict``: model lines."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from mbd.cli.options import CohortFolder, DropSuppressed, Home, Json, Line
from mbd.cli.output import Output, command, settings_for
from mbd.cohort.modality import Modality, pattern_name

if TYPE_CHECKING:
    from mbd.training.recipe import Recipe

RecipeName = Literal["synthetic", "mosi", "ravdess"]


def _recipe_or_file(value: str) -> str:
    """The name of a shipped recipe, or the path of a file that is there."""
    if value not in get_args(RecipeName) and not (value.endswith(".toml") and Path(value).is_file()):
        names = ", ".join(get_args(RecipeName))
        raise typer.BadParameter(f"'{value}' is neither one of {names} nor a .toml file")
    return value


RecipeOption = Annotated[
    str,
    typer.Option(
        metavar="NAME|FILE.toml", callback=_recipe_or_file, help="How: synthetic, mosi, ravdess, or a TOML file."
    ),
]


def train(
    cohort: CohortFolder,
    line: Line = "main",
    recipe: RecipeOption = "synthetic",
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of everything random in training.")] = 0,
    drop_suppressed: DropSuppressed = False,
    candidate: Annotated[
        bool, typer.Option("--candidate", help="Leave it out of service until `mbd lineage promote`.")
    ] = False,
    processes: Annotated[
        int, typer.Option(metavar="N", min=1, help="So many processes share each batch of the backbone's training.")
    ] = 1,
    device: Annotated[
        Literal["cpu", "cuda"], typer.Option(help="Where the backbone trains: on the CPU, or on one GPU.")
    ] = "cpu",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Train a new model line on a cohort.

    The backbone learns from public rows; everyone else enters as exact integer statistics, from which one head is
    released for each availability pattern. An interrupted training goes on when the same command is given again.
    """
    with command(as_json) as out:
        from mbd.cohort import folder
        from mbd.workflow.evaluation import metrics_by_pattern
        from mbd.workflow.system import open_system
        from mbd.workflow.training import train_line

        rows = folder.open_pieces(cohort)
        with open_system(settings_for(home), create=True) as system:
            with out.stages() as stages:
                trained = train_line(
                    system,
                    rows,
                    recipe_named(recipe),
                    line=line,
                    seed=seed,
                    drop_channels=drop_suppressed,
                    candidate=candidate,
                    processes=processes,
                    device=device,
                    on_progress=stages.update,
                )
            own = folder.open_pieces(system.cohort_folder(line, trained.version.version))
            metrics = metrics_by_pattern(trained.model, own, system.suppressed())
        out.result = {
            "line": line,
            "version": trained.version.version,
            "state": trained.version.state.value,
            "model": trained.saved.digest,
            "transcript": trained.made.transcript_digest,
            "statistics": trained.model.commitment,
            "metrics": metrics,
        }
        out.say(f"Model line '{line}', version 1: {trained.model.statistics.rows} rows in the statistics.")
        if candidate:
            out.command("It is a candidate. Put it into service", "mbd", "lineage", "promote", line, "1")
        show_metrics(out, "Test rows, by what is available", metrics)


def evaluate(line: Line = "main", home: Home = None, as_json: Json = False) -> None:
    """Measure a line's live version on its test rows.

    One row of the table for each availability pattern that still has a head.
    """
    with command(as_json) as out:
        from mbd.cohort import folder
        from mbd.workflow.evaluation import metrics_by_pattern
        from mbd.workflow.live import load_live_model
        from mbd.workflow.system import open_system

        with open_system(settings_for(home), create=False) as system:
            live = system.live(line)
            model = load_live_model(system, live)
            rows = folder.open_pieces(system.cohort_folder(line, live.version))
            metrics = metrics_by_pattern(model, rows, system.suppressed())
        out.result = {"line": line, "version": live.version, "metrics": metrics}
        show_metrics(out, f"Model line '{line}', version {live.version}: test rows, by what is available", metrics)


def predict(
    cohort: CohortFolder,
    line: Line = "main",
    limit: Annotated[int, typer.Option(metavar="N", min=0, help="Show so many rows; --json has all.")] = 20,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Predict each row of a cohort, and say from what.

    Each channel (t text, a audio, v vision) of a row is present, reconstructed from the others, suppressed, because it
    was withdrawn, or absent, where the line's network makes up nothing.
    """
    with command(as_json) as out:
        from mbd.cohort import folder
        from mbd.workflow.evaluation import Channel, predict_rows
        from mbd.workflow.live import load_live_model
        from mbd.workflow.system import open_system

        with open_system(settings_for(home), create=False) as system:
            live = system.live(line)
            model = load_live_model(system, live)
            answers = predict_rows(model, folder.read(cohort), system.suppressed())
        out.result = {"line": line, "version": live.version, "predictions": [asdict(answer) for answer in answers]}
        ways = [how for how in Channel if any(how in answer.channels.values() for answer in answers)]
        shown = [(a.clip, _said(a.output), *(_which(a, how) for how in ways)) for a in answers[:limit]]
        out.table(
            f"Model line '{line}', version {live.version}: {len(answers)} rows",
            ["clip", "prediction", *(how.value for how in ways)],
            shown,
        )
        if len(answers) > limit:
            out.say(f"... and {len(answers) - limit} more (see --limit and --json).")


def show_metrics(out: Output, title: str, metrics: dict[str, dict[str, float]]) -> None:
    """Metrics by availability pattern, for people."""
    names = list(next(iter(metrics.values()))) if metrics else []
    headers = [name.replace("_", "\n") for name in names]
    out.table(title, ["available", *headers], [(p, *(values[n] for n in names)) for p, values in metrics.items()])


def recipe_named(chosen: str) -> "Recipe":
    """The shipped recipe of a name, or the one in a file."""
    from mbd.training import recipes
    from mbd.training.recipe_file import read_recipe

    return getattr(recipes, chosen)() if chosen in get_args(RecipeName) else read_recipe(Path(chosen))


def _which(answer: Any, how: Any) -> str:
    """The channels that a prediction came by in this way, as ``ta``."""
    return pattern_name([Modality(name) for name, found in answer.channels.items() if found is how]) or "-"


def _said(output: Any) -> str:
    if output is None:
        return "no channel left"
    return f"{output:+.3f}" if isinstance(output, float) else str(output)
