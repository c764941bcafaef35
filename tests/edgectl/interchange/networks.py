"""Small models that hold what conversions stumble over, and how a conversion of each is run."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np

from edgectl.frontends.mxnet import from_symbol
from edgectl.graph import Model, Node
from edgectl.interchange.state_dict_file import write_state_dict
from edgectl.interchange.torch_writer import TorchCode
from edgectl.operators.activation import Relu
from edgectl.operators.base import Operator, TensorType
from edgectl.operators.batch_norm import BatchNorm
from edgectl.operators.convolution import Convolution
from edgectl.operators.dense import Dense
from edgectl.operators.elementwise import Binary, Scalar
from edgectl.operators.shape import Flatten

Arrays = dict[str, np.ndarray]


def one_operator(operator: Operator, shape: tuple[int, ...], parameters: Arrays | None = None) -> Model:
    """A model of a single layer, "layer", of one input, "data"."""
    held = parameters or {}
    node = Node("layer", operator, ("data", *held))
    return Model("one", {"data": TensorType(shape)}, (node,), held, ("layer",))


def two_inputs() -> Model:
    """Two inputs, two outputs, a shared weight, a stored operand of lower rank, names as PyTorch has them."""
    generator = np.random.default_rng(0)

    def drawn(*shape: int) -> np.ndarray:
        return generator.standard_normal(shape).astype(np.float32)

    parameters = {
        "branch.conv.weight": drawn(6, 3, 3, 3), "branch.conv.bias": drawn(6), "scale": drawn(6, 1, 1),
        "norm.weight": drawn(6), "norm.bias": drawn(6), "norm.running_mean": drawn(6),
        "norm.running_var": np.abs(drawn(6)) + np.float32(0.5), "head.weight": drawn(4, 6 * 64),
    }  # fmt: skip
    normalised = ("norm.weight", "norm.bias", "norm.running_mean", "norm.running_var")
    convolution = Convolution(padding=(1, 1, 1, 1))
    nodes = (
        Node("branch.conv", convolution, ("left", "branch.conv.weight", "branch.conv.bias")),
        Node("again", convolution, ("right", "branch.conv.weight", "branch.conv.bias")),
        Node("norm", BatchNorm(1e-3, True, 0.99), ("branch.conv", *normalised)),
        Node("sum", Binary("add"), ("norm", "again")),
        Node("scaled", Binary("multiply"), ("sum", "scale")),
        Node("less", Scalar("subtract", 1.5, reverse=True), ("scaled",)),
        Node("relu", Relu(), ("less",)),
        Node("flat", Flatten(), ("relu",)),
        Node("head", Dense(), ("flat", "head.weight")),
    )
    inputs = {"left": TensorType((1, 3, 8, 8)), "right": TensorType((1, 3, 8, 8))}
    return Model("two-inputs", inputs, nodes, parameters, ("head", "sum"))


def random_inputs(model: Model, batch: int = 2) -> Arrays:
    generator = np.random.default_rng(1)
    return {
        name: generator.standard_normal((batch, *kind.shape[1:])).astype(np.float32)
        for name, kind in model.inputs.items()
    }


def run_torch(made: TorchCode, inputs: Arrays, folder: Path) -> list[np.ndarray]:
    """What the written code computes with the written state dict, loaded strictly."""
    import torch

    (folder / "net.py").write_text(made.code, encoding="utf-8")
    with (folder / "net.pth").open("wb") as file:
        write_state_dict(file, made.state)
    module = imported(folder / "net.py")
    with torch.no_grad():
        results = module.load(str(folder / "net.pth"))(*(torch.from_numpy(array) for array in inputs.values()))
    return [result.numpy() for result in (results if isinstance(results, tuple) else (results,))]


def imported(path: Path) -> Any:
    """The Python module in a file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def bottleneck_without_gamma() -> tuple[str, Arrays]:
    """A symbol whose normalisation has a fixed gamma, and a file that stores neither gamma nor beta for it."""
    nodes: list[dict[str, Any]] = [{"op": "null", "name": "data", "inputs": []}]
    for name in ("conv_weight", "bn_gamma", "bn_beta", "bn_moving_mean", "bn_moving_var"):
        nodes.append({"op": "null", "name": name, "inputs": []})
    convolution = {"kernel": "(1, 1)", "num_filter": "5", "no_bias": "True"}
    nodes.append({"op": "Convolution", "name": "conv", "attrs": convolution, "inputs": [[0, 0, 0], [1, 0, 0]]})
    inputs = [[6, 0, 0], *([index, 0, 0] for index in range(2, 6))]
    nodes.append({"op": "BatchNorm", "name": "bn", "attrs": {"eps": "0.001"}, "inputs": inputs})
    generator = np.random.default_rng(3)
    arrays = {
        "conv_weight": generator.standard_normal((5, 3, 1, 1)).astype(np.float32),
        "bn_moving_mean": generator.standard_normal(5).astype(np.float32),
        "bn_moving_var": generator.uniform(0.5, 2, 5).astype(np.float32),
    }
    return json.dumps({"nodes": nodes, "heads": [[7, 0, 0]]}), arrays


def bottleneck_model() -> Model:
    symbol, arrays = bottleneck_without_gamma()
    return from_symbol(symbol, arrays, {"data": (1, 3, 4, 4)}, "bottleneck")
