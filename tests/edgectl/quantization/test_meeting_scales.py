"""Values of any scales meet, and none of them destroys another: concatenations, sums, extrema, limits, dead values."""

from __future__ import annotations

import numpy as np
import pytest

from edgectl.graph import Model, Node
from edgectl.interpreter import interpret
from edgectl.layer_errors import layer_errors
from edgectl.operators.activation import Clip, Relu, Sigmoid, Tanh
from edgectl.operators.base import TensorType
from edgectl.operators.convolution import Convolution
from edgectl.operators.elementwise import Binary, Scalar
from edgectl.operators.pooling import AveragePool, GlobalPool
from edgectl.operators.shape import Concatenate, Pad, Slice, Upsample
from edgectl.quantization.quantizer import quantize
from tests.edgectl.quantization.networks import SMALL, NetworkBuilder, kinds, noise


def _scaled(net: NetworkBuilder, x: str, name: str, weight: float) -> str:
    net.parameters[f"{name}.w"] = np.full((16, 1, 1, 1), weight, np.float32)
    return net.add(name, Convolution(groups=16), x, f"{name}.w")


@pytest.mark.parametrize("weight", [0.37, 0.0])
@pytest.mark.parametrize("function", ["add", "maximum"])
def test_operands_of_any_scales_meet(function: str, weight: float) -> None:
    """A window's sum is worth a ninth of a power of two. An operand that is always 0 must not set the scale."""
    net = NetworkBuilder(SMALL)
    x = net.add("relu", Relu(), net.convolution("a", "data", (16, 16)))
    # The convolution comes first, so that it cannot take the sum over.
    y = _scaled(net, x, "scaled", weight)
    x = net.add("b", Binary(function), y, net.add("pool", AveragePool((3, 3), (1, 1), (1, 1, 1, 1)), x))
    model = net.model(net.convolution("c", x, (16, 16)))
    assert kinds(quantize(model, noise(16))).count("lookup") >= 1
    _is_near(model)


def test_parts_of_any_scales_are_joined() -> None:
    net = NetworkBuilder(SMALL)
    x = net.add("relu", Relu(), net.convolution("a", "data", (16, 16)))
    y = net.add("pool", AveragePool((3, 3), (1, 1), (1, 1, 1, 1)), x)
    x = net.add("cat", Concatenate(1), _scaled(net, x, "scaled", 0.0), y, x)
    model = net.model(net.convolution("c", x, (48, 16)))
    assert kinds(quantize(model, noise(16))).count("lookup") >= 1
    _is_near(model)


def test_enlarged_images_stay_integers() -> None:
    net = NetworkBuilder(SMALL)
    x = net.add("up", Upsample((2, 2)), net.convolution("a", "data", (16, 16)))
    _is_near(net.model(net.convolution("c", net.add("sum", Binary("add"), x, x), (16, 16))))


@pytest.mark.parametrize(("fill", "floats"), [(0.0, 0), (1.0, 1)])
def test_a_border_of_zeros_stays_integers(fill: float, floats: int) -> None:
    net = NetworkBuilder(SMALL)
    x = net.add("pad", Pad((1, 1, 0, 2), fill), net.convolution("a", "data", (16, 16)))
    model = net.model(net.convolution("c", net.add("sum", Binary("add"), x, x), (16, 16)))
    integer = quantize(model, noise(16))
    assert [t.dtype for name, t in integer.types().items() if name == "pad"] == ["float32" if floats else "int8"]
    if not floats:
        _is_near(model)


def _weights(rng: np.random.Generator, out: int, channels: int, kernel: int = 1, scale: float = 1.0) -> np.ndarray:
    deviation = scale * (2 / (channels * kernel * kernel)) ** 0.5
    return (rng.standard_normal((out, channels, kernel, kernel)) * deviation).astype(np.float32)


def _decibels(nodes: list[Node], parameters: dict[str, np.ndarray], *outputs: str) -> list[float]:
    """Of each output: how far its error is below it, calibrated on what is measured."""
    model = Model("net", {"x": TensorType(SMALL)}, tuple(nodes), parameters, outputs)
    integer = quantize(model, noise(16))
    floats, found = (interpret(form, {"x": noise(16)}) for form in (model, integer))
    return [
        10 * np.log10(np.square(floats[name]).sum() / np.square(floats[name] - found[name]).sum()) for name in outputs
    ]


