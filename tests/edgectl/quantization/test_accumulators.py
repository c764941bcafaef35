"""int32 sums have one reader: the Requantize right after them, or a Dequantize."""

from __future__ import annotations

import numpy as np
import pytest

from edgectl.graph import Model
from edgectl.interpreter import interpret_images
from edgectl.operators.activation import Clip, Relu, Sigmoid
from edgectl.operators.elementwise import Binary
from edgectl.operators.pooling import AveragePool, GlobalPool
from edgectl.operators.quantization import Dequantize, Requantize
from edgectl.operators.shape import Flatten
from edgectl.quantization.calibration import synthetic_images
from edgectl.quantization.quantizer import quantize
from tests.edgectl.quantization.networks import NETWORKS, NetworkBuilder


def classifier_of_averages() -> Model:
    """No dense layer: the averages themselves are the scores."""
    net = NetworkBuilder(seed=8)
    x = net.add("relu", Relu(), net.convolution("conv", "data", (3, 10)))
    return net.model(net.add("flat", Flatten(), net.add("mean", AveragePool((16, 16)), x)))


def sums_read_in_both_ways() -> Model:
    """A dense layer and an average, both read by layers in integers and in floating point."""
    net = NetworkBuilder(seed=9)
    x = net.add("relu", Relu(), net.convolution("conv", "data", (3, 16)))
    x = net.add("average", AveragePool((2, 2), (2, 2)), x)
    y = net.convolution("conv2", x, (16, 16))
    y = net.add("gated", Binary("multiply"), y, net.add("sigmoid", Sigmoid(), x))
    y = net.dense("fc", net.add("flat", Flatten(), net.add("mean", GlobalPool(), y)), 16, 16)
    gate = net.add("gate", Sigmoid(), y)
    return net.model(net.add("product", Binary("multiply"), net.dense("fc2", y, 16, 16), gate))


def clipped_dense() -> Model:
    net = NetworkBuilder((1, 16, 4, 4), seed=10)
    x = net.dense("fc0", net.add("flat", Flatten(), net.convolution("conv", "data", (16, 16))), 256, 32)
    return net.model(net.dense("fc1", net.add("clip", Clip(0, 0.5), x), 32, 10))


ALL = {
    **NETWORKS,
    "averages": classifier_of_averages,
    "both": sums_read_in_both_ways,
    "clipped": clipped_dense,
}


def integer_and_cosine(model: Model) -> tuple[Model, float]:
    shape = model.inputs["data"].shape
    integer, x = quantize(model, synthetic_images(None, shape, 8, 0)), synthetic_images(None, shape, 8, 1)
    expected, actual = interpret_images(model, x).ravel(), interpret_images(integer, x).ravel()
    return integer, float(expected @ actual / np.linalg.norm(expected) / np.linalg.norm(actual))


@pytest.mark.parametrize("name", ALL)
def test_an_accumulator_has_one_reader_and_a_requantize_comes_at_once(name: str) -> None:
    integer, cosine = integer_and_cosine(ALL[name]())
    types, consumers = integer.types(), integer.consumers()
    sums = [node for node in integer.nodes if types[node.name].dtype == "int32"]
    assert sums
    for node in sums:
        (reader,) = consumers[node.name]
        assert isinstance(reader.operator, Requantize | Dequantize)
        if isinstance(reader.operator, Requantize):
            assert integer.nodes[integer.nodes.index(node) + 1] is reader
            assert 0 <= reader.operator.shift <= 22
    assert cosine > 0.98


def test_scores_keep_the_bits_of_their_accumulators() -> None:
    integer, cosine = integer_and_cosine(classifier_of_averages())
    assert [node.operator.kind for node in integer.nodes[-3:]] == ["integer_window_sum", "dequantize", "flatten"]
    assert cosine > 0.9995


def test_a_clip_after_a_dense_layer_is_part_of_its_requantize() -> None:
    integer, _ = integer_and_cosine(clipped_dense())
    (clip,) = (node.operator for node in integer.nodes if isinstance(node.operator, Requantize))
    assert clip.low == 0 and 0 < clip.high <= 127
    assert "clip" not in {node.operator.kind for node in integer.nodes}
