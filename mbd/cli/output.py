"""What every command shares: text and tables for people, JSON for programs, errors with their remedy, exit codes.

Exit codes: 0 done or valid, 1 invalid or refused, 2 usage, 130 interrupted.
"""

import json
import math
import re
import shlex
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer
from pydantic import ValidationError
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from certs.errors import CertificateError, Code, VerificationError
from mbd.cli.progress import Stages
from mbd.errors import MbdError, SettingsError
from mbd.settings import Settings

INTERRUPTED = 130
"""The exit code of a program that Ctrl-C ended, as shells count it."""

_EXTRAS = {
    "torch": "science",
    "numpy": "science",
    "scipy": "science",
    "pyarrow": "science",
    "safetensors": "science",
    "matplotlib": "benchmark",
    "av": "clips",
    "jiwer": "clips",
    "sqlalchemy": "ledger",
    "alembic": "ledger",
    "psycopg": "postgres",
    "dbos": "service",
    "fastapi": "service",
    "httpx": "service",
    "prometheus_client": "service",
    "structlog": "service",
    "uvicorn": "service",
    "opentelemetry": "traces",
}
_NARROWEST = 20
"""Characters that a wrapping column keeps, if there is room at all."""

_GAP = "   "
_CONTROLS = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if chr(code) != "\n"}
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?|-")


class CommandInterruptedError(MbdError):
    """Ctrl-C."""

    def __init__(self) -> None:
        remedy = "give the command again; after `mbd revoke`, finish with `mbd revoke --resume`"
        super().__init__("Interrupted.", remedy=remedy)


@dataclass
class Output:
    """Where a command puts what it has to say. Names in it are never markup, and cannot command the terminal.

    Attributes:
        as_json: collect `result` and print it once, at the end; say nothing else.
        console: for people.
        result: the JSON object.
    """

    as_json: bool
    console: Console
    result: dict[str, Any] = field(default_factory=dict)
    _blank_above: bool = True

    def say(self, text: str, *, lead: str = "", style: str = "") -> None:
        """A paragraph for people, after a lead in bold."""
        if not self.as_json:
            self._print(Text.assemble((_plain(lead), f"bold {style}"), " " if lead and text else "", _plain(text)))

    def item(self, text: str) -> None:
        """An entry of a list for people."""
        if not self.as_json:
            self._print(
                textwrap.fill(_plain(text), self.console.width, initial_indent="  - ", subsequent_indent="    ")
            )

    def unbroken(self, label: str, value: Path | str) -> None:
        """A path, a key or a digest for people, never broken into two lines, so that it can be copied."""
        if not self.as_json:
            self._print(_plain(f"{label}: {value}"), soft_wrap=True)

    def command(self, label: str, *words: Path | str) -> None:
        """A command for people, quoted for a shell and never broken into two lines."""
        self.unbroken(label, shlex.join(map(str, words)))

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A table for people: numbers to the right; where it is too wide, long texts wrap before names and numbers."""
        if self.as_json:
            return
        cells = [[_cell(value) for value in row] for row in rows]
        by_column: list[tuple[str, ...]] = list(zip(*cells, strict=True)) if cells else [()] * len(columns)
        wrapping = _wrapping(columns, by_column, self.console.width)
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for n, (name, column) in enumerate(zip(columns, by_column, strict=True)):
            numeric = all(map(_NUMBER.fullmatch, column)) and set(column) != {"-"}
            table.add_column(name, justify="right" if numeric else "left", no_wrap=n not in wrapping, overflow="fold")
        for row in cells:
            table.add_row(*row)
        if not self._blank_above:
            self.console.print()
        self._print(Text(_plain(title), style="bold"))
        self._print(table)
        self.console.print()
        self._blank_above = True

    def stages(self) -> Stages:
        """A progress display for people."""
        return Stages(self.console, silent=self.as_json)

    def _print(self, what: Text | Table | str, *, soft_wrap: bool = False) -> None:
        self.console.print(what, soft_wrap=soft_wrap)
        self._blank_above = False


@contextmanager
def command(as_json: bool) -> Iterator[Output]:
    """Run a command's body: print its JSON at the end, or its error with the remedy.

    Raises:
        typer.Exit: after an error of ours was shown, or an interruption.
    """
    output = Output(as_json, Console(highlight=False, markup=False, emoji=False))
    try:
        yield output
    except KeyboardInterrupt:
        _show_error(output, CommandInterruptedError())
        raise typer.Exit(INTERRUPTED) from None
    except (typer.Exit, typer.TyperException):
        raise
    except Exception as error:  # a program that asked for JSON gets JSON, whatever happened; nothing is swallowed
        ours = _as_ours(error)
        if ours is not None:
            _show_error(output, ours)
            raise typer.Exit(1) from error
        if as_json:
            fault = "this is a fault of the program: report it with the traceback on standard error"
            print_error(type(error).__name__, str(error), fault)
        raise
    else:
        if as_json:
            print_json(output.result)


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on standard output; a number that is none (a metric without rows) becomes null."""
    sys.stdout.write(json.dumps(_finite(value), indent=2, allow_nan=False) + "\n")