@pytest.mark.parametrize("louder", [10, 50])
def test_an_image_that_is_joined_with_louder_values_keeps_its_steps(louder: int) -> None:
    rng = np.random.default_rng(0)
    nodes = [
        Node("c", Convolution(padding=(1, 1, 1, 1)), ("x", "w")),
        Node("r", Relu(), ("c",)),
        Node("cat", Concatenate(1), ("x", "r")),
        Node("y", Convolution(), ("cat", "v")),
    ]
    parameters = {"w": _weights(rng, 16, 16, 3, louder), "v": _weights(rng, 16, 32)}
    assert _decibels(nodes, parameters, "y")[0] > 27


@pytest.mark.parametrize(("low", "high"), [(-1, 1), (0, 6)])
def test_limits_far_below_a_values_range_keep_their_steps(low: float, high: float) -> None:
    rng = np.random.default_rng(0)
    parameters = {"w": _weights(rng, 16, 16, 1, 50), "v": _weights(rng, 16, 16)}
    nodes = [
        Node("c", Convolution(), ("x", "w")),
        Node("h", Clip(low, high), ("c",)),
        Node("y", Convolution(), ("h", "v")),
        Node("z", Convolution(), ("c", "v")),
    ]
    decibels = _decibels(nodes, parameters, "y", "z")
    assert decibels[0] > 18 and decibels[1] > 27


def test_a_quiet_part_does_not_set_the_scale_of_a_concatenation() -> None:
    rng = np.random.default_rng(0)
    loud = _weights(rng, 16, 16)
    loud[8:] *= 8
    nodes = [
        Node("c", Convolution(), ("x", "w")),
        Node("p", GlobalPool(), ("c",)),
        Node("b", Slice(1, 0, 8), ("p",)),
        Node("d", Convolution(), ("x", "q")),
        Node("a", GlobalPool(), ("d",)),
        Node("cat", Concatenate(1), ("a", "b")),
        Node("y", Convolution(), ("cat", "v")),
    ]
    parameters = {"w": loud, "q": _weights(rng, 16, 16, 1, 1e-3), "v": _weights(rng, 16, 24)}
    assert _decibels(nodes, parameters, "y")[0] > 14


def test_the_least_of_a_tiny_and_a_huge_value() -> None:
    rng = np.random.default_rng(0)
    nodes = [
        Node("c", Convolution(), ("x", "w")),
        Node("g", Scalar("multiply", 1e-3), ("t",)),
        Node("s", Binary("minimum"), ("g", "r")),
        Node("y", Convolution(), ("s", "v")),
    ]
    nodes[1:1] = [Node("t", Sigmoid(), ("c",)), Node("r", Relu(), ("c",))]
    parameters = {"w": _weights(rng, 16, 16, 1, 100), "v": _weights(rng, 16, 16)}
    assert _decibels(nodes, parameters, "y")[0] > 14


def test_a_convolution_of_nothing_keeps_its_bias() -> None:
    rng = np.random.default_rng(0)
    nodes = [
        Node("a", Convolution(), ("x", "w")),
        Node("t", Tanh(), ("a",)),
        Node("y", Convolution(), ("t", "v", "b")),
    ]
    bias = np.linspace(-0.5, 0.5, 16).astype(np.float32)
    parameters = {"w": np.zeros((16, 16, 1, 1), np.float32), "v": _weights(rng, 16, 16, 1, 300), "b": bias}
    assert _decibels(nodes, parameters, "y")[0] > 40


def test_a_rescaled_operand_is_compared_with_itself() -> None:
    net = NetworkBuilder(SMALL)
    x = net.add("relu", Relu(), net.convolution("a", "data", (16, 16)))
    y = _scaled(net, x, "scaled", 0.05)
    x = net.add("b", Binary("add"), y, net.add("pool", AveragePool((3, 3), (1, 1), (1, 1, 1, 1)), x))
    model = net.model(net.convolution("c", x, (16, 16)))
    errors = layer_errors(model, quantize(model, noise(16)), noise(16))
    assert {error.value for error in errors if error.operator == "lookup"} <= {"scaled", "pool"}
    assert min(error.sqnr for error in errors) > 10


def _is_near(model: Model) -> None:
    integer = quantize(model, noise(16))
    assert [name for name, t in integer.types().items() if t.dtype == "float32"] == ["data", "c"]
    expected, found = (interpret(form, {"data": noise(16)})["c"] for form in (model, integer))
    assert np.linalg.norm(found - expected) < 0.03 * np.linalg.norm(expected)
