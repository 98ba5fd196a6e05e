"""Progress in a terminal: bars with the time left; plain lines where it is no terminal."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_LINES = 10  # of an arm, where no bar can be drawn


class TerminalDisplay:
    """Bars on standard error: one for each thing that goes on."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, int] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> TerminalDisplay:
        """Start drawing."""
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop drawing; what is drawn stays."""
        self._progress.stop()

    def reading(self, source: str, done: int, total: int) -> None:
        """Photographs of a source are decoded."""
        self._show(f"reading {source}", done, total)

    def training(self, label: str, done: int, rounds: int) -> None:
        """An arm has finished so many rounds."""
        self._show(f"training {label}", done, rounds)

    def measuring(self, done: int, arms: int) -> None:
        """So many arms are measured."""
        self._show("measuring", done, arms)

    def working(self, what: str, done: int, total: int) -> None:
        """So much of anything else is done."""
        self._show(what, done, total)

    def _show(self, what: str, done: int, total: int) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=total or None)
        self._progress.update(self._tasks[what], completed=done, total=total or None)
        step = max(1, total // _LINES)
        if not self._console.is_terminal and done // step != self._said.get(what, 0):
            self._said[what] = done // step
            self._console.print(f"{what}: {done} of {total}", highlight=False)
