"""edgectl convert."""

from __future__ import annotations

from typing import Annotated

import typer

from edgectl.cli.options import (
    JsonOption,
    LabelsOption,
    LocalShapeOption,
    MeanOption,
    SeedOption,
    StdOption,
    WeightsOption,
    extents,
    label_lines,
    numbers,
)


def convert(
    model: Annotated[
        str, typer.Argument(help="A zoo name, a checkpoint's prefix, a .pt2 or .onnx file, or package.module:factory.")
    ],
    to: Annotated[str, typer.Option("--to", help="mxnet or torch.")],
    output: Annotated[
        str, typer.Option("--output", "-o", help="First part of the files' names (default: the model's name).")
    ] = "",
    weights: WeightsOption = "auto",
    shape: LocalShapeOption = "",
    mean: MeanOption = "",
    std: StdOption = "",
    resize: Annotated[
        int | None, typer.Option("--resize", min=0, help="Short side in pixels that photographs are resized to.")
    ] = None,
    channels: Annotated[str, typer.Option("--channels", help="Order of the input's channels, RGB or BGR.")] = "",
    labels: LabelsOption = "",
    input: Annotated[str, typer.Option("--input", help="The photograph to compare on (default: a cat).")] = "",
    tolerance: Annotated[
        float | None, typer.Option("--tolerance", help="Largest difference of a layer, of its largest value (1e-4).")
    ] = None,
    no_proof: Annotated[bool, typer.Option("--no-proof", help="Run nothing: the contrast says so.")] = False,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Write a model for MXNet or PyTorch, and prove that it computes the same.

    \b
    edgectl convert resnet18_v1 --to torch -o resnet18
    edgectl convert net.pt2 --to mxnet -o net
    edgectl convert package.module:factory --weights net.pth --shape 3,224,224 --to mxnet -o net
    """
    from edgectl.cli import terminal
    from edgectl.converting import convert as converted
    from edgectl.converting import described, load_source
    from edgectl.interchange.contrast import TOLERANCE
    from edgectl.sources import input_shapes

    with terminal.stages() as progress:
        with progress.stage("load"):
            names = label_lines(labels)
            loaded, report, reference = load_source(model, weights, input_shapes(extents(shape)), seed)
            loaded = described(loaded, numbers(mean, "--mean"), numbers(std, "--std"), resize, channels)
        conversion = converted(
            loaded,
            to,
            output,
            labels=names,
            tolerance=TOLERANCE if tolerance is None else tolerance,
            image=input,
            proof=not no_proof,
            seed=seed,
            stages=progress,
            reference=reference,
        )
    contrast = conversion.contrast
    terminal.notices(conversion.notices)
    terminal.banner(report.banner)
    if json:
        document = contrast.document()
        del document["layers"], document["parameters"]
        terminal.print_json(
            {
                **document,
                "weights": {"kind": report.kind, "source": report.source, "banner": report.banner},
                "files": [str(path) for path in conversion.files],
                "timings": progress.seconds,
            }
        )
        return
    console = terminal.output()
    for path in conversion.files:
        console.print(str(path), markup=False)
    if contrast.executed_by[1]:
        console.print(
            f"{len(contrast.layers)} layers compared on {', '.join(contrast.inputs)}; a layer alone differs by at most "
            f"{contrast.max_own_difference:.2g} of its largest value, the outputs by {contrast.output_difference:.2g}",
            markup=False,
        )
        console.print(f"source run by {contrast.executed_by[0]}, target by {contrast.executed_by[1]}", markup=False)
    if contrast.top:
        rows = terminal.table(contrast.top.image, "source", "target", right=("source", "target"))
        for ours, theirs in zip(contrast.top.source, contrast.top.target, strict=True):
            name = ours[1] or f"class {ours[0]}"
            other = "" if theirs[0] == ours[0] else f" ({theirs[1] or theirs[0]})"
            rows.add_row(name, f"{ours[2]:.4f}", f"{theirs[2]:.4f}{other}")
        console.print(rows)
