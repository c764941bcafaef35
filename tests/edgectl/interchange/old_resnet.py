"""A pre-activation ResNet as MXNet's model gallery had it, in the JSON of MXNet before 0.9, with generated weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgectl.frontends.mxnet import from_symbol
from edgectl.graph import Model
from edgectl.random_weights import random_parameters

RESNET152 = (3, 8, 36, 3)


class OldSymbol:
    """Nodes with attributes under "param", users' own under "attr", no auxiliary states among the inputs."""

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._sums = 0

    def add(self, op: str, name: str, inputs: Sequence[int], **param: object) -> int:
        node = {"op": op, "param": {key: str(value) for key, value in param.items()}, "name": name}
        edges = [[index, 0] for index in inputs]
        self.nodes.append({**node, "inputs": edges, "backward_source_id": -1, "attr": {"lr_mult": "1.0"}})
        return len(self.nodes) - 1

    def variable(self, name: str, shape: tuple[int, ...] = ()) -> int:
        if shape:
            self.shapes[name] = shape
        return self.add("null", name, ())

    def convolution(self, name: str, x: int, channels: int, filters: int, kernel: int, stride: int, pad: int) -> int:
        weight = self.variable(f"{name}_weight", (filters, channels, kernel, kernel))
        pairs = {"kernel": (kernel, kernel), "stride": (stride, stride), "pad": (pad, pad)}
        return self.add("Convolution", name, (x, weight), num_filter=filters, no_bias=True, workspace=512, **pairs)

    def norm(self, name: str, x: int, channels: int, fix_gamma: bool = False) -> int:
        gamma, beta = (self.variable(f"{name}_{part}", (channels,)) for part in ("gamma", "beta"))
        self.shapes.update({f"{name}_moving_{part}": (channels,) for part in ("mean", "var")})
        return self.add("BatchNorm", name, (x, gamma, beta), eps=2e-5, fix_gamma=fix_gamma, momentum=0.9)

    def relu(self, name: str, x: int) -> int:
        return self.add("Activation", name, (x,), act_type="relu")

    def sum(self, a: int, b: int) -> int:
        self._sums += 1
        return self.add("_Plus", f"_plus{self._sums - 1}", (a, b))

    def unit(self, name: str, x: int, channels: int, filters: int, stride: int, matching: bool) -> int:
        first = self.relu(f"{name}_relu1", self.norm(f"{name}_bn1", x, channels))
        y = self.convolution(f"{name}_conv1", first, channels, filters // 4, 1, 1, 0)
        y = self.relu(f"{name}_relu2", self.norm(f"{name}_bn2", y, filters // 4))
        y = self.convolution(f"{name}_conv2", y, filters // 4, filters // 4, 3, stride, 1)
        y = self.relu(f"{name}_relu3", self.norm(f"{name}_bn3", y, filters // 4))
        y = self.convolution(f"{name}_conv3", y, filters // 4, filters, 1, 1, 0)
        shortcut = x if matching else self.convolution(f"{name}_sc", first, channels, filters, 1, stride, 0)
        return self.sum(y, shortcut)


def old_resnet(units: Sequence[int], filters: Sequence[int], classes: int) -> tuple[str, dict[str, tuple[int, ...]]]:
    """The symbol's text and the shapes of its parameters; `filters` are those of the first layer and of each stage."""
    symbol = OldSymbol()
    x = symbol.norm("bn_data", symbol.variable("data"), 3, fix_gamma=True)
    x = symbol.convolution("conv0", x, 3, filters[0], 7, 2, 3)
    x = symbol.relu("relu0", symbol.norm("bn0", x, filters[0]))
    x = symbol.add("Pooling", "pooling0", (x,), kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max")
    channels = filters[0]
    for stage, (count, wide) in enumerate(zip(units, filters[1:], strict=True), 1):
        for unit in range(1, count + 1):
            stride = 2 if unit == 1 and stage > 1 else 1
            x = symbol.unit(f"stage{stage}_unit{unit}", x, channels, wide, stride, unit > 1)
            channels = wide
    x = symbol.relu("relu1", symbol.norm("bn1", x, channels))
    x = symbol.add("Pooling", "pool1", (x,), kernel=(7, 7), global_pool=True, pool_type="avg")
    x = symbol.add("Flatten", "flatten0", (x,))
    weight, bias = symbol.variable("fc1_weight", (classes, channels)), symbol.variable("fc1_bias", (classes,))
    x = symbol.add("FullyConnected", "fc1", (x, weight, bias), num_hidden=classes, no_bias=False)
    head = symbol.add("SoftmaxOutput", "softmax", (x, symbol.variable("softmax_label")))
    variables = [index for index, node in enumerate(symbol.nodes) if node["op"] == "null"]
    return json.dumps({"nodes": symbol.nodes, "arg_nodes": variables, "heads": [[head, 0]]}), symbol.shapes


def old_checkpoint(
    units: Sequence[int], filters: Sequence[int], classes: int, size: int, name: str = "model"
) -> tuple[str, dict[str, np.ndarray], Model]:
    """(symbol, parameters, model) of a network for images of `size`; weights are seeded, statistics realistic."""
    text, shapes = old_resnet(units, filters, classes)
    blank = {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()}
    model = from_symbol(text, blank, {"data": (1, 3, size, size)}, name)
    parameters = random_parameters(model)
    return text, parameters, from_symbol(text, parameters, {"data": (1, 3, size, size)}, name)
