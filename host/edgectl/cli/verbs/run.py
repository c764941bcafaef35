"""edgectl run."""

from __future__ import annotations

from typing import Annotated

import typer

from edgectl.cli.options import (
    BoardOption,
    CalibrationOption,
    Int8Option,
    JsonOption,
    LabelsOption,
    LocalShapeOption,
    MeanOption,
    NoCacheOption,
    SeedOption,
    SoftmaxOption,
    StdOption,
    TargetOption,
    TopOption,
    TrackerKeyOption,
    TrackerOption,
    TypeOption,
    WaitOption,
    WeightsOption,
    refuse_without_local,
)


def run(
    what: Annotated[
        str, typer.Argument(metavar="[PHOTO]", help="A photograph (default: the cat); with --local, the model.")
    ] = "",
    board: BoardOption = "sim",
    input: Annotated[
        list[str] | None,
        typer.Option("--input", help="A photograph or .npy file; NAME=FILE for each of several inputs."),
    ] = None,
    local: Annotated[bool, typer.Option("--local", help="Compile the model for this machine and run it here.")] = False,
    target: TargetOption = "",
    softmax: SoftmaxOption = False,
    int8: Int8Option = False,
    output_layer: Annotated[str, typer.Option("--output-layer", help="Give this inner layer's result.")] = "",
    output: Annotated[str, typer.Option("--output", "-o", help="Keep the result in this .npy file.")] = "",
    weights: WeightsOption = "auto",
    calibration: CalibrationOption = "",
    shape: LocalShapeOption = "",
    mean: MeanOption = "",
    std: StdOption = "",
    labels: LabelsOption = "",
    seed: SeedOption = 0,
    top: TopOption = 5,
    no_cache: NoCacheOption = False,
    type: TypeOption = "",
    tracker: TrackerOption = "",
    key: TrackerKeyOption = "",
    wait: WaitOption = None,
    json: JsonOption = False,
) -> None:
    """Classify a photograph: with the model that is deployed, or with a model on this machine's CPU.

    \b
    edgectl run cat.jpg
    edgectl run cat.jpg --top 3 --json
    edgectl run resnet20_cifar10 --local --input cat.jpg --softmax
    edgectl run my_model --local --input data0=left.npy --input data1=right.npy --output-layer fc1
    """
    from edgectl.boards.choosing import selection
    from edgectl.cli.running import run_live, run_local
    from edgectl.errors import UsageError

    given = list(input or ())
    compiling = {
        "target": target, "softmax": softmax, "int8": int8, "output-layer": output_layer, "output": output,
        "weights": weights, "calibration": calibration, "shape": shape, "mean": mean, "std": std, "labels": labels,
        "seed": seed, "no-cache": no_cache,
    }  # fmt: skip
    if local:
        if not what:
            raise UsageError("--local needs a model: edgectl run MODEL --local --input PHOTO.jpg")
        run_local(what, given, compiling, top, json)
        return
    refuse_without_local(**compiling)
    if len(given) + bool(what) > 1:
        raise UsageError(f"one photograph at a time: {', '.join([*filter(None, [what]), *given])} were given")
    run_live(what or (given[0] if given else ""), selection(board, type, tracker, key), wait, top, json)
