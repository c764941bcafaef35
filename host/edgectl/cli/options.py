"""Options that several verbs share, and their parsing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgectl.errors import UsageError

if TYPE_CHECKING:
    from edgectl.build_cache import BuildCache
    from edgectl.sources import Source

ModelArgument = Annotated[
    str,
    typer.Argument(
        help="Name in `edgectl models`, a checkpoint's prefix, a .onnx or .pt2 file, package.module:factory, a bundle."
    ),
]
BoardOption = Annotated[
    str,
    typer.Option("--board", help="sim; a name or id of `edgectl boards`; HOST:PORT; ssh://USER@HOST."),
]
TypeOption = Annotated[str, typer.Option("--type", help="The only board of your inventory of this kind, such as pynq.")]
TrackerOption = Annotated[
    str, typer.Option("--tracker", help="Take a board of --key from the TVM tracker at HOST:PORT.")
]
TrackerKeyOption = Annotated[
    str, typer.Option("--key", help="The type under which boards are registered there, such as pynq.")
]
WaitOption = Annotated[
    float | None,
    typer.Option("--wait", min=0, help="Wait so many seconds for a board that others have (default: 60 for a verb's)."),
]
KindOption = Annotated[str, typer.Option("--board", help="The kind of board to compile for (default: sim).")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
WeightsOption = Annotated[str, typer.Option("--weights", help="auto, pretrained, random, or a file.")]
CalibrationOption = Annotated[
    str, typer.Option("--calibration", help="A folder of photographs or an .npz file to quantize on.")
]
ShapeOption = Annotated[str, typer.Option("--shape", help="Input C,H,W, where a checkpoint does not record it.")]
MeanOption = Annotated[str, typer.Option("--mean", help="Per-channel mean of pixels in 0..1, comma-separated.")]
StdOption = Annotated[str, typer.Option("--std", help="Per-channel standard deviation, comma-separated.")]
LabelsOption = Annotated[
    str, typer.Option("--labels", help="Class names: one a line, or a synset file (Python, JSON).")
]
BatchOption = Annotated[int, typer.Option("--batch", min=1, help="Samples per inference.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of random weights.")]
OffloadOption = Annotated[
    str,
    typer.Option(
        "--offload",
        help="What VTA computes: all it can, none, or reference: convolutions but the first, as others did.",
    ),
]
DeviceOption = Annotated[
    str, typer.Option("--device", help="What computes on the board: vta, or cpu for its CPU alone (--offload none).")
]
PixelsOption = Annotated[
    bool, typer.Option("--pixels", help="The input is the decoded image, uint8, which the board normalises.")
]
DataOption = Annotated[
    str,
    typer.Option("--data", help="Measure accuracy before on these images: an .npz file, or a folder of photographs."),
]
MinAgreementOption = Annotated[
    float | None,
    typer.Option("--min-agreement", help="Refuse below this share (0..1) of --data's answers that are float's."),
]
NoCacheOption = Annotated[bool, typer.Option("--no-cache", help="Compile even what is unchanged, and do not keep it.")]
InputOption = Annotated[
    str, typer.Option("--input", help="A photograph, or a tensor in FILE.npy (default: the cat that ships).")
]
TargetOption = Annotated[
    str, typer.Option("--target", help="llvm: this machine's CPU; cuda: its GPU; or a kind of board.")
]
SoftmaxOption = Annotated[bool, typer.Option("--softmax", help="Append a softmax to outputs that are none.")]
Int8Option = Annotated[bool, typer.Option("--int8", help="Quantize the model first, as for a board.")]
LocalShapeOption = Annotated[
    str, typer.Option("--shape", help="Input C,H,W where none is recorded; 'data0=C,H,W data1=C,H,W' for several.")
]
TopOption = Annotated[int, typer.Option("--top", min=1, help="How many classes to show.")]


def numbers(text: str, option: str) -> tuple[float, ...]:
    """`0.1,0.2,0.3` as floats; empty for an empty text. Raises UsageError."""
    try:
        found = tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        found = (math.nan,)
    if not all(map(math.isfinite, found)):
        raise UsageError(f"{option} {text}: give numbers separated by commas, such as 0.485,0.456,0.406")
    return found


def extents(text: str) -> tuple[int, ...] | dict[str, tuple[int, ...]]:
    """`3,224,224` (or 3x224x224) as integers; `a=3,8,8 b=10` as those of each input. Raises UsageError."""
    try:
        if "=" in text:
            parts = (part.partition("=") for part in text.split())
            return {name: tuple(map(int, shape.replace("x", ",").split(","))) for name, _, shape in parts}
        return tuple(int(part) for part in text.replace("x", ",").split(",")) if text else ()
    except ValueError:
        raise UsageError(f"--shape {text}: give C,H,W, such as 3,224,224, or 'NAME=C,H,W NAME=C,H,W'") from None


def label_lines(path: str) -> tuple[str, ...]:
    """Class names from a file of any common format. Raises UsageError."""
    from edgectl.labels import read_label_file

    return read_label_file(path) if path else ()


def cache_unless(unwanted: bool) -> BuildCache | None:
    """The user's cache of builds, unless it is `unwanted`."""
    from edgectl.build_cache import BuildCache

    return None if unwanted else BuildCache.from_environment()


