"""edgectl report."""

from __future__ import annotations

from typing import Annotated

import typer

from edgectl.cli.options import JsonOption


def report(
    bundle: Annotated[str, typer.Argument(help="A bundle, as `edgectl compile` writes it.")],
    output: Annotated[
        str, typer.Option("--output", "-o", help="The page's file (default: beside BUNDLE, with --json none).")
    ] = "",
    json: JsonOption = False,
) -> None:
    """Write a page on where the predicted time on VTA goes.

    \b
    edgectl report resnet18.bundle
    edgectl report resnet18.bundle -o resnet18.html
    """
    from pathlib import Path

    from edgectl.cli import terminal
    from edgectl.errors import UsageError
    from edgectl.inspecting import open_programs
    from edgectl.report.figures import figures_of
    from edgectl.report.page import write_page

    path = Path(output or Path(bundle).with_suffix(".html"))
    if path.is_dir():
        raise UsageError(f"--output {path} is a folder; give the path of a file")
    opened = open_programs(bundle).bundle
    if opened is None:
        raise UsageError(f"{bundle} is a single program; give the bundle that holds it")
    figures = figures_of(opened)
    if output or not json:
        write_page(figures, path)
    if json:
        terminal.print_json(figures.as_dict())
        return
    terminal.output().print(str(path), soft_wrap=True)
