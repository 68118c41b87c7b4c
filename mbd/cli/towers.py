"""``mbd towers``: which towers a line lacks, and bringing them back."""

import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import typer

from mbd.cli.options import Home, Json, Line
from mbd.cli.output import command, settings_for

app = typer.Typer(help="Towers that deletions dropped: see them, bring them back.", no_args_is_help=True)


@app.command()
def missing(line: Line = "main", home: Home = None, as_json: Json = False) -> None:
    """Name the towers that a line's recipe has and its live version lacks.

    A deletion drops the tower of the shard that a person trained; a file can be lost. The line answers without it.
    """
    with command(as_json) as out:
        from mbd.workflow.system import open_system
        from mbd.workflow.towers import missing as lacks

        with open_system(settings_for(home), create=False) as system:
            names = lacks(system, line)
        out.result = {"line": line, "missing": list(names)}
        out.say(f"Model line '{line}' lacks {', '.join(names)}." if names else f"Model line '{line}' lacks no tower.")


@app.command()
def retrain(line: Line = "main", home: Home = None, as_json: Json = False) -> None:
    """Train a line's missing towers on the rows that are left, as a new version.

    It can run at any time, in the background as well; until it is done, the line answers without these towers.
    """
    with command(as_json) as out:
        from mbd.workflow.system import open_system
        from mbd.workflow.towers import retrain_towers

        with open_system(settings_for(home), create=False) as system, out.stages() as stages:
            made = retrain_towers(
                system, line, on_progress=lambda done, name: stages.update("training towers", done, name)
            )
        version, names = made if made else (None, ())
        out.result = {"line": line, "version": version.version if version else None, "towers": list(names)}
        if version is None:
            out.say(f"Model line '{line}' lacks no tower that anybody is left to train.")
        else:
            what = f"with {', '.join(names)} again" if names else "without the towers that were lost"
            out.say(f"Model line '{line}' is now version {version.version}, {what}.")


def start_retraining(home: Path, lines: Iterable[str]) -> tuple[int, Path]:
    """Train these lines' missing towers, one line after the other, in a process of its own that outlives this one.

    Returns:
        The process's id, and the file that it says in what became of it.
    """
    log = home / "towers.log"
    program = [sys.executable, "-c", "from mbd.cli.towers import retrain_lines; retrain_lines()"]
    with log.open("ab") as said:
        started = subprocess.Popen(  # noqa: S603 - our own program
            [*program, str(home), *lines], stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
        )
    return started.pid, log


def retrain_lines() -> None:
    """What the process of `start_retraining` does: HOME and the lines are its arguments."""
    home, *lines = sys.argv[1:]
    for line in lines:
        with suppress(typer.Exit):  # it has said why; the next line has its own turn
            retrain(line, Path(home), as_json=True)