def print_error(
    kind: str, message: str, remedy: str, *, before: Mapping[str, Any] | None = None, **more: object
) -> None:
    """An error as the one JSON object, with what the command had found before it."""
    print_json({**(before or {}), "error": {"type": kind, "message": message, "remedy": remedy, **more}})


def settings_for(home: Path | None, **flags: bool) -> Settings:
    """Settings from the environment, with ``--home`` and flags that the command line sets before it.

    Raises:
        SettingsError: a variable has a value that it cannot have, or the state folder is a file.
    """
    given: dict[str, Any] = {"home": home} if home is not None else {}
    given |= {name: True for name, is_set in flags.items() if is_set}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if not first["loc"]:
            message = first["msg"].removeprefix("Value error, ")
            raise SettingsError(f"In the environment, {message}.", remedy="see docs/settings.md, or unset it") from None
        name = "MBD_" + "_".join(str(part) for part in first["loc"]).upper()
        raise SettingsError(f"{name} is not usable: {first['msg']}.", remedy=f"change or unset {name}") from None
    if settings.state.exists() and not settings.state.is_dir():
        raise SettingsError(f"The state folder {settings.state} is a file.", remedy="change --home or MBD_HOME")
    return settings


def _as_ours(error: Exception) -> MbdError | CertificateError | None:
    """An error as the person who meets it should see it, or None when it is not theirs to mend."""
    match error:
        case MbdError() | CertificateError():
            return error
        case ModuleNotFoundError(name=str(name)) if name.partition(".")[0] in _EXTRAS:
            extra = _EXTRAS[name.partition(".")[0]]
            remedy = f"pip install 'missing-by-design[{extra}]' (or [all])"
            return SettingsError(f"This command needs {name}, which is not installed.", remedy=remedy)
        case BrokenPipeError():  # nobody reads any more: typer ends quietly
            return None
        case OSError(filename=filename, strerror=reason):
            where = f"{filename}: " if filename else ""
            remedy = "check the path, your rights to it, and the disk"
            return SettingsError(f"{where}{reason or error}.", remedy=remedy)
    return None


def _show_error(output: Output, error: MbdError | CertificateError) -> None:
    remedy = error.remedy
    if isinstance(error, CertificateError) and error.code is Code.KEY_FILE_PASSPHRASE:
        remedy += "; it is read from MBD_KEY_PASSPHRASE or MBD_KEY_PASSPHRASE_FILE"  # certs knows no environment
    if output.as_json:
        more: dict[str, object] = {}
        if isinstance(error, CertificateError):
            more["code"] = error.code.value
        if isinstance(error, VerificationError):
            more["step"] = error.step
        print_error(type(error).__name__, error.message, remedy, before=output.result, **more)
    else:
        where = f"step {error.step}, {error.code}: " if isinstance(error, VerificationError) else ""
        console = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
        console.print(Text.assemble(("Error:", "bold red"), f" {where}{_plain(error.message)}"))
        console.print(Text.assemble(("Remedy:", "bold"), f" {_plain(remedy)}"))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _wrapping(names: Sequence[str], columns: Sequence[Sequence[str]], width: int) -> set[int]:
    """The columns that have to wrap so that a table fits: the widest ones, but never the first."""
    widths = [max(map(len, (*name.split("\n"), *column))) for name, column in zip(names, columns, strict=True)]
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - width
    wrapping: set[int] = set()
    for n in sorted(range(1, len(widths)), key=lambda n: -widths[n]):
        if excess <= 0:
            break
        wrapping.add(n)
        excess -= max(0, widths[n] - _NARROWEST)
    return wrapping


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if math.isfinite(value) else "-"
    return _plain(str(value))


def _plain(text: str) -> str:
    """The text without control characters: a name in a foreign file could hold some."""
    return text.translate(_CONTROLS)
