"""Models as PyTorch: module code that a person would keep, and the state dict that it loads strictly."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgectl.errors import ModelError
from edgectl.frontends.problems import refuse, unsupported_operators
from edgectl.graph import Model, Preprocessing
from edgectl.interchange.module_tree import tree_of
from edgectl.interchange.torch_classes import camel_case, classes_of, identifier, instance_of
from edgectl.interchange.torch_layers import TRANSLATORS, steps_of
from edgectl.interchange.translation import Names, StoredParameter, Translation

PREPROCESSING_NAMES = ("RESIZE", "CROP", "MEAN", "STD", "CHANNELS")
"""The module's constants that say what images become, as `Preprocessing` does."""
LABELS_NAME = "LABELS"
SHAPES_NAME = "INPUT_SHAPES"


@dataclass(frozen=True)
class TorchCode:
    """`code` of a Python module whose class `class_name` is the network, and `state`, its state dict.

    `steps` has the node that each call in forward finishes, in the order of execution; empty for calls before a
    layer's last.
    """

    code: str
    class_name: str
    state: Mapping[str, np.ndarray]
    translation: Translation
    steps: tuple[str, ...]


def to_torch(model: Model, weights_name: str = "") -> TorchCode:
    """The network as PyTorch code that needs torch alone. `weights_name` is the state dict's file, as the code says it.

    Layers with dotted names keep them; others become modules where their names tell of stages, units or blocks.
    Raises ModelError that lists every layer which has no counterpart.
    """
    unknown: dict[str, list[str]] = {}
    for node in model.nodes:
        if type(node.operator) not in TRANSLATORS:
            unknown.setdefault(node.operator.kind, []).append(node.label)
    refuse(f"{model.name} cannot be written for PyTorch", unsupported_operators(unknown))
    made = {node.name for node in model.nodes}
    for name in model.outputs:
        if name not in made:
            raise ModelError(f"{model.name}: output '{name}' is an input or a parameter; there is nothing to compute")
    steps = steps_of(model)
    arguments = arguments_of(model)
    root = instance_of(tree_of(steps, tuple(model.inputs), model.outputs), arguments=tuple(arguments.values()))
    class_name = camel_case(model.name)
    classes = classes_of(root, class_name)
    stored = tuple(StoredParameter(source, target, _array(array)) for source, target, array in root.stored)
    targets = {node.name: root.targets[node.name] for node in model.nodes}
    tail = _tail(model, class_name, weights_name)
    head = _head(model, class_name, weights_name, "\n".join([*classes, tail]))
    code = "\n\n".join([f"{head}\n", *classes, tail])
    return TorchCode(
        code.rstrip("\n") + "\n",
        class_name,
        {parameter.target: parameter.array for parameter in stored},
        Translation({**arguments, **targets}, stored, _notes(model)),
        tuple("" if step.part else step.node.name for step in steps),
    )


def arguments_of(model: Model) -> dict[str, str]:
    """What each input is called as an argument of forward."""
    names = Names(("self", "torch", "nn", "F"))
    return {name: names.unique(identifier(name, "input")) for name in model.inputs}


def _array(array: Any) -> np.ndarray:
    array = np.asarray(array)
    return array if array.dtype == np.int64 else np.asarray(array, np.float32)


def _notes(model: Model) -> tuple[str, ...]:
    fixed = [node.label for node in model.nodes if getattr(node.operator, "fix_gamma", False)]
    if not fixed:
        return ()
    shown = ", ".join(fixed[:3]) + (", ..." if len(fixed) > 3 else "")
    return (f"{len(fixed)} normalisations ({shown}) have a fixed gamma: their weight is written as 1",)


def _head(model: Model, class_name: str, weights_name: str, body: str) -> str:
    # A model's name is a file's, perhaps a stranger's, and this text is run.
    title = re.sub(r"[^\w .+-]", "_", model.name, flags=re.ASCII)
    usage = [f'"""{title} for PyTorch, converted by edgectl.', ""]
    if weights_name:
        usage += [f"net = load({json.dumps(weights_name)})", ""]
    shapes = ", ".join(f"float32{list(kind.shape)}" for kind in model.inputs.values())
    outputs = ", ".join(f"float32{list(kind.shape)}" for kind in (model.types()[name] for name in model.outputs))
    usage += [f"Input: {shapes}. Output: {outputs}. The batch may be of any size.", '"""', ""]
    imports = ["from collections import OrderedDict", ""] if "OrderedDict(" in body else []
    imports += ["import torch"]
    if "F." in body:
        imports.append("import torch.nn.functional as F")
    imports += ["from torch import nn", ""]
    return "\n".join([*usage, *imports, *_constants(model)])


