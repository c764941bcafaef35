"""Values that meet in concatenations are made with one scale."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgectl.graph import Model
from edgectl.interpreter import interpret_images
from edgectl.operators.activation import Clip, Relu
from edgectl.operators.elementwise import Binary
from edgectl.operators.pooling import AveragePool, GlobalPool, MaxPool
from edgectl.operators.quantization import Requantize
from edgectl.operators.shape import Concatenate
from edgectl.quantization.calibration import observe, synthetic_images
from edgectl.quantization.common_scales import common_scales
from edgectl.quantization.quantizer import quantize
from tests.edgectl.quantization.networks import NetworkBuilder, dense_network


def fire_network() -> Model:
    """Squeeze and expand twice; the expansions have ranges that differ and meet before a max-pool."""
    net = NetworkBuilder(seed=1)
    x, channels = net.add("relu", Relu(), net.convolution("conv", "data", (3, 32))), 32
    for block in range(2):
        x = net.add(f"s{block}r", Relu(), net.convolution(f"s{block}", x, (channels, 16), 1))
        a = net.add(f"a{block}r", Relu(), net.convolution(f"a{block}", x, (16, 16), 1))
        b = net.add(f"b{block}r", Clip(0, 100), net.convolution(f"b{block}", x, (16, 16)))
        net.parameters[f"a{block}.w"] *= (1, 1 / 256)[block]
        net.parameters[f"b{block}.w"] *= (16, 1 / 64)[block]
        x = net.add(f"cat{block}", Concatenate(1), a, b)
        x, channels = net.add(f"pool{block}", MaxPool((3, 3), (2, 2), (1, 1, 1, 1)), x), 32
    return net.model(net.add("mean", GlobalPool(), net.convolution("last", x, (32, 10), 1)))


def inception_network() -> Model:
    """An average of 9 pixels, whose scale is no power of two, on the way into a concatenation and into a sum."""
    net = NetworkBuilder(seed=2)
    x = net.add("relu", Relu(), net.convolution("conv", "data", (3, 16)))
    a = net.convolution("a", net.add("average", AveragePool((3, 3), (1, 1), (1, 1, 1, 1)), x), (16, 16), 1)
    b = net.convolution("b", x, (16, 16))
    x = net.add("cat", Concatenate(1), a, b)
    y = net.convolution("c", net.add("average2", AveragePool((3, 3), (1, 1), (1, 1, 1, 1)), x), (32, 32), 1)
    return net.model(net.add("sum", Binary("add"), x, y))


def images(model: Model, seed: int) -> np.ndarray:
    return synthetic_images(None, model.inputs["data"].shape, 8, seed)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


def steps_between(integer: Model) -> list[Requantize]:
    """Requantizes of int8."""
    types = integer.types()
    return [
        node.operator
        for node in integer.nodes
        if isinstance(node.operator, Requantize) and types[node.inputs[0]].dtype == "int8"
    ]


@pytest.mark.parametrize("make", [fire_network, inception_network, dense_network])
def test_concatenations_join_int8_without_a_step_in_between(make: Callable[[], Model]) -> None:
    model = make()
    integer = quantize(model, images(model, 0))
    types = integer.types()
    joined = [node for node in integer.nodes if isinstance(node.operator, Concatenate)]
    assert joined and all(types[node.name].dtype == "int8" for node in joined)
    assert steps_between(integer) == []
    x = images(model, 1)
    assert cosine(interpret_images(model, x), interpret_images(integer, x)) > 0.99


def test_a_chain_has_one_scale_and_other_values_have_their_own() -> None:
    net = NetworkBuilder(seed=4)
    x = net.convolution("stem", "data", (3, 16))
    pooled = net.add("pool", MaxPool((3, 3), (1, 1), (1, 1, 1, 1)), x)
    first = net.add("cat0", Concatenate(1), pooled, net.convolution("a", pooled, (16, 16)))
    branch = net.convolution("b", net.convolution("alone", first, (32, 16)), (16, 16))
    model = net.model(net.add("cat1", Concatenate(1), first, branch))
    scales = common_scales(model, observe(model, images(model, 0)))
    assert set(scales) == {"stem", "pool", "cat0", "a", "b", "cat1"}
    assert len(set(scales.values())) == 1


def test_chains_that_never_meet_have_different_scales() -> None:
    model = fire_network()
    scales = common_scales(model, observe(model, images(model, 0)))
    assert scales["cat0"] == scales["a0"] == scales["b0r"] == scales["pool0"]
    assert scales["cat1"] == scales["a1r"] == scales["pool1"]
    assert scales["cat0"] != scales["cat1"]
    assert "conv" not in scales and "s1" not in scales


def test_a_part_that_vanishes_at_the_common_scale_overflows_nothing() -> None:
    net = NetworkBuilder((1, 16, 8, 8), seed=6)
    x, y = net.convolution("huge", "data", (16, 16)), net.convolution("tiny", "data", (16, 16))
    net.parameters["huge.w"] *= 2.0**30
    net.parameters["tiny.w"] *= 2.0**-30
    model = net.model(net.add("cat", Concatenate(1), x, y))
    data = images(model, 1)
    actual = interpret_images(quantize(model, images(model, 0)), data)
    assert cosine(interpret_images(model, data)[:, :16], actual[:, :16]) > 0.999
    assert not actual[:, 16:].any()


def test_parts_that_cannot_have_a_power_of_two_are_shifted_to_the_coarsest() -> None:
    """Averages of 9 pixels have a ninth of their input's unit."""
    net = NetworkBuilder(seed=6)
    averages = []
    for name, gain in (("a", 1), ("b", 16)):
        x = net.add(f"{name}.relu", Relu(), net.convolution(name, "data", (3, 16)))
        net.parameters[f"{name}.w"] *= gain
        averages.append(net.add(f"{name}.average", AveragePool((3, 3), (1, 1), (1, 1, 1, 1)), x))
    model = net.model(net.add("cat", Concatenate(1), *averages))
    integer = quantize(model, images(model, 0))
    assert [step.shift for step in steps_between(integer)] == [4]
    data = images(model, 1)
    assert cosine(interpret_images(model, data), interpret_images(integer, data)) > 0.999
