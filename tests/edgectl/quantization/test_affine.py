"""Stand-alone batch normalisation: multipliers that VTA has, and nothing lost by their rounding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgectl.graph import Model
from edgectl.interpreter import interpret_images
from edgectl.operators.activation import Clip, Relu, Sigmoid
from edgectl.operators.convolution import Convolution
from edgectl.operators.elementwise import Binary
from edgectl.operators.integer import IntegerAffine
from edgectl.operators.pooling import AveragePool, GlobalPool, MaxPool
from edgectl.operators.shape import Flatten
from edgectl.quantization.calibration import synthetic_images
from edgectl.quantization.quantizer import quantize
from tests.edgectl.quantization.networks import NETWORKS, NetworkBuilder

CHANNELS = 32
READERS = ("read.w", "read2.w", "read.gamma")
"""Parameters that multiply what comes of the batch normalisation."""


def spread_network(rest: Callable[[NetworkBuilder, str], str], seed: int = 0) -> Model:
    """A convolution and, behind a max-pool, a batch normalisation with gains of 0.05 to 2, some negative, then `rest`,
    whose weights make up for small gains: all channels count the same."""
    net = NetworkBuilder((1, 3, 16, 16), seed)
    x = net.add("first_pool", MaxPool((2, 2), (1, 1)), net.convolution("conv", "data", (3, CHANNELS)))
    x = net.batch_norm("bn", x, CHANNELS)
    generator = np.random.default_rng(seed)
    gains = np.exp(generator.uniform(np.log(0.05), np.log(2), CHANNELS)).astype(np.float32)
    net.parameters["bn.gamma"] = gains * generator.choice(np.array([-1, 1, 1], np.float32), CHANNELS)
    net.parameters["bn.beta"] = gains * generator.normal(0, 0.3, CHANNELS).astype(np.float32)
    output = rest(net, x)
    for name in READERS:
        if name in net.parameters:
            weight = net.parameters[name]
            groups = CHANNELS // weight.shape[1] if weight.ndim > 1 else CHANNELS
            net.parameters[name] = (
                weight.reshape(groups, len(weight) // groups, CHANNELS // groups, -1)
                / gains.reshape(groups, 1, CHANNELS // groups, 1)
            ).reshape(weight.shape)
    return net.model(output)


def through_relu(net: NetworkBuilder, x: str) -> str:
    return net.convolution("read", net.add("relu", Relu(), x), (CHANNELS, 8))


def linear(net: NetworkBuilder, x: str) -> str:
    return net.convolution("read", x, (CHANNELS, 8))


def two_readers(net: NetworkBuilder, x: str) -> str:
    x = net.add("relu", Relu(), x)
    y = net.convolution("read2", x, (CHANNELS, 8), 1)
    return net.add("sum", Binary("add"), net.convolution("read", x, (CHANNELS, 8)), y)


def through_max_pool(net: NetworkBuilder, x: str) -> str:
    x = net.add("pool", MaxPool((3, 3), (1, 1), (1, 1, 1, 1)), net.add("relu", Relu(), x))
    return net.convolution("read", x, (CHANNELS, 8))


def through_average_pool(net: NetworkBuilder, x: str) -> str:
    x = net.add("pool", AveragePool((3, 3), (1, 1), (1, 1, 1, 1)), net.add("relu", Relu(), x))
    return net.convolution("read", x, (CHANNELS, 8))


def through_global_average(net: NetworkBuilder, x: str) -> str:
    x = net.add("mean", GlobalPool(), net.add("relu", Relu(), x))
    return net.dense("read", net.add("flat", Flatten(), x), CHANNELS, 64)


def grouped(net: NetworkBuilder, x: str) -> str:
    weight = net.parameter("read.w", CHANNELS, CHANNELS // 4, 3, 3, scale=0.1)
    return net.add("g", Convolution((1, 1), (1, 1, 1, 1), groups=4), net.add("relu", Relu(), x), weight)


def depthwise(net: NetworkBuilder, x: str) -> str:
    weight = net.parameter("read.w", CHANNELS, 1, 3, 3, scale=0.3)
    return net.add("d", Convolution((1, 1), (1, 1, 1, 1), groups=CHANNELS), net.add("relu", Relu(), x), weight)


def another_batch_norm(net: NetworkBuilder, x: str) -> str:
    x = net.batch_norm("read", net.add("relu", Relu(), x), CHANNELS)
    return net.convolution("after", net.add("relu2", Relu(), x), (CHANNELS, 8))


ABSORBING = (
    through_relu,
    linear,
    two_readers,
    through_max_pool,
    through_average_pool,
    through_global_average,
    grouped,
    depthwise,
    another_batch_norm,
)


def images(model: Model, count: int, seed: int) -> np.ndarray:
    return synthetic_images(None, model.inputs["data"].shape, count, seed)


def cosine(model: Model) -> float:
    integer = quantize(model, images(model, 8, 0))
    x = images(model, 8, 1)
    expected, actual = interpret_images(model, x).ravel(), interpret_images(integer, x).ravel()
    return float(expected @ actual / np.linalg.norm(expected) / np.linalg.norm(actual))


def affines(model: Model) -> list[tuple[IntegerAffine, np.ndarray, np.ndarray]]:
    """(operator, multipliers, offsets) of each."""
    integer = quantize(model, images(model, 8, 0))
    return [
        (node.operator, integer.parameters[node.inputs[1]], integer.parameters[node.inputs[2]])
        for node in integer.nodes
        if isinstance(node.operator, IntegerAffine)
    ]


def assert_what_vta_computes(model: Model) -> None:
    found = affines(model)
    assert found
    for operator, multipliers, offsets in found:
        assert np.abs(multipliers).max() <= 127
        assert 0 <= operator.shift <= 15
        assert np.abs(offsets).max() + 2 ** max(operator.shift - 1, 0) < 3_800_000


@pytest.mark.parametrize("rest", ABSORBING)
@pytest.mark.parametrize("seed", range(3))
def test_readers_undo_what_rounding_multipliers_changes(rest: Callable[[NetworkBuilder, str], str], seed: int) -> None:
    model = spread_network(rest, seed)
    assert_what_vta_computes(model)
    assert cosine(model) > 0.995


@pytest.mark.parametrize("name", ["pre_activation", "dense"])
def test_networks_with_pre_activation_have_multipliers_that_vta_has(name: str) -> None:
    assert_what_vta_computes(NETWORKS[name]())


def test_a_dense_layer_absorbs_ratios_behind_a_flattened_image() -> None:
    net = NetworkBuilder((1, 3, 8, 8))
    x = net.convolution("conv", "data", (3, CHANNELS))
    x = net.add("max", MaxPool((2, 2), (2, 2)), x)
    x = net.batch_norm("bn", x, CHANNELS)
    gains = np.geomspace(0.02, 2, CHANNELS)
    net.parameters["bn.gamma"] = gains.astype(np.float32)
    net.parameters["bn.beta"] *= 0
    x = net.add("flat", Flatten(), net.add("relu", Relu(), x))
    net.dense("fc", x, CHANNELS * 16, 10)
    # Every channel counts the same.
    net.parameters["fc.w"] /= np.repeat(gains, 16).astype(np.float32)
    model = net.model("fc")
    assert_what_vta_computes(model)
    assert cosine(model) > 0.99


@pytest.mark.parametrize("function", [Sigmoid(), Clip(0, 1)])
def test_without_readers_that_absorb_nothing_is_corrected(function: Sigmoid | Clip) -> None:
    def rest(net: NetworkBuilder, x: str) -> str:
        return net.convolution("read", net.add("function", function, x), (CHANNELS, 8))

    model = spread_network(rest)
    integer = quantize(model)
    # The weights are the float ones, rounded.
    weight, rounded = model.parameters["read.w"], integer.parameters["read.weight_int8"].astype(np.float64)
    scale = (weight * rounded).sum() / np.square(rounded).sum()
    # The scale is estimated: what lies at the middle of two integers may go either way.
    assert np.abs(weight / scale - rounded).max() < 0.52
    assert cosine(model) > 0.99


def test_a_multiplier_that_must_be_exact_stays_wide() -> None:
    """One channel that hardly varies sets a gain beside which the others' could not be told apart."""
    net = NetworkBuilder((1, 3, 16, 16))
    x = net.convolution("conv", "data", (3, CHANNELS))
    net.parameters["conv.w"][0] *= 1e-2
    y = net.add("bn.sigmoid", Sigmoid(), net.batch_norm("bn", x, CHANNELS))
    net.parameters["bn.variance"][0] = 1e-4
    model = net.model(net.add("sum", Binary("add"), y, x))
    ((_, multipliers, _),) = affines(model)
    assert np.abs(multipliers).max() > 127
    assert cosine(model) > 0.99


