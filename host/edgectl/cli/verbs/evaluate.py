"""edgectl evaluate."""

from __future__ import annotations

from typing import Annotated

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


def evaluate(
    model: ModelArgument,
    data: Annotated[str, typer.Option("--data", help="An .npz file with images x and class indices y.")],
    calibration: CalibrationOption = "",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many images.")] = None,
    weights: WeightsOption = "auto",
    shape: ShapeOption = "",
    mean: MeanOption = "",
    std: StdOption = "",
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Accuracy in float and in int8, and how often both agree.

    x is uint8 (N, H, W, C), preprocessed as the model says, or float32 (N, C, H, W), used as it is.

    \b
    edgectl evaluate resnet20_cifar10 --data cifar10_test.npz
    edgectl evaluate my_model --shape 3,32,32 --data test.npz --calibration train100.npz --json
    """
    from edgectl import evaluating
    from edgectl.cli.terminal import banner, notices, output, print_json, stages, table

    with stages() as progress:
        source = source_or_bundle(
            model, weights=weights, calibration=calibration, shape=shape, mean=mean, std=std, seed=seed
        )
        if isinstance(source, str):
            report = evaluating.evaluate_bundle(source, data, limit, progress)
        else:
            report = evaluating.evaluate(source, data, limit, progress)
    notices(report.notices)
    banner(report.banner)
    if json:
        print_json({**report.as_dict(), "timings": progress.seconds})
        return
    result = report.evaluation
    rows = table("", report.model, right=(report.model,))

    def percent(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.2f} %"

    rows.add_row("images", f"{result.n:,}")
    rows.add_row("top-1, float", percent(result.top1_float))
    rows.add_row("top-1, int8", percent(result.top1_int8))
    rows.add_row("same answer", percent(result.agreement))
    rows.add_row("mean cosine of outputs", "-" if result.mean_cosine is None else f"{result.mean_cosine:.5f}")
    output().print(rows)
