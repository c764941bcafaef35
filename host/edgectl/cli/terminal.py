"""What people see: data on standard output, messages on standard error, progress on a terminal only."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from edgectl.stages import Stages


def output() -> Console:
    """Standard output. Honours NO_COLOR; lines are not cut where it is not a terminal."""
    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def errors() -> Console:
    """Standard error."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(document: Mapping[str, Any] | Sequence[Any]) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(document, indent=2, default=str) + "\n")


def banner(text: str) -> None:
    """A warning that nobody misses."""
    if text:
        errors().print(Panel(text, style="bold white on red", title="WARNING"), soft_wrap=False)


def notices(texts: Sequence[str]) -> None:
    for text in texts:
        errors().print(f"[yellow]note:[/yellow] {text}")


def table(*columns: str, right: Sequence[str] = ()) -> Table:
    """A plain table; columns named in `right` are aligned to the right."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left")
    return made


@contextmanager
def stages() -> Iterator[Stages]:
    """Stages that show themselves on standard error while they run, if that is a terminal."""
    console = errors()
    if not console.is_terminal:
        yield Stages()
        return
    columns = (
        SpinnerColumn(finished_text="[green]✓[/green]"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=False) as progress:
        view = _View(progress)
        try:
            yield Stages(view.announce)
            view.finish()
        except BaseException:
            view.abandon()
            raise


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

    def finish(self) -> None:
        if self._task is not None:
            self._progress.update(self._task, total=1.0, completed=1.0)
            self._task = None

    def abandon(self) -> None:
        if self._task is not None:
            self._progress.update(self._task, description=f"[red]{self._name}[/red]", visible=True)
            self._progress.stop_task(self._task)
