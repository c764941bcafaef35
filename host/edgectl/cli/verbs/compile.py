"""edgectl compile."""

from __future__ import annotations

from typing import Annotated

import typer

from edgectl.cli.options import (
    BatchOption,
    CalibrationOption,
    DataOption,
    DeviceOption,
    Int8Option,
    JsonOption,
    KindOption,
    LabelsOption,
    MeanOption,
    MinAgreementOption,
    ModelArgument,
    NoCacheOption,
    OffloadOption,
    PixelsOption,
    SeedOption,
    ShapeOption,
    SoftmaxOption,
    StdOption,
    TargetOption,
    WeightsOption,
    cache_unless,
    offload_to,
    refuse_for_host,
    source_of,
)


def compile(
    model: ModelArgument,
    output: Annotated[str, typer.Option("--output", "-o", help="The bundle's file (default: MODEL.bundle).")] = "",
    board: KindOption = "",
    target: TargetOption = "",
    weights: WeightsOption = "auto",
    calibration: CalibrationOption = "",
    batch: BatchOption = 1,
    shape: ShapeOption = "",
    mean: MeanOption = "",
    std: StdOption = "",
    labels: LabelsOption = "",
    seed: SeedOption = 0,
    report: Annotated[str, typer.Option("--report", help="Also write `edgectl report`'s page to this file.")] = "",
    offload: OffloadOption = "all",
    device: DeviceOption = "vta",
    pixels: PixelsOption = False,
    data: DataOption = "",
    min_agreement: MinAgreementOption = None,
    softmax: SoftmaxOption = False,
    int8: Int8Option = False,
    no_cache: NoCacheOption = False,
    json: JsonOption = False,
) -> None:
    """Compile a model for a board or this machine, to a file.

    \b
    edgectl compile resnet18_v1 --board pynq -o resnet18.bundle
    edgectl deploy resnet18.bundle --board 192.168.2.99:9091
    edgectl compile resnet18_v1 --target llvm -o resnet18.bundle
    edgectl run resnet18.bundle --local --input cat.jpg
    """
    from pathlib import Path

    from edge_agent.accuracy import Accuracy
    from edge_agent.boards import profile_names
    from edge_agent.bundle import read_bundle
    from edgectl.boards.board import CUDA, LLVM
    from edgectl.boards.choosing import check_profile
    from edgectl.cli import terminal
    from edgectl.cli.report import cycles_line, prediction
    from edgectl.cli.running import compile_for_host
    from edgectl.deploying import compile_source
    from edgectl.errors import UsageError
    from edgectl.files import atomic_file
    from edgectl.local import check_target
    from edgectl.report.figures import by_reason, figures_of
    from edgectl.report.page import write_page

    if target and board and target != board:
        raise UsageError(f"--target {target} and --board {board}: give one of them")
    kind = target or board or "sim"
    if target and target not in profile_names():
        check_target(target)
    if kind not in (LLVM, CUDA):
        check_profile(kind)
        if softmax or int8:
            raise UsageError(
                "--softmax and --int8 are for --target llvm and cuda: boards get int8, and classes are ranked by scores"
            )
    if output and Path(output).is_dir():
        raise UsageError(f"--output {output} is a folder; give the path of a file")
    if report and Path(report).is_dir():
        raise UsageError(f"--report {report} is a folder; give the path of a file")
    offloaded = offload_to(device, offload)
    source = source_of(model, weights, calibration, shape, mean, std, labels, batch, seed, offloaded, pixels)
    if kind in (LLVM, CUDA):
        given = {"report": report, "device": device, "offload": offload, "pixels": pixels, "data": data}
        refuse_for_host(**given, min_agreement="" if min_agreement is None else str(min_agreement))
        compile_for_host(source, output, softmax, int8, not no_cache, json, kind)
        return
    with terminal.stages() as progress:
        cache = cache_unless(no_cache)
        build, prepared = compile_source(source, kind, progress, cache, data or None, min_agreement)
    manifest = build.manifest
    name = manifest["model"]["name"]
    path = Path(output or f"{name}.bundle")
    with atomic_file(path) as file:
        file.write(build.data)
    if report:
        write_page(figures_of(read_bundle(build.data)), Path(report))
    terminal.notices(prepared.notices)
    terminal.banner(prepared.weights.banner)
    if json:
        terminal.print_json(
            {
                "model": name,
                "weights": {**manifest["model"]["weights"], "banner": prepared.weights.banner},
                "board": kind,
                "output": str(path),
                "bundle": {"digest": build.digest, "bytes": len(build.data)},
                "cached": build.cached,
                "timings": progress.seconds,
                "counters": manifest["counters"],
                "predicted_cycles": manifest["predicted"]["vta_cycles"],
                "predicted": manifest["predicted"],
                "layers": manifest["layers"],
                "accuracy": manifest.get("accuracy"),
                **({"report": report} if report else {}),
            }
        )
        return
    console = terminal.output()
    console.print(
        f"{path}: {name} for {kind}, {len(build.data) / 1e6:.1f} MB, digest {build.digest[:12]}, "
        f"{build.how_made} in {sum(progress.seconds.values()):.1f} s"
    )
    console.print(
        f"{len(manifest['layers']['vta'])} layers on VTA in {len(build.programs)} program"
        f"{'s' if len(build.programs) != 1 else ''}; look inside with: edgectl inspect {path}"
    )
    console.print(prediction(manifest))
    console.print(cycles_line(manifest))
    if accuracy := Accuracy.of(manifest):
        console.print(accuracy.in_words(), soft_wrap=True)
    if report:
        console.print(f"where that time goes: {report}", soft_wrap=True)
    reasons = by_reason((fallback.layer, fallback.reason) for fallback in build.fallbacks)
    for reason, layers in reasons.items():
        console.print(f"[dim]on the CPU: {', '.join(layers)}: {reason}[/dim]", soft_wrap=True)