def _constants(model: Model) -> list[str]:
    # forward's arguments are called as `arguments_of` says, and torch.export names inputs after them.
    names = arguments_of(model)
    shapes = {names[name]: tuple(int(extent) for extent in kind.shape) for name, kind in model.inputs.items()}
    entries = ", ".join(f"{json.dumps(name)}: {shape}" for name, shape in shapes.items())
    lines = [f"{SHAPES_NAME} = {{{entries}}}"]
    how = model.preprocessing
    if how is not None:
        mean, std = (tuple(float(value) for value in values) for values in (how.mean, how.std))
        resize = "of the short side, in pixels" if how.resize else "straight to CROP"
        lines += [
            "",
            "# How a photograph becomes the input: resized, its centre cropped, scaled to 0..1, normalised.",
            f"RESIZE = {int(how.resize)}  # {resize}",
            f"CROP = {tuple(int(extent) for extent in how.crop)}  # height, width",
            f"MEAN = {mean}",
            f"STD = {std}",
            f"CHANNELS = {json.dumps(how.channel_order)}",
        ]
    return lines


def _tail(model: Model, class_name: str, weights_name: str) -> str:
    default = f"={json.dumps(weights_name)}" if weights_name else ""
    parts = [
        f"def load(path{default}):\n"
        f'    """The network with the weights of a state dict, ready for inference."""\n'
        f"    net = {class_name}()\n"
        f'    net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), strict=True)\n'
        f"    return net.eval()\n"
    ]
    if model.preprocessing is not None and model.preprocessing.channel_order in ("RGB", "BGR"):
        parts.append(_preprocess(model.preprocessing))
    if model.labels:
        lines = "".join(f"    {json.dumps(label, ensure_ascii=False)},\n" for label in model.labels)
        parts.append(f"{LABELS_NAME} = (\n{lines})\n")
    return "\n\n".join(parts)


def _preprocess(how: Preprocessing) -> str:
    """The function that makes a photograph an input, as `images.load_image` does: PyTorch resizes uint8 like Pillow."""
    count, order = len(how.mean), "in RGB order, " if len(how.mean) == 3 else ""
    flip = ".flip(1)" if how.channel_order == "BGR" else ""
    resize = 'F.interpolate(x, {}, mode="bilinear", antialias=True)'
    if how.resize:
        resized = [
            "ratio = max(RESIZE, *CROP) / min(x.shape[2:])",
            f"x = {resize.format('[round(extent * ratio) for extent in x.shape[2:]]')}",
            "top, left = ((extent - kept) // 2 for extent, kept in zip(x.shape[2:], CROP))",
            "x = x[:, :, top : top + CROP[0], left : left + CROP[1]]",
        ]
    else:
        resized = [f"x = {resize.format('CROP')}"]
    lines = [
        f'"""A photograph of any size, uint8 pixels (H, W, {count}), {order}-> float32 {(1, count, *how.crop)}."""',
        "x = pixels.permute(2, 0, 1).unsqueeze(0)",
        *resized,
        "mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (MEAN, STD))",
        f"return (x{flip} / 255 - mean) / std",
    ]
    return "\n    ".join(["def preprocess(pixels):", *lines]) + "\n"


def preprocessing_in(values: Mapping[str, Any]) -> Preprocessing | None:
    """What the constants of a module say; None where it does not have them all, or they are something else."""
    if not all(name in values for name in PREPROCESSING_NAMES):
        return None
    resize, crop, mean, std, channels = (values[name] for name in PREPROCESSING_NAMES)
    try:
        extents, means, deviations = (tuple(part) for part in (crop, mean, std))
        numbers = all(isinstance(value, (int, float)) for value in (*means, *deviations))
        sizes = len(extents) == 2 and all(isinstance(value, int) and value > 0 for value in extents)
        if not (isinstance(resize, int) and numbers and sizes and len(means) == len(deviations)):
            return None
    except TypeError:
        return None
    if channels not in ("RGB", "BGR") or not all(deviations):
        return None
    return Preprocessing(resize, (extents[0], extents[1]), means, deviations, channels)


def valid_module_name(name: str) -> bool:
    """Whether `import name` can work."""
    return bool(re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII))
