"""Operators that select values keep the scale, so that they stay in integers."""

from __future__ import annotations

import numpy as np

from edgectl.graph import Model, Node
from edgectl.interpreter import interpret
from edgectl.operators.activation import Relu
from edgectl.operators.base import TensorType
from edgectl.operators.convolution import Convolution
from edgectl.operators.quantization import Dequantize, Quantize
from edgectl.operators.shape import Concatenate, Slice
from edgectl.quantization.quantizer import quantize


def test_halves_of_channels_stay_in_integers() -> None:
    """The unit of ShuffleNet: one half passes, the other is convolved."""
    generator = np.random.default_rng(0)
    weights = {f"w{i}": generator.normal(0, 0.4, (c, c, 1, 1)).astype(np.float32) for i, c in enumerate((16, 8, 16))}
    nodes = (
        Node("stem", Convolution(), ("x", "w0")),
        Node("relu", Relu(), ("stem",)),
        Node("first", Slice(1, 0, 8), ("relu",)),
        Node("second", Slice(1, 8, 16), ("relu",)),
        Node("convolved", Convolution(), ("second", "w1")),
        Node("joined", Concatenate(1), ("first", "convolved")),
        Node("last", Convolution(), ("joined", "w2")),
    )
    model = Model("net", {"x": TensorType((1, 16, 6, 6))}, nodes, weights, ("last",))
    images = generator.normal(0, 1, (8, 16, 6, 6)).astype(np.float32)
    integer = quantize(model, images)
    kinds = [node.operator.kind for node in integer.nodes]
    assert kinds.count("quantize") == 1 and kinds.count("dequantize") == 1, kinds
    assert isinstance(integer.nodes[0].operator, Quantize) and isinstance(integer.nodes[-1].operator, Dequantize)
    expected, found = (interpret(m, {"x": images})[m.outputs[0]] for m in (model, integer))
    assert np.square(found - expected).sum() < 0.001 * np.square(expected).sum()
