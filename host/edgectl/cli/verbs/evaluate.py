"""edgectl evaluate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from edgectl.cli.options import (
    CalibrationOption,
    JsonOption,
    MeanOption,
    ModelArgument,
    SeedOption,
    ShapeOption,
    StdOption,
    WeightsOption,
    source_or_bundle,
)

if TYPE_CHECKING:
    from rich.table import Table

    from edgectl.accuracy import Proportion
    from edgectl.evaluating import Report

TITLES = {"float": "float", "integer": "int8", "board": "int8 on board"}


def evaluate(
    model: ModelArgument,
    data: Annotated[
        str, typer.Option("--data", help="An .npz file with images x and class indices y, or a folder of photographs.")
    ],
    calibration: CalibrationOption = "",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many images.")] = None,
    board: Annotated[
        str,
        typer.Option(
            "--board", help="Also there: sim, simulated in this process; HOST:PORT, where MODEL must be live."
        ),
    ] = "",
    layers: Annotated[
        int, typer.Option("--layers", min=0, help="How many of the worst layers to show; 0 does not compare layers.")
    ] = 5,
    weights: WeightsOption = "auto",
    shape: ShapeOption = "",
    mean: MeanOption = "",
    std: StdOption = "",
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Accuracy in float, in int8 and on a board, layer by layer.

    x is uint8 (N, H, W, C), preprocessed as the model says, or float32 (N, C, H, W), used as it is. Without y, and for
    photographs, only answers and outputs are compared.

    \b
    edgectl evaluate resnet20_cifar10 --data cifar10_test.npz --board sim --limit 500
    edgectl evaluate resnet18_v1 --data photos/ --layers 100
    edgectl evaluate my_model --shape 3,32,32 --data test.npz --calibration train100.npz --json
    """
    from edgectl import evaluating
    from edgectl.cli.terminal import banner, notices, print_json, stages

    with stages() as progress:
        source = source_or_bundle(
            model, weights=weights, calibration=calibration, shape=shape, mean=mean, std=std, seed=seed
        )
        report = evaluating.evaluate(source, data, limit, progress, board, layers > 0)
    notices(report.notices)
    banner(report.banner)
    if json:
        document = report.as_dict()
        print_json({**document, "layers": document["layers"][:layers], "timings": progress.seconds})
        return
    _show(report, layers)


def _show(report: Report, layers: int) -> None:
    from pathlib import Path

    from edgectl.accuracy import CONFIDENCE
    from edgectl.cli.terminal import output

    console = output()
    images = f"{report.evaluation.n:,} image{'s' * (report.evaluation.n != 1)}"
    console.print(f"[bold]{report.model}[/bold] on {images} of {Path(report.data).name}\n", soft_wrap=True)
    console.print(_forms(report))
    console.print(f"[dim]ranges: {CONFIDENCE * 100:g} % confidence intervals (Wilson) for images like these[/dim]")
    if report.layers and layers:
        shown = min(layers, len(report.layers))
        console.print(
            f"\n[bold]{shown} of {len(report.layers)} layers[/bold] by signal to quantization noise: "
            "with the error so far, alone",
            soft_wrap=True,
        )
        console.print(_layers(report, shown))
        own = [error for error in report.layers if error.own is not None]
        if own:
            worst = min(own, key=lambda error: error.own or 0.0)
            console.print(f"adding most noise by itself: {worst.layer} ({worst.own:.1f} dB)", soft_wrap=True)


def _forms(report: Report) -> Table:
    """A column for each form, a row for each figure that any of them has."""
    from edgectl.cli.terminal import table

    forms = report.evaluation.forms
    titles = {name: TITLES[name] if name != "board" else f"int8 on {report.board}" for name in forms}
    rows = table("", *titles.values(), right=tuple(titles.values()))

    def add(title: str, figure: str) -> None:
        found = {name: getattr(form, figure) for name, form in forms.items()}
        if any(value is not None for value in found.values()):
            rows.add_row(title, *(_shown(value) for value in found.values()))

    add("top-1", "top1")
    add("top-5", "top5")
    add("same answer as float", "agreement")
    add("cosine with float, mean", "mean_cosine")
    add("                   worst", "worst_cosine")
    equal = {name: form.equal for name, form in forms.items()}
    if any(equal.values()):
        counts = (f"{found.count:,} of {found.of:,}" if found else "-" for found in equal.values())
        rows.add_row("equal to interpreter", *counts)
    return rows


def _shown(value: Proportion | float | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.5f}"
    low, high = value.interval
    return f"{100 * value.value:.2f} %\n[dim]{100 * low:.1f} to {100 * high:.1f}[/dim]"


def _layers(report: Report, count: int) -> Table:
    from edgectl.accuracy_gate import decibels
    from edgectl.cli.terminal import table

    rows = table("layer", "computed as", "SQNR", "alone", right=("SQNR", "alone"))
    # Whole names: they are what one searches for.
    rows.columns[0].overflow = "fold"
    for error in report.layers[:count]:
        rows.add_row(
            error.layer,
            error.operator.replace("_", " "),
            decibels(error.sqnr),
            "-" if error.own is None else decibels(error.own),
        )
    return rows
