"""What every command shares: options, tables for people, JSON for programs, errors with their remedy, exit codes.

Exit codes: 0 done or valid, 1 invalid or refused, 2 usage.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from certs.errors import CertificateError, VerificationError
from mbd.errors import MbdError, SettingsError
from mbd.settings import Settings

Home = Annotated[
    Path | None, typer.Option("--home", help="State folder. Default: MBD_HOME, else the user's state directory.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]

_EXTRAS = {
    "torch": "science",
    "numpy": "science",
    "scipy": "science",
    "pyarrow": "science",
    "safetensors": "science",
    "sqlalchemy": "ledger",
    "alembic": "ledger",
    "psycopg": "postgres",
}


@dataclass
class Output:
    """Where a command puts what it has to say.

    Attributes:
        as_json: collect `result` and print it once, at the end; say nothing else.
        console: for people.
        result: the JSON object.
    """

    as_json: bool
    console: Console
    result: dict[str, Any] = field(default_factory=dict)

    def say(self, text: str) -> None:
        """A line for people."""
        if not self.as_json:
            self.console.print(text, highlight=False)

    def path(self, label: str, path: Path | str) -> None:
        """A path or a command for people, never broken into two lines, so that it can be copied."""
        if not self.as_json:
            self.console.print(f"{label}: {path}", highlight=False, soft_wrap=True)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A table for people; numbers to the right."""
        if self.as_json:
            return
        table = Table(title=title, title_justify="left", title_style="bold")
        for n, column in enumerate(columns):
            numeric = bool(rows) and all(isinstance(row[n], int | float) or row[n] == "" for row in rows)
            table.add_column(column, justify="right" if numeric else "left", overflow="fold")
        for row in rows:
            table.add_row(*(_cell(value) for value in row))
        self.console.print(table)

    def progress(self) -> Progress:
        """A progress display for people; silent for programs and when the output is not a terminal."""
        return Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[about]}"),
            console=self.console,
            disable=self.as_json or not self.console.is_terminal,
        )


@contextmanager
def command(as_json: bool) -> Iterator[Output]:
    """Run a command's body: print its JSON at the end, or its error with the remedy.

    Raises:
        typer.Exit: with code 1, after an error of ours was shown.
    """
    output = Output(as_json, Console(soft_wrap=False))
    try:
        yield output
    except (MbdError, CertificateError) as error:
        _fail(output, error, code=error.code.value if isinstance(error, CertificateError) else None)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        missing = SettingsError(
            f"This command needs {error.name}, which is not installed.",
            remedy=f"pip install 'missing-by-design[{extra}]' (or [all])",
        )
        _fail(output, missing, code=None)
    else:
        if as_json:
            print_json(output.result)


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def settings_for(home: Path | None) -> Settings:
    """Settings from the environment, with ``--home`` before it.

    Raises:
        SettingsError: a variable has a value that it cannot have.
    """
    try:
        return Settings(home=home) if home is not None else Settings()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = "MBD_" + "_".join(str(part) for part in first["loc"]).upper()
        raise SettingsError(f"{name} is not usable: {first['msg']}.", remedy=f"change or unset {name}") from None


def _fail(output: Output, error: MbdError | CertificateError, *, code: str | None) -> None:
    if output.as_json:
        about: dict[str, Any] = {"type": type(error).__name__, "message": error.message, "remedy": error.remedy}
        if code is not None:
            about["code"] = code
        if isinstance(error, VerificationError):
            about["step"] = error.step
        print_json({"error": about})
    else:
        console = Console(stderr=True, highlight=False)
        where = f"step {error.step}, {code}: " if isinstance(error, VerificationError) else ""
        console.print(f"[bold red]Error:[/] {where}", end="")
        console.print(error.message, markup=False)
        console.print("[bold]Remedy:[/] ", end="")
        console.print(error.remedy, markup=False)
    raise typer.Exit(1)


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
