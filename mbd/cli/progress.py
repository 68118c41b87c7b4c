"""How far a long command is: bars at a terminal, one plain line for each finished stage elsewhere, else silence.

It knows no work: whoever does the work says how far it is.
"""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Column


class Stages:
    """Stages of one command, which run one after the other.

    Args:
        console: where people look.
        silent: show nothing.
    """

    def __init__(self, console: Console, *, silent: bool) -> None:
        self._console = console
        self._lines = not silent and not console.is_terminal
        self._bars = Progress(
            TextColumn("{task.description:<12}", markup=False),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[about]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
            console=console,
            disable=silent or not console.is_terminal,
        )
        self._task = TaskID(0)
        self._running: str | None = None
        self._started = 0.0
        self._about = ""

    def update(self, stage: str, done: float | None, about: str) -> None:
        """Say how far a stage is.

        Args:
            stage: its name; another one than before means that the one before is finished.
            done: its finished fraction, or None when nobody can know.
            about: a few words for people.
        """
        if stage != self._running:
            self._finish()
            self._running, self._started = stage, time.monotonic()
            self._task = self._bars.add_task(stage, about="")
        self._about = about if done is not None else ""  # the last step of many says nothing of the whole
        self._bars.update(self._task, total=None if done is None else 1.0, completed=done, about=about)

    def __enter__(self) -> Self:
        """Begin to show."""
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End; without an error, the last stage is finished."""
        if error is None:
            self._finish()
        self._bars.stop()

    def _finish(self) -> None:
        if self._running is None:
            return
        self._bars.update(self._task, total=1.0, completed=1.0, about=self._about)
        if self._lines:
            seconds = time.monotonic() - self._started
            about = f" ({self._about})" if self._about else ""
            self._console.print(f"{self._running}: done in {seconds:.1f} s{about}")
