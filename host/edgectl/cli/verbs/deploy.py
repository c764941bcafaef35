"""edgectl deploy."""

from __future__ import annotations

from edgectl.cli.options import (
    BatchOption,
    BoardOption,
    CalibrationOption,
    DataOption,
    DeviceOption,
    InputOption,
    JsonOption,
    LabelsOption,
    MeanOption,
    MinAgreementOption,
    ModelArgument,
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
    source_or_bundle,
)


def deploy(
    model: ModelArgument,
    board: BoardOption = "sim",
    input: InputOption = "",
    weights: WeightsOption = "auto",
    calibration: CalibrationOption = "",
    batch: BatchOption = 1,
    shape: ShapeOption = "",
    mean: MeanOption = "",
    std: StdOption = "",
    labels: LabelsOption = "",
    seed: SeedOption = 0,
    top: TopOption = 5,
    data: DataOption = "",
    min_agreement: MinAgreementOption = None,
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
    """Compile a model, put it on a board, check it, run a photograph.

    \b
    edgectl deploy resnet20_cifar10
    edgectl deploy resnet18_v1 --weights random --json
    edgectl deploy my_model --shape 3,32,32 --calibration photos/ --input cat.jpg
    edgectl deploy my_model --shape 3,32,32 --data validation.npz --min-agreement 0.98
    """
    from edgectl.boards.choosing import selection
    from edgectl.cli.report import show_measurement, show_warnings
    from edgectl.cli.terminal import print_json, stages
    from edgectl.deploying import deploy as deploy_model

    board = selection(board, type, tracker, key)
    source = source_or_bundle(
        model,
        weights=weights,
        calibration=calibration,
        shape=shape,
        mean=mean,
        std=std,
        labels=labels,
        batch=batch,
        seed=seed,
        offload=offload_to(device, offload),
        pixels=pixels,
    )
    with stages() as progress:
        measurement = deploy_model(
            source,
            board,
            input or None,
            top=top,
            stages=progress,
            cache=cache_unless(no_cache),
            data=data or None,
            min_agreement=min_agreement,
            wait=wait,
        )
    if json:
        show_warnings(measurement)
        print_json(measurement.as_dict())
        return
    option = "" if board == "sim" else f" --board {board}"
    steps = [
        f"edgectl run PHOTO.jpg{option}",
        f"edgectl bench --number 10 --repeat 3{option}",
        f"edgectl status{option}",
    ]
    show_measurement(measurement, (*steps, f"edgectl stop{option}") if measurement.simulated else tuple(steps))
