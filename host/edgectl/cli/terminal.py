"""What people see: data on standard output, messages on standard error, progress on a terminal only."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from edgectl.stages import Stages

FILE_COLUMNS = 500
"""Width of what does not go to a terminal: nothing is wrapped for a reader that is a program."""
BANNER_COLUMNS = 100


def _console(stream: TextIO, stderr: bool) -> Console:
    """Honours NO_COLOR. Long lines wrap between words on a terminal, and stay whole elsewhere."""
    terminal = stream.isatty()
    width = None if terminal or "COLUMNS" in os.environ else FILE_COLUMNS
    return Console(stderr=stderr, highlight=False, soft_wrap=not terminal, width=width)


def output() -> Console:
    """Standard output."""
    return _console(sys.stdout, stderr=False)


def errors() -> Console:
    """Standard error."""
    return _console(sys.stderr, stderr=True)


def print_json(document: Mapping[str, Any] | Sequence[Any]) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(document, indent=2, default=str) + "\n")


def banner(text: str) -> None:
    """A warning that nobody misses, on standard error; its first line is the headline."""
    if text:
        console = errors()
        headline, _, rest = text.partition("\n")
        body = Text(headline, style="bold")
        if rest:
            body.append("\n" + rest, style="not bold")
        panel = Panel(body, box=box.HEAVY, style="white on red", width=min(console.width, BANNER_COLUMNS))
        console.print(panel, soft_wrap=False)


def notices(texts: Sequence[str]) -> None:
    """Remarks on standard error."""
    for text in texts:
        errors().print(Text.assemble(("note: ", "yellow"), text))


def waiting(text: str) -> None:
    """What is waited for, on standard error."""
    errors().print(Text(text, style="dim"))


def failure(message: str) -> None:
    """An error on standard error."""
    # A path may hold bytes that are no text.
    printable = message.encode("utf-8", "backslashreplace").decode()
    errors().print(Text.assemble(("error: ", "bold red"), printable))


def table(*columns: str, right: Sequence[str] = ()) -> Table:
    """A plain table; columns named in `right` are aligned to the right."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def milliseconds(value: float) -> str:
    """A duration with three significant digits or more."""
    return f"{value:,.{2 if value < 10 else 1 if value < 1000 else 0}f} ms"


def stage_times(seconds: Mapping[str, float]) -> str:
    """Where the time went, in one line."""
    parts = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())
    return f"{sum(seconds.values()):.1f} s: {parts}"


@contextmanager
def stages() -> Iterator[Stages]:
    """Stages that show themselves on standard error while they run, if that is a terminal."""
    console = errors()
    if not console.is_terminal:
        yield Stages()
        return
    columns = (SpinnerColumn(finished_text="[green]✓[/green]"), TextColumn("{task.description}"), _Seconds(), _Done())
    with Progress(*columns, console=console) as progress:
        view = _View(progress)
        try:
            yield Stages(view.announce, view.remark)
            view.finish()
        except BaseException:
            view.abandon()
            raise


class _Seconds(ProgressColumn):
    """The time that a stage has taken so far."""

    def render(self, task: Task) -> Text:
        seconds = task.finished_time if task.finished else task.elapsed
        return Text(f"{seconds or 0.0:6.1f} s", style="dim")


class _Done(BarColumn):
    """How far a stage is, while it runs and knows."""

    def __init__(self) -> None:
        super().__init__(bar_width=24)

    def render(self, task: Task) -> Any:
        return Text("") if task.finished or not task.total else super().render(task)


class _View:
    """One line for each stage."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None
        self._name = ""
        self._shown = 0.0

    def announce(self, name: str, fraction: float | None) -> None:
        if fraction is None:
            self.finish()
            self._name = name
            self._task = self._progress.add_task(name, total=None)
        elif self._task is not None and (fraction >= 1 or time.monotonic() - self._shown > 0.05):
            self._shown = time.monotonic()
            self._progress.update(self._task, total=1.0, completed=min(fraction, 0.999))

    def remark(self, text: str) -> None:
        if self._task is not None:
            self._progress.update(self._task, description=f"{self._name}: {text}")

    def finish(self) -> None:
        if self._task is not None:
            self._progress.update(self._task, total=1.0, completed=1.0)
            self._task = None

    def abandon(self) -> None:
        if self._task is not None:
            self._progress.update(self._task, description=f"[red]{self._name}: not finished[/red]")
            self._progress.stop_task(self._task)
