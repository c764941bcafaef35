"""One model in another framework's files, with the proof that both compute the same."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgectl.datasets import image_preprocessing
from edgectl.errors import EdgectlError, ModelError, UsageError
from edgectl.files import atomic_file
from edgectl.frontends.graph_builder import Shapes
from edgectl.frontends.torch import import_torch
from edgectl.frontends.torch_factory import is_factory
from edgectl.graph import Model, Preprocessing
from edgectl.images import DEFAULT_IMAGE, load_image
from edgectl.interchange.contrast import (
    TOLERANCE,
    Contrast,
    LayerContrast,
    ParameterContrast,
    TopContrast,
    contrast_layers,
    contrast_parameters,
    contrast_top,
    relative_difference,
)
from edgectl.interchange.execution import Executor, evaluated, framework_outputs, mxnet_executor, torch_executor
from edgectl.interchange.mxnet import CheckpointPaths, read_parameters, write_checkpoint
from edgectl.interchange.mxnet_writer import to_symbol
from edgectl.interchange.sidecar import SUFFIX as SIDECAR
from edgectl.interchange.sidecar import sidecar_text
from edgectl.interchange.state_dict_file import write_state_dict
from edgectl.interchange.torch_file import read_torch_tensors
from edgectl.interchange.torch_writer import to_torch, valid_module_name
from edgectl.interchange.translation import Translation
from edgectl.loading import load, network_of
from edgectl.random_weights import synthetic_inputs
from edgectl.stages import Stages
from edgectl.weights import WeightsReport

TARGETS = ("mxnet", "torch")
NAMES = {"mxnet": "MXNet", "torch": "PyTorch"}
RANDOM_SAMPLES = 2
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SOURCE = "edgectl's interpreter"


@dataclass(frozen=True)
class Conversion:
    """`files` that were written, the model and where its weights are from, and the proof."""

    model: Model
    weights: WeightsReport
    to: str
    files: tuple[Path, ...]
    contrast: Contrast
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Written:
    """Files in a folder of their own: what they hold, and how to run them."""

    names: tuple[str, ...]
    translation: Translation
    parameters: Callable[[], dict[str, np.ndarray]]
    executor: Callable[[], Executor]


def convert(
    source: str | os.PathLike[str] | Model | Any,
    to: str,
    output: str | os.PathLike[str] = "",
    weights: str = "auto",
    input_shapes: Shapes | None = None,
    preprocessing: Preprocessing | None = None,
    labels: Sequence[str] = (),
    tolerance: float = TOLERANCE,
    image: str | os.PathLike[str] = "",
    proof: bool = True,
    seed: int = 0,
    epoch: int = 0,
    stages: Stages | None = None,
    reference: Any = None,
) -> Conversion:
    """Write a float model for MXNet or PyTorch (`to`: mxnet, torch) and prove that the files compute the same.

    `source` is whatever `load` takes, or a Model; `reference` is the framework's own object that a Model came from, a
    torch module or a Gluon block, whose outputs are compared too (of any other source, that is `source` itself).

    With `output` OUT (default: the model's name) the files are, for MXNet, OUT-symbol.json, OUT-0000.params and
    OUT-preprocessing.json, for PyTorch OUT.py and OUT.pth; and OUT-contrast.json and OUT-contrast.md, the comparison of
    every layer and parameter. Without `proof` nothing is run, and these say so.

    The written files are run on random inputs and, where the model takes photographs, on `image` (default: the cat
    that ships). `tolerance` is the largest difference that a layer alone may have, in
    units of its largest value; outputs of the whole may have ten times that.

    Raises VerificationError, naming the first diverging layer, where they differ: then of the files only the contrast
    is written. Raises ModelError (not expressible, or not loadable), UsageError, UnreachableError: nothing is written.
    """
    progress = stages or Stages()
    if to not in TARGETS:
        raise UsageError(f"--to {to}: give {' or '.join(TARGETS)}")
    if not 0 <= tolerance < 1:
        raise UsageError(f"--tolerance {tolerance} must be at least 0 and less than 1, such as {TOLERANCE}")
    if to == "torch" and proof:
        _require_torch()
    with progress.stage("load"):
        if isinstance(source, Model):
            model, report = source, WeightsReport("model", source.name)
        else:
            model, report, reference = load_source(source, weights, input_shapes, seed, epoch)
        model = replace(model, preprocessing=preprocessing or model.preprocessing, labels=tuple(labels) or model.labels)
    target = _output_path(output, model, to)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=_parent(target)) as folder:
        base = Path(folder) / target.name
        with progress.stage("write"):
            written = (_write_mxnet if to == "mxnet" else _write_torch)(model, base)
        contrast, notices = _plain(model, written, to, tolerance), _notices(model, proof)
        if proof:
            with progress.stage("prove"):
                contrast = _proved(contrast, model, written, reference, image, seed)
        digests = {name: hashlib.sha256((base.parent / name).read_bytes()).hexdigest() for name in written.names}
        contrast = replace(contrast, files=digests)
        try:
            if proof:
                contrast.verify()
        except EdgectlError as error:
            kept = _write_contrast(contrast, target)
            raise type(error)(f"{error}; every layer is in {kept[1]}, and the model's files were not written") from None
        files = [_moved(base.parent / name, target.parent / name) for name in written.names]
    files += _write_contrast(contrast, target)
    return Conversion(model, report, to, tuple(files), contrast, notices)


def load_source(
    source: Any, weights: str = "auto", input_shapes: Shapes | None = None, seed: int = 0, epoch: int = 0
) -> tuple[Model, WeightsReport, Any]:
    """`load`, and the framework's own object with the same weights; None where there is none. Raises as `load` does."""
    name = "" if not isinstance(source, (str, os.PathLike)) else os.fspath(source)
    if name and is_factory(name) and weights != "pretrained":
        source = network_of(name, seed)
    model, report = load(source, weights, input_shapes, simulated=False, seed=seed, epoch=epoch)
    if name and not isinstance(source, (str, os.PathLike)):
        model, report = replace(model, name=name.rpartition(":")[2]), replace(report, source=name)
    own = isinstance(source, (str, os.PathLike)) or weights == "random"
    return model, report, None if own else source


def described(
    model: Model, mean: tuple[float, ...], std: tuple[float, ...], resize: int | None = None, channels: str = ""
) -> Model:
    """`model` with the preprocessing that is given: what is empty or None stays as the model has it.

    Raises UsageError where that does not say what images become.
    """
    if not (mean or std or channels or resize is not None):
        return model
    if bool(mean) != bool(std):
        raise UsageError("give --mean and --std together")
    if channels not in ("", "RGB", "BGR"):
        raise UsageError(f"--channels {channels}: give RGB or BGR")
    images = [kind.shape for kind in model.inputs.values() if len(kind.shape) == 4]
    if len(images) != 1:
        raise UsageError("preprocessing (--mean, --std, --resize, --channels) is for models of one image")
    how = model.preprocessing
    if mean:
        given = image_preprocessing(mean, std, images[0])
        how = given if how is None else replace(how, mean=given.mean, std=given.std)
    if how is None:
        raise UsageError("the model says nothing of preprocessing: give --mean and --std too")
    how = replace(how, channel_order=channels or how.channel_order, resize=how.resize if resize is None else resize)
    return replace(model, preprocessing=how)


def _require_torch() -> None:
    try:
        import_torch()
    except ModelError as error:
        raise UsageError(
            f"the converted code cannot be run here, so nothing would prove it: {error.__cause__}; install PyTorch "
            "with `pip install 'edgectl[torch]'`, or convert without proof: --no-proof"
        ) from error


def _output_path(output: str | os.PathLike[str], model: Model, to: str) -> Path:
    name = os.fspath(output) or re.sub(r"\W+", "_", model.name)
    if name.endswith(("/", os.sep)) or Path(name).is_dir():
        raise UsageError(f"--output {name} is a folder; give the first part of files' names, such as {name}/net")
    path = Path(name.removesuffix(".py") if to == "torch" else CheckpointPaths.of(name).prefix)
    if to == "torch" and not valid_module_name(path.name):
        fitting = re.sub(r"\W+", "_", path.name)
        raise UsageError(
            f"--output {name}: PyTorch code is imported by its file's name, and '{path.name}' cannot be; give "
            f"{path.with_name(fitting if valid_module_name(fitting) else f'net_{fitting}')}"
        )
    return path


def _parent(target: Path) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target.parent):
            return target.parent
    except OSError as error:
        raise EdgectlError(
            f"cannot write {target}: {error.strerror or error}; make room or choose a folder you can write to"
        ) from error


