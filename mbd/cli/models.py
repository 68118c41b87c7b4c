"""``mbd train``, ``evaluate`` and ``predict``: model lines."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from mbd.cli.output import Home, Json, Output, command, settings_for

Line = Annotated[str, typer.Option(help="The model line.")]
RECIPES = ("synthetic", "mosi", "ravdess")


def train(
    cohort: Annotated[Path, typer.Argument(help="A cohort folder.")],
    line: Line = "main",
    recipe: Annotated[str, typer.Option(help=f"One of: {', '.join(RECIPES)}.")] = "synthetic",
    seed: Annotated[int, typer.Option(help="Of everything random in training.")] = 0,
    drop_suppressed: Annotated[
        bool, typer.Option("--drop-suppressed", help="Make channels absent that their people withdrew.")
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Train a model line: backbone on public rows, exact statistics, one head per availability pattern."""
    if recipe not in RECIPES:
        raise typer.BadParameter(f"there is no recipe '{recipe}'; use one of: {', '.join(RECIPES)}")
    with command(as_json) as out:
        from mbd.cohort import folder
        from mbd.training import recipes
        from mbd.workflow.evaluation import metrics_by_pattern
        from mbd.workflow.system import open_system
        from mbd.workflow.training import train_line

        rows = folder.read(cohort)
        with open_system(settings_for(home), create=True) as system, out.progress() as bar:
            tasks = {stage: bar.add_task(stage, total=1.0, about="") for stage in ("backbone", "heads")}
            trained = train_line(
                system,
                rows,
                getattr(recipes, recipe)(),
                line=line,
                seed=seed,
                drop_channels=drop_suppressed,
                on_progress=lambda stage, done, about: bar.update(tasks[stage], completed=done, about=about),
            )
            metrics = metrics_by_pattern(trained.model, rows, system.suppressed())
        out.result = {
            "line": line,
            "version": trained.version.version,
            "model": trained.saved.digest,
            "transcript": trained.transcript.digest,
            "statistics": trained.model.statistics.digest,
            "metrics": metrics,
        }
        out.say(f"Model line '{line}', version 1: {trained.model.statistics.rows} rows in the statistics.")
        show_metrics(out, "Test rows, by what is available", metrics)


def evaluate(line: Line = "main", home: Home = None, as_json: Json = False) -> None:
    """Measure the live version on its test rows, for every availability pattern."""
    with command(as_json) as out:
        from mbd.cohort import folder
        from mbd.lattice.model import load_model
        from mbd.workflow.evaluation import metrics_by_pattern
        from mbd.workflow.system import open_system

        with open_system(settings_for(home), create=False) as system:
            live = system.live(line)
            model = load_model(system.model_folder(line, live.version))
            rows = folder.read(system.cohort_folder(line, live.version))
            metrics = metrics_by_pattern(model, rows, system.suppressed())
        out.result = {"line": line, "version": live.version, "metrics": metrics}
        show_metrics(out, f"Model line '{line}', version {live.version}, by what is available", metrics)


def predict(
    cohort: Annotated[Path, typer.Argument(help="A cohort folder.")],
    line: Line = "main",
    limit: Annotated[int, typer.Option(help="Show this many rows to people; --json has all.")] = 20,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Predict each row, and say which channels were present, reconstructed or suppressed."""
    with command(as_json) as out:
        from mbd.cohort import folder
        from mbd.lattice.model import load_model
        from mbd.workflow.evaluation import predict_rows
        from mbd.workflow.system import open_system

        with open_system(settings_for(home), create=False) as system:
            live = system.live(line)
            model = load_model(system.model_folder(line, live.version))
            answers = predict_rows(model, folder.read(cohort), system.suppressed())
        out.result = {"line": line, "version": live.version, "predictions": [asdict(answer) for answer in answers]}
        channels = list(answers[0].channels) if answers else []
        shown = [
            (a.clip, *(a.channels[name].value for name in channels), a.pattern or "none", _said(a.output))
            for a in answers[:limit]
        ]
        out.table(
            f"Model line '{line}', version {live.version}: {len(answers)} rows",
            ["clip", *channels, "head", "prediction"],
            shown,
        )
        if len(answers) > limit:
            out.say(f"... and {len(answers) - limit} more (see --limit and --json).")


def show_metrics(out: Output, title: str, metrics: dict[str, dict[str, float]]) -> None:
    """Metrics by availability pattern, for people."""
    names = list(next(iter(metrics.values()))) if metrics else []
    out.table(title, ["available", *names], [(p, *(values[n] for n in names)) for p, values in metrics.items()])


def _said(output: Any) -> str:
    if output is None:
        return "no channel left"
    return f"{output:+.3f}" if isinstance(output, float) else str(output)
