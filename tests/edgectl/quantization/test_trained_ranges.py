"""What the statistics of batch normalisations let expect of channels that calibration has not shown."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgectl.graph import Model
from edgectl.interpreter import interpret_images
from edgectl.operators.activation import Clip, Relu
from edgectl.operators.base import Operator
from edgectl.operators.batch_norm import BatchNorm
from edgectl.quantization.calibration import observe, synthetic_images
from edgectl.quantization.equalization import equalized
from edgectl.quantization.folding import fold_batch_norm
from edgectl.quantization.quantizer import quantize
from edgectl.quantization.trained_ranges import DEVIATIONS, with_trained_ranges
from tests.edgectl.quantization.networks import NetworkBuilder

SHAPE = (1, 16, 8, 8)


def _network(activation: Operator, normalised: bool = True) -> Model:
    """Convolution, batch normalisation, `activation`, convolution."""
    net = NetworkBuilder(SHAPE)
    x = net.convolution("first", "data", (16, 16))
    x = net.batch_norm("norm", x, 16) if normalised else x
    return net.model(net.convolution("last", net.add("active", activation, x), (16, 8), 1))


def _observed(model: Model, count: int = 4) -> dict[str, np.ndarray]:
    observations = observe(fold_batch_norm(model), synthetic_images(None, SHAPE, count))
    return {name: seen.channels for name, seen in with_trained_ranges(model, observations).items()}


@pytest.mark.parametrize(
    ("activation", "low", "high"), [(Relu(), 0.0, math.inf), (Clip(0.0, 6.0), 0.0, 6.0), (Clip(-1.0, 2.0), -1.0, 2.0)]
)
def test_a_channel_may_reach_six_standard_deviations(activation: Operator, low: float, high: float) -> None:
    model = _network(activation)
    model.parameters["norm.beta"][:2] = 1.0, -30.0
    model.parameters["norm.gamma"][:2] = -2.0, 3.0
    plain = observe(fold_batch_norm(model), synthetic_images(None, SHAPE, 4))
    found = _observed(model)
    assert DEVIATIONS == 6
    assert found["norm"][0] == max(13.0, plain["norm"].channels[0]) and found["norm"][1] == max(
        48.0, plain["norm"].channels[1]
    )
    assert found["active"][0] == max(min(13.0, high), min(11.0, -low), plain["active"].channels[0])
    assert found["active"][1] == max(0.0 if low == 0 else 1.0, plain["active"].channels[1])
    np.testing.assert_array_equal(found["last"], plain["last"].channels)


def test_a_fixed_gamma_counts_as_one() -> None:
    model = _network(Relu())
    nodes = [
        node if node.name != "norm" else type(node)(node.name, BatchNorm(fix_gamma=True), node.inputs, node.source)
        for node in model.nodes
    ]
    model.parameters["norm.gamma"][:] = 100.0
    model.parameters["norm.beta"][:] = 20.0
    found = _observed(model.rebuilt(nodes, dict(model.parameters), model.outputs))
    np.testing.assert_array_equal(found["active"] >= 26.0, True)
    assert found["active"].max() < 100.0


def test_a_bounded_value_without_statistics_may_reach_its_bound() -> None:
    found = _observed(_network(Clip(0.0, 6.0), normalised=False))
    np.testing.assert_array_equal(found["active"], 6.0)


def test_behind_a_bounded_relu_the_function_stays_the_same_on_images_that_were_not_seen() -> None:
    model = _network(Clip(0.0, 6.0))
    # Channels of all sizes.
    model.parameters["norm.gamma"] *= np.geomspace(0.05, 3.0, 16).astype(np.float32)
    model.parameters["norm.beta"] += np.linspace(0.3, 0.0, 16).astype(np.float32)
    sums = Model("sums", model.inputs, model.nodes[:1], {"first.w": model.parameters["first.w"]}, ("first",))
    trained_on = interpret_images(sums, synthetic_images(None, SHAPE, 64, seed=2))
    model.parameters["norm.mean"], model.parameters["norm.variance"] = (
        function(trained_on, axis=(0, 2, 3), dtype=np.float32) for function in (np.mean, np.var)
    )
    folded = fold_batch_norm(model)
    few = synthetic_images(None, SHAPE, 1)
    seen = with_trained_ranges(model, observe(folded, few))
    after, _ = equalized(folded, seen)
    spread = [np.ptp(np.log2(observe(form, few)["active"].channels + 1e-9)) for form in (folded, after)]
    assert spread[1] < 0.9 * spread[0]
    others = synthetic_images(None, SHAPE, 64, seed=1)
    np.testing.assert_allclose(interpret_images(after, others), interpret_images(folded, others), rtol=1e-4, atol=1e-4)


def test_a_bounded_relu_gains_from_it() -> None:
    model = _network(Clip(0.0, 6.0))
    sizes = np.geomspace(0.05, 3.0, 16).astype(np.float32)
    model.parameters["norm.gamma"] *= sizes
    model.parameters["last.w"] /= sizes.reshape(1, -1, 1, 1)
    images, others = synthetic_images(None, SHAPE, 16), synthetic_images(None, SHAPE, 16, seed=1)
    expected = interpret_images(model, others)

    def decibels(quantized: Model) -> float:
        noise = interpret_images(quantized, others) - expected
        return float(10 * np.log10(np.square(expected).sum() / np.square(noise).sum()))

    # Without statistics, as in a network whose normalisations were folded, the bound bars equalization.
    assert decibels(quantize(model, images)) > decibels(quantize(fold_batch_norm(model), images)) + 3
