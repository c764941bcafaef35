"""One way in for every model: a zoo name, a file of MXNet, PyTorch or ONNX, a network of Gluon or PyTorch."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgectl.errors import ModelError, UsageError
from edgectl.frontends import zoo
from edgectl.frontends.graph_builder import Shapes
from edgectl.frontends.mxnet import from_block, from_checkpoint
from edgectl.frontends.onnx import from_onnx_file
from edgectl.frontends.torch import from_module, from_program_file, import_torch, is_torch
from edgectl.frontends.torch_factory import call_factory, is_factory
from edgectl.frontends.torch_state import load_weights
from edgectl.graph import Model, Preprocessing
from edgectl.interchange.mxnet import CheckpointPaths
from edgectl.interchange.sidecar import read_sidecar, sidecar_path
from edgectl.interchange.torch_writer import LABELS_NAME, SHAPES_NAME, preprocessing_in
from edgectl.weights import CHOICES, WeightsReport, WeightsStore, random_model, resolve_weights

PROGRAMS: dict[str, Callable[[str, Shapes | None], Model]] = {".pt2": from_program_file, ".onnx": from_onnx_file}
"""Suffix of a file that holds a whole network -> its reader."""
PICKLES = (".pt", ".pth", ".ckpt", ".pkl", ".torchscript", ".safetensors")


def load(
    source: str | os.PathLike[str] | Any,
    weights: str = "auto",
    input_shapes: Shapes | None = None,
    simulated: bool = True,
    seed: int = 0,
    epoch: int = 0,
    preprocessing: Preprocessing | None = None,
    labels: Sequence[str] = (),
    store: WeightsStore | None = None,
) -> tuple[Model, WeightsReport]:
    """A model with weights, and where these come from.

    `source` is a zoo name, a checkpoint of MXNet (its prefix or either of its files), a `.pt2` or `.onnx` file,
    package.module:factory (which imports and runs that code), an initialised HybridBlock, a torch.nn.Module or a
    torch.export.ExportedProgram.
    `weights` is auto, pretrained, random or the path of a file; what is no zoo name brings its own under auto.
    `input_shapes` (by name, or the only input's; batch first) are needed where a file does not record them, and for
    blocks and modules. `preprocessing` and `labels` replace what the zoo knows.
    Raises ModelError, UsageError, UnreachableError, VerificationError.
    """
    if not isinstance(source, (str, os.PathLike)):
        load_object = _from_module if is_torch(source) else _from_block
        model, report = load_object(source, weights, input_shapes, seed)
    elif (suffix := Path(name := os.fspath(source)).suffix.lower()) in PROGRAMS:
        model, report = _from_file(name, PROGRAMS[suffix], weights, input_shapes, seed)
    elif suffix in PICKLES:
        raise ModelError(f"{name}: {_advice(suffix)}")
    elif is_factory(name):
        model, report = _from_factory(name, weights, input_shapes, seed)
    elif name in zoo.names() or not _is_path(name):
        model, report = resolve_weights(zoo.load(name, input_shapes), weights, simulated, seed, store)
    else:
        model, report = _from_checkpoint(name, weights, input_shapes, seed, epoch)
    model = replace(model, preprocessing=preprocessing or model.preprocessing, labels=tuple(labels) or model.labels)
    model.types()
    return model, report


def _described(model: Model, preprocessing: Preprocessing | None, labels: Sequence[str]) -> Model:
    """`model` with what is told beside it; preprocessing of images of another size scales along."""
    shapes = [kind.shape for kind in model.inputs.values() if len(kind.shape) == 4]
    if preprocessing is not None and len(shapes) == 1 and shapes[0][1] == len(preprocessing.mean):
        model = replace(model, preprocessing=preprocessing.for_size(*shapes[0][2:]))
    return replace(model, labels=tuple(labels))


def _is_path(name: str) -> bool:
    looks = os.sep in name or "/" in name or name.endswith((".json", ".params"))
    return looks or CheckpointPaths.of(name).symbol.exists()


def _advice(suffix: str) -> str:
    """What to do with a file that holds no network, or one as code."""
    export = "torch.export.save(torch.export.export(net.eval(), (example,)), 'net.pt2')"
    weights = f"weights have no layers: give the network's factory, package.module:factory --weights FILE{suffix}"
    if suffix == ".safetensors":
        return weights
    return (
        "a pickle or TorchScript, which would run code where it is loaded, so it is not; export the network where you "
        f"trust it, {export}, and give net.pt2; a state dict alone is safe, but {weights}"
    )


def _require_own(weights: str, name: str, choices: tuple[str, ...] = ("auto", "random")) -> None:
    if weights not in choices:
        raise UsageError(f"--weights {weights} is not for {name}, which has its own; leave --weights out")


def _from_file(
    name: str, read: Callable[[str, Shapes | None], Model], weights: str, input_shapes: Shapes | None, seed: int
) -> tuple[Model, WeightsReport]:
    _require_own(weights, name)
    model = read(name, input_shapes)
    if weights == "random":
        return random_model(model, seed, "--weights random was asked for")
    return model, WeightsReport("checkpoint", name)


def network_of(factory: str, seed: int = 0) -> Any:
    """The torch.nn.Module that package.module:factory gives; weights that it draws are the same for the same `seed`.

    Raises ModelError, UsageError.
    """
    torch = import_torch()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = call_factory(factory)
    if not is_torch(network):
        raise ModelError(f"{factory} gives a {type(network).__name__}; it must give a torch.nn.Module")
    return network


def _from_factory(name: str, weights: str, input_shapes: Shapes | None, seed: int) -> tuple[Model, WeightsReport]:
    if weights == "pretrained":
        raise UsageError(f"--weights pretrained is for zoo names; {name} makes its own: leave --weights out")
    return _from_module(network_of(name, seed), weights, input_shapes, seed, name)


def _from_module(
    module: Any, weights: str, input_shapes: Shapes | None, seed: int, name: str = ""
) -> tuple[Model, WeightsReport]:
    preprocessing, labels, own_shapes = _told_by_code(module)
    shapes = input_shapes or own_shapes
    if weights not in CHOICES:
        if not Path(weights).is_file():
            raise UsageError(f"--weights {weights}: no such file, and not one of {', '.join(CHOICES)}")
        load_weights(module, weights, import_torch())
        model = _described(from_module(module, shapes, _title(name)), preprocessing, labels)
        return model, WeightsReport("file", weights)
    _require_own(weights, "a module")
    model = _described(from_module(module, shapes, _title(name)), preprocessing, labels)
    if weights == "random":
        return random_model(model, seed, "--weights random was asked for")
    return model, WeightsReport("module", name or model.name)


def _told_by_code(module: Any) -> tuple[Preprocessing | None, tuple[str, ...], Shapes | None]:
    """(preprocessing, labels, shapes of inputs) from the constants of the file that defines a module's class, where
    `convert` wrote it or it has the same ones."""
    values = vars(sys.modules.get(type(module).__module__, object))
    labels, shapes = values.get(LABELS_NAME), values.get(SHAPES_NAME)
    names = labels if isinstance(labels, tuple) and all(isinstance(label, str) for label in labels) else ()
    return preprocessing_in(values), names, shapes if isinstance(shapes, dict) else None


def _title(factory: str) -> str:
    """A network's name: the function's, which can be part of a file's name."""
    return factory.rpartition(":")[2]


def _from_checkpoint(
    name: str, weights: str, input_shapes: Shapes | None, seed: int, epoch: int
) -> tuple[Model, WeightsReport]:
    if weights == "pretrained":
        raise UsageError(f"--weights pretrained is for zoo names; {name} is a checkpoint: leave --weights out")
    preprocessing, labels, own_shapes = read_sidecar(sidecar_path(name))
    shapes = input_shapes or own_shapes or None
    if weights in CHOICES:
        model = _described(from_checkpoint(name, None, epoch, shapes), preprocessing, labels)
        if weights == "random":
            return random_model(model, seed, "--weights random was asked for")
        return model, WeightsReport("checkpoint", str(CheckpointPaths.of(name, epoch).parameters))
    if not Path(weights).is_file():
        raise UsageError(f"--weights {weights}: no such file, and not one of {', '.join(CHOICES)}")
    model = _described(from_checkpoint(name, weights, epoch, shapes), preprocessing, labels)
    return model, WeightsReport("file", weights)


def _from_block(block: Any, weights: str, input_shapes: Shapes | None, seed: int) -> tuple[Model, WeightsReport]:
    if not input_shapes:
        raise ModelError("a HybridBlock does not know its inputs; give input_shapes={'data': (1, 3, 224, 224)}")
    if weights not in ("auto", "random"):
        raise UsageError(f"--weights {weights} is not for a block, which has its own; load them into the block first")
    model = from_block(block, input_shapes)
    if weights == "random":
        return random_model(model, seed, "--weights random was asked for")
    return model, WeightsReport("block", model.name)