def _write_mxnet(model: Model, base: Path) -> _Written:
    symbol, translation = to_symbol(model)
    paths = write_checkpoint(base, symbol, {p.target: p.array for p in translation.parameters})
    sidecar = Path(f"{base}{SIDECAR}")
    sidecar.write_text(sidecar_text(model, translation.layers), encoding="utf-8")
    return _Written(
        (paths.parameters.name, sidecar.name, paths.symbol.name),
        translation,
        lambda: read_parameters(paths.parameters),
        lambda: mxnet_executor(base, model, translation),
    )


def _write_torch(model: Model, base: Path) -> _Written:
    code_path, weights_path = Path(f"{base}.py"), Path(f"{base}.pth")
    made = to_torch(model, weights_path.name)
    with atomic_file(weights_path) as file:
        write_state_dict(file, made.state)
    code_path.write_text(made.code, encoding="utf-8")
    return _Written(
        (weights_path.name, code_path.name),
        made.translation,
        lambda: read_torch_tensors(weights_path),
        lambda: torch_executor(code_path, weights_path, made, model),
    )


def _plain(model: Model, written: _Written, to: str, tolerance: float) -> Contrast:
    """The contrast as far as it goes without running anything."""
    types = model.types()
    layers = tuple(
        LayerContrast(
            node.label, written.translation.layers[node.name], node.operator.kind, types[node.name].shape,
            types[node.name].shape, float("nan"), float("nan"), float("nan"), node.name in model.outputs,
        )
        for node in model.nodes
    )  # fmt: skip
    parameters: tuple[ParameterContrast, ...] = contrast_parameters(model, written.translation, written.parameters())
    direction, notes = f"to {NAMES[to]}", written.translation.notes
    return Contrast(model.name, direction, tolerance, ("", ""), (), layers, parameters, notes=notes)