def test_an_offset_beyond_what_saturates_is_bounded() -> None:
    net = NetworkBuilder((1, 3, 8, 8))
    x = net.convolution("conv", "data", (3, 16))
    y = net.batch_norm("bn", x, 16)
    net.parameters["bn.beta"][:4] = 1e6, -1e6, 3e4, -3e4
    y = net.convolution("after", net.add("relu", Relu(), y), (16, 16), 1)
    model = net.model(net.add("both", Binary("add"), y, x))
    assert_what_vta_computes(model)
    assert cosine(model) > 0.99


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), exponent=st.floats(-4, 1.5), dead=st.integers(0, 4))
def test_any_statistics_stay_inside_the_bounds(seed: int, exponent: float, dead: int) -> None:
    net = NetworkBuilder((1, 3, 4, 4), seed)
    x = net.convolution("conv", "data", (3, 16), 1)
    y = net.batch_norm("bn", x, 16)
    generator = np.random.default_rng(seed)
    net.parameters["bn.gamma"] *= (10.0 ** generator.uniform(exponent - 2, exponent, 16)).astype(np.float32)
    net.parameters["bn.gamma"][:dead] = 0
    net.parameters["bn.mean"] = generator.normal(0, 2, 16).astype(np.float32)
    y = net.add("relu", Relu(), y)
    mean = net.add("mean", GlobalPool(), net.add("both", Binary("add"), net.convolution("after", y, (16, 16), 1), x))
    model = net.model(mean)
    for operator, multipliers, offsets in affines(model):
        assert 0 <= operator.shift <= 15
        assert np.abs(offsets).max() + 2 ** max(operator.shift - 1, 0) < 3_800_000
        assert (multipliers[:dead] == 0).all()
    assert cosine(model) > 0.97
