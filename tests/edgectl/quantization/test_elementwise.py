"""Maxima, minima and clips of values that are int8 already stay integers, close to the float model."""

from __future__ import annotations

import numpy as np
import pytest

from edgectl.graph import Model, Node
from edgectl.interpreter import interpret
from edgectl.operators.activation import Clip
from edgectl.operators.base import Operator, TensorType
from edgectl.operators.convolution import Convolution
from edgectl.operators.elementwise import Binary
from edgectl.operators.integer import IntegerExtremum
from edgectl.operators.quantization import Requantize
from edgectl.quantization.quantizer import quantize


def network(operator: Operator, *inputs: str) -> Model:
    """`operator` between convolutions a, b and c."""
    rng = np.random.default_rng(3)
    weights = {name: rng.standard_normal((16, 16, 1, 1)).astype(np.float32) for name in ("wa", "wb", "wc")}
    nodes = (
        Node("a", Convolution(), ("x", "wa"), "a"),
        Node("b", Convolution(), ("a", "wb"), "b"),
        Node("y", operator, inputs, "y"),
        Node("c", Convolution(), ("y", "wc"), "c"),
        Node("d", Binary("add"), ("c", "a"), "d"),
    )
    return Model("net", {"x": TensorType((1, 16, 6, 6))}, nodes, weights, ("d",))


@pytest.mark.parametrize(
    ("operator", "inputs", "integer"),
    [
        (Binary("maximum"), ("a", "b"), IntegerExtremum),
        (Binary("minimum"), ("b", "a"), IntegerExtremum),
        (Clip(-1.0, 2.5), ("a",), Requantize),
    ],
)
def test_they_stay_integers(operator: Operator, inputs: tuple[str, ...], integer: type[Operator]) -> None:
    model = network(operator, *inputs)
    x = np.random.default_rng(0).standard_normal((4, 16, 6, 6)).astype(np.float32)
    quantized = quantize(model, x)
    assert any(isinstance(node.operator, integer) for node in quantized.nodes)
    assert [node.name for node in quantized.nodes if quantized.types()[node.name].dtype == "float32"] == ["d"]
    expected, found = interpret(model, {"x": x})["d"], interpret(quantized, {"x": x})["d"]
    assert np.linalg.norm(found - expected) < 0.03 * np.linalg.norm(expected)