def offload_to(device: str, offload: str) -> str:
    """What --device and --offload mean together. Raises UsageError."""
    from edgectl.codegen.offload import NOTHING

    if device not in ("vta", "cpu"):
        raise UsageError(f"--device {device}: give vta or cpu")
    if device == "cpu" and offload not in ("all", NOTHING):
        raise UsageError(f"--device cpu gives VTA nothing, --offload {offload} something: leave one of them out")
    return NOTHING if device == "cpu" else offload


def source_of(
    model: str,
    weights: str,
    calibration: str,
    shape: str,
    mean: str,
    std: str,
    labels: str = "",
    batch: int = 1,
    seed: int = 0,
    offload: str = "all",
    pixels: bool = False,
) -> Source:
    """The options together as a Source. Raises UsageError."""
    from edgectl.codegen.offload import OFFLOADS
    from edgectl.sources import Source

    if offload not in OFFLOADS:
        raise UsageError(f"--offload {offload}: give {', '.join(OFFLOADS[:-1])} or {OFFLOADS[-1]}")
    return Source(
        model,
        weights,
        extents(shape),
        numbers(mean, "--mean"),
        numbers(std, "--std"),
        label_lines(labels),
        calibration,
        batch,
        seed,
        offload,
        pixels,
    )


def source_or_bundle(model: str, **options: Any) -> Source | str:
    """`source_of`, or the path of a bundle: that is compiled already, so options other than defaults are refused."""
    from edgectl.sources import is_bundle

    if not is_bundle(model):
        return source_of(model, **options)
    if given := _given(options):
        raise UsageError(f"{model} is compiled already: {given} cannot apply to it; compile the model again with them")
    return model


def refuse_without_model(**options: Any) -> None:
    """Options of compiling where nothing is compiled. Raises UsageError."""
    if given := _given(options):
        raise UsageError(f"{given} needs MODEL: what is live is compiled already")


def refuse_without_local(**options: Any) -> None:
    """Options of compiling for this machine where a board's live model runs. Raises UsageError."""
    if given := _given(options):
        raise UsageError(
            f"{given} needs --local: edgectl run MODEL --local --input PHOTO.jpg; what is live is compiled already"
        )


def refuse_for_host(**options: Any) -> None:
    """Options of compiling for a board where it is for this machine. Raises UsageError."""
    if given := _given(options):
        raise UsageError(f"{given} is for boards, not for --target llvm or cuda; leave it out, or give --board NAME")


def _given(options: dict[str, Any]) -> str:
    """The names of options that are not at their defaults."""
    defaults = {"weights": ("auto",), "batch": (0, 1), "seed": (0,), "offload": ("all",), "device": ("vta",)}
    given = [name for name, value in options.items() if value not in defaults.get(name, ("", False))]
    return ", ".join(f"--{name.replace('_', '-')}" for name in given)
