"""edgectl bench."""

from __future__ import annotations

from typing import Annotated

import typer

from edgectl.cli.options import (
    BoardOption,
    CalibrationOption,
    InputOption,
    JsonOption,
    MeanOption,
    SeedOption,
    ShapeOption,
    StdOption,
    WeightsOption,
    is_bundle,
    source_of,
)


def bench(
    model: Annotated[str, typer.Argument(help="Deploy this first (default: measure what is live).")] = "",
    board: BoardOption = "sim",
    number: Annotated[int, typer.Option(min=1, help="Inferences per round.")] = 10,
    repeat: Annotated[int, typer.Option(min=1, help="Rounds.")] = 3,
    batch: Annotated[int, typer.Option(min=0, help="Samples per inference; needs MODEL (0: as deployed).")] = 0,
    input: InputOption = "",
    weights: WeightsOption = "auto",
    calibration: CalibrationOption = "",
    shape: ShapeOption = "",
    mean: MeanOption = "",
    std: StdOption = "",
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Measure repeated inference: mean, deviation and percentiles per sample, and the VTA counters.

    \b
    edgectl bench --number 10 --repeat 3
    edgectl bench resnet18_v1 --batch 4 --json
    """
    from edgectl.boards.board import Board
    from edgectl.cli.report import show_measurement
    from edgectl.cli.terminal import print_json, stages
    from edgectl.deploying import deploy, measure
    from edgectl.errors import UsageError
    from edgectl.images import DEFAULT_IMAGE

    image = input or DEFAULT_IMAGE
    with stages() as progress:
        if model:
            source = (
                model
                if is_bundle(model)
                else source_of(model, weights, calibration, shape, mean, std, batch=batch or 1, seed=seed)
            )
            measurement = deploy(source, board, image, number, repeat, stages=progress)
        else:
            with Board(board, start=False) as opened:
                measurement = measure(opened, image, number, repeat, stages=progress)
    if batch and measurement.batch != batch:
        raise UsageError(
            f"what is live was compiled for batches of {measurement.batch}, not {batch}; name the model to deploy it "
            f"again: edgectl bench {measurement.manifest['model']['name']} --batch {batch}"
        )
    if json:
        print_json({**measurement.as_dict(), "number": number, "repeat": repeat})
        return
    show_measurement(measurement)