def _proved(
    contrast: Contrast, model: Model, written: _Written, reference: Any, image: str | os.PathLike[str], seed: int
) -> Contrast:
    """`contrast` with what both compute on random inputs and on a photograph."""
    executor = written.executor()
    sets: list[tuple[str, dict[str, np.ndarray]]] = [
        (f"{RANDOM_SAMPLES} random samples (seed {seed})", synthetic_inputs(model, RANDOM_SAMPLES, seed))
    ]
    notes = list(contrast.notes)
    photograph = str(image or DEFAULT_IMAGE)
    if how := _photographs(model, bool(image)):
        (name,) = model.inputs
        sets.append((Path(photograph).name, {name: load_image(photograph, how)}))
        if model.preprocessing is None:
            notes.append("the model says nothing of preprocessing: the photograph was normalised as ImageNet's are")
    layers: tuple[LayerContrast, ...] = ()
    top: TopContrast | None = None
    framework: tuple[str, float] | None = None
    for title, inputs in sets:
        ours, theirs = evaluated(model, inputs), executor.run(inputs)
        layers = contrast_layers(model, written.translation, inputs, ours, theirs, layers)
        first = model.outputs[0]
        top = contrast_top(title, ours[first], theirs[first], model.labels)
        for name, outputs in framework_outputs(reference, inputs):
            worst = max(
                relative_difference(ours[output], own) for output, own in zip(model.outputs, outputs, strict=True)
            )
            framework = name, max(worst, framework[1] if framework else 0.0)
    return replace(
        contrast, executed_by=(SOURCE, executor.name), inputs=tuple(title for title, _ in sets), layers=layers,
        top=top, framework=framework, notes=tuple(notes),
    )  # fmt: skip


def _photographs(model: Model, asked: bool) -> Preprocessing | None:
    """How a photograph becomes the model's only input; None where it takes none."""
    shapes = [kind.shape for kind in model.inputs.values()]
    takes = len(shapes) == 1 and len(shapes[0]) == 4 and shapes[0][1] in (1, 3)
    if not takes:
        if asked:
            raise UsageError(f"{model.name} takes no photograph: its inputs have shapes {[list(s) for s in shapes]}")
        return None
    if model.preprocessing is not None:
        return model.preprocessing
    if shapes[0][1] == 3:
        return image_preprocessing(IMAGENET_MEAN, IMAGENET_STD, shapes[0])
    return image_preprocessing((0.5,), (0.5,), shapes[0])


def _notices(model: Model, proof: bool) -> tuple[str, ...]:
    notices = []
    if model.preprocessing is None and any(len(kind.shape) == 4 for kind in model.inputs.values()):
        notices.append(
            "the model says nothing of preprocessing, so its conversion says nothing either; --mean and --std (with "
            "--resize, --channels) put it in"
        )
    if not proof:
        notices.append("--no-proof: nothing was run, so nothing shows that both compute the same")
    return tuple(notices)


def _moved(path: Path, target: Path) -> Path:
    try:
        if target.is_dir():
            raise EdgectlError(f"cannot write {target}: it is a folder; choose another --output")
        os.replace(path, target)
    except OSError as error:
        raise EdgectlError(f"cannot write {target}: {error.strerror or error}") from error
    return target


def _write_contrast(contrast: Contrast, target: Path) -> list[Path]:
    """OUT-contrast.json and OUT-contrast.md."""
    paths = [Path(f"{target}-contrast.json"), Path(f"{target}-contrast.md")]
    texts = (json.dumps(contrast.document(), indent=1) + "\n", contrast.markdown())
    for path, text in zip(paths, texts, strict=True):
        with atomic_file(path) as file:
            file.write(text.encode())
    return paths
