"""edgectl bench."""

from __future__ import annotations

from typing import Annotated

import typer

from edgectl.cli.options import (
    BoardOption,
    CalibrationOption,
    DeviceOption,
    InputOption,
    JsonOption,
    MeanOption,
    NoCacheOption,
    OffloadOption,
    PixelsOption,
    SeedOption,
    ShapeOption,
    StdOption,
    TopOption,
    TrackerKeyOption,
    TrackerOption,
    TypeOption,
    WaitOption,
    WeightsOption,
    cache_unless,
    offload_to,
    refuse_without_model,
    source_or_bundle,
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
    top: TopOption = 5,
    offload: OffloadOption = "all",
    device: DeviceOption = "vta",
    pixels: PixelsOption = False,
    no_cache: NoCacheOption = False,
    type: TypeOption = "",
    tracker: TrackerOption = "",
    key: TrackerKeyOption = "",
    wait: WaitOption = None,
    json: JsonOption = False,
) -> None:
    """Measure repeated inference: latency per sample, VTA counters.

    \b
    edgectl bench --number 10 --repeat 3
    edgectl bench resnet18_v1 --batch 4 --json
    """
    from edgectl.boards.board import Board
    from edgectl.boards.choosing import selection
    from edgectl.cli.report import show_measurement, show_warnings
    from edgectl.cli.terminal import print_json, stages
    from edgectl.errors import UsageError
    from edgectl.measuring import measure

    board = selection(board, type, tracker, key)
    image = input or None
    options = {
        "weights": weights,
        "calibration": calibration,
        "shape": shape,
        "mean": mean,
        "std": std,
        "seed": seed,
        "offload": offload_to(device, offload),
        "pixels": pixels,
    }
    with stages() as progress:
        if model:
            from edgectl.deploying import deploy

            source = source_or_bundle(model, **options, batch=batch or 1)
            cache = cache_unless(no_cache)
            measurement = deploy(source, board, image, number, repeat, top, progress, cache, wait=wait)
        else:
            refuse_without_model(**options)
            with Board(board, start=False) as opened:
                live = opened.status()["live"]
                if live and batch not in (0, live["batch"]):
                    raise UsageError(
                        f"what is live was compiled for batches of {live['batch']}, not {batch}; name the model to "
                        f"deploy it again: edgectl bench {live['model']} --batch {batch}"
                    )
                with opened.leased("bench", wait, progress.remark):
                    measurement = measure(opened, image, number, repeat, top, progress)
    if json:
        show_warnings(measurement)
        print_json({**measurement.as_dict(), "number": number, "repeat": repeat})
        return
    show_measurement(measurement)
