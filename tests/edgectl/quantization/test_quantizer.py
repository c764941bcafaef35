"""The integer model: same function within quantization error, the expected operators, valid for the hardware."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from edgectl.errors import ModelError, UsageError
from edgectl.graph import Model, Node
from edgectl.interpreter import interpret, interpret_images
from edgectl.operators.activation import Relu, Sigmoid
from edgectl.operators.base import TensorType
from edgectl.operators.convolution import Convolution
from edgectl.operators.dense import Dense
from edgectl.operators.elementwise import Binary
from edgectl.operators.integer import IntegerConvolution
from edgectl.operators.quantization import Quantize
from edgectl.operators.shape import Flatten
from edgectl.quantization.calibration import observe, synthetic_images
from edgectl.quantization.folding import fold_batch_norm
from edgectl.quantization.quantizer import quantize
from tests.edgectl.quantization.networks import NETWORKS, NetworkBuilder, pre_activation_network, residual_network


def images(model: Model, count: int, seed: int) -> np.ndarray:
    return synthetic_images(None, model.inputs["data"].shape, count, seed)


def kinds(model: Model) -> Counter[str]:
    return Counter(node.operator.kind for node in model.nodes)


@pytest.mark.parametrize("name", NETWORKS)
def test_folding_does_not_change_the_function(name: str) -> None:
    model = NETWORKS[name]()
    x = images(model, 4, 1)
    np.testing.assert_allclose(
        interpret_images(fold_batch_norm(model), x), interpret_images(model, x), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_the_integer_model_computes_nearly_the_same(name: str) -> None:
    model = NETWORKS[name]()
    integer = quantize(model, images(model, 16, 0))
    x = images(model, 16, 1)
    expected, actual = interpret_images(model, x), interpret_images(integer, x)
    cosine = (expected * actual).sum(1) / np.linalg.norm(expected, axis=1) / np.linalg.norm(actual, axis=1)
    assert cosine.min() > 0.97
    assert integer.types()[integer.outputs[0]] == model.types()[model.outputs[0]]


def test_residual_blocks_become_convolutions_alone() -> None:
    assert kinds(quantize(residual_network())) == {
        "quantize": 1,
        "integer_convolution": 6,
        "max_pool": 1,
        "integer_pool_sum": 1,
        "requantize": 1,
        "flatten": 1,
        "integer_dense": 1,
        "dequantize": 1,
    }


def test_a_downsampling_shortcut_is_the_residual_of_the_later_convolution() -> None:
    integer = quantize(residual_network())
    (last,) = (node for node in integer.nodes if node.name == "relu4")
    assert last.inputs[3] == "bn3"
    assert isinstance(last.operator, IntegerConvolution)
    assert last.operator.low == 0


def test_batch_norm_of_the_input_is_part_of_its_quantization() -> None:
    integer = quantize(pre_activation_network())
    assert integer.nodes[0].operator.kind == "quantize"
    assert len(integer.nodes[0].operator.attributes()["offsets"]) == 3
    assert kinds(integer)["integer_affine"] == 3


def test_any_network_stays_inside_what_the_hardware_does_right() -> None:
    for make in NETWORKS.values():
        for node in quantize(make()).nodes:
            if isinstance(node.operator, IntegerConvolution):
                assert -15 <= node.operator.shift <= 15
                assert -127 <= node.operator.low < node.operator.high <= 127


def _cosine(model: Model, calibration: np.ndarray, x: np.ndarray) -> float:
    expected = interpret_images(model, x).ravel()
    actual = interpret_images(quantize(model, calibration), x).ravel()
    return float(expected @ actual / np.linalg.norm(expected) / np.linalg.norm(actual))


def _shifts(model: Model, calibration: np.ndarray) -> list[int]:
    nodes = quantize(model, calibration).nodes
    return [node.operator.shift for node in nodes if isinstance(node.operator, IntegerConvolution)]


def test_a_layer_whose_weights_have_collapsed_keeps_its_bias() -> None:
    net = NetworkBuilder((1, 16, 8, 8))
    weight, bias = net.parameter("w", 16, 16, 3, 3, scale=1e-9), net.parameter("b", 16)
    x = net.add("collapsed", Convolution((1, 1), (1, 1, 1, 1)), "data", weight, bias)
    x = net.add("flat", Flatten(), net.convolution("after", x, (16, 4)))
    weight, bias = net.parameter("w2", 8, 256, scale=1e-12), net.parameter("b2", 8)
    model = net.model(net.add("fc", Dense(), x, weight, bias))
    data = images(model, 4, 0)
    assert _cosine(model, data, data) > 0.999
    assert max(_shifts(model, data)) <= 15


def test_accumulators_that_a_shift_could_not_narrow_are_kept_from_saturating() -> None:
    net = NetworkBuilder((1, 256, 6, 6))
    net.parameters["w"] = np.random.default_rng(0).uniform(0.5, 1, (32, 256, 3, 3)).astype(np.float32)
    x = net.add("positive", Relu(), "data")
    model = net.model(net.add("conv", Convolution((1, 1), (1, 1, 1, 1)), x, "w"))
    data = images(model, 4, 0)
    assert _cosine(model, data, data) > 0.999
    assert _shifts(model, data) == [15]


def test_a_layer_that_calibration_does_not_wake_has_a_shift_that_every_processor_can_do() -> None:
    net = NetworkBuilder((1, 16, 8, 8))
    weight, bias = net.parameter("w", 16, 16, 3, 3), net.parameter("b", 16, scale=1e-20)
    x = net.add("dead", Relu(), "data")
    model = net.model(net.add("conv", Convolution((1, 1), (1, 1, 1, 1)), x, weight, bias))
    assert _shifts(model, -np.abs(images(model, 2, 0))) == [0]


def test_layers_may_have_the_names_that_the_rewriter_gives() -> None:
    net = NetworkBuilder((1, 16, 8, 8))
    gate = net.add("s", Sigmoid(), "data")
    x = net.convolution("s.int8", net.convolution("a", gate, (16, 16)), (16, 16))
    x = net.add("s.float", Binary("subtract"), x, net.convolution("b", gate, (16, 16)))
    model = net.model(x)
    data = images(model, 4, 0)
    assert _cosine(model, data, data) > 0.999


def test_batch_norm_of_the_input_with_a_vanishing_gain_is_no_part_of_its_quantization() -> None:
    model = pre_activation_network()
    parameters = {name: array.copy() for name, array in model.parameters.items()}
    parameters["bn_data.gamma"][0], parameters["bn_data.beta"][0] = 1e-38, 1
    integer = quantize(replace(model, parameters=parameters))
    offsets = [node.operator.offsets for node in integer.nodes if isinstance(node.operator, Quantize)]
    assert np.isfinite(np.array(offsets[0], np.float32)).all()
    assert kinds(integer)["integer_affine"] == 4


def test_weights_that_make_values_that_are_not_finite_are_refused() -> None:
    model = residual_network()
    parameters = {**model.parameters, "bn4.variance": -model.parameters["bn4.variance"]}
    with np.errstate(invalid="ignore"), pytest.raises(ModelError, match=r"'bn4'.*not finite"):
        quantize(replace(model, parameters=parameters))


def test_a_layer_of_constants_stays_in_floating_point() -> None:
    net = NetworkBuilder((1, 16, 8, 8))
    constant = net.convolution("constant", net.parameter("k", 1, 16, 8, 8), (16, 16))
    model = net.model(net.add("sum", Binary("add"), net.convolution("conv", "data", (16, 16)), constant))
    data = images(model, 4, 0)
    assert _cosine(model, data, data[:1]) > 0.999


def test_what_is_kept_of_many_images_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgectl.quantization.calibration.SAMPLES", 1 << 10)
    model = Model("net", {"data": TensorType((1, 3, 16, 16))}, (Node("relu", Relu(), ("data",)),), {}, ("relu",))
    seen = observe(model, images(model, 60, 0))["relu"]
    assert 512 <= seen.sample.size <= 1 << 11


def test_the_result_does_not_depend_on_the_number_of_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    model = residual_network()
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    alone = quantize(model)
    monkeypatch.setattr("os.cpu_count", lambda: 5)
    several = quantize(model)
    x = {"data": images(model, 3, 2)}
    np.testing.assert_array_equal(interpret(alone, x)["fc"], interpret(several, x)["fc"])


def test_calibration_on_an_iterable_is_that_on_its_images() -> None:
    model = residual_network()
    x = images(model, 8, 0)
    found, expected = quantize(model, (image for image in x)), quantize(model, x)
    assert found.nodes == expected.nodes
    for name, array in expected.parameters.items():
        np.testing.assert_array_equal(found.parameters[name], array)


def test_calibration_data_that_does_not_fit_is_refused() -> None:
    model = residual_network()
    with pytest.raises(UsageError, match=r"float32\[2, 1, 16, 16\].*float32\[1, 3, 16, 16\]"):
        quantize(model, np.zeros((2, 1, 16, 16), np.float32))
    with pytest.raises(UsageError, match="not numbers"):
        quantize(model, np.full((2, 3, 16, 16), np.nan, np.float32))
    with pytest.raises(UsageError, match="has 0 images"):
        quantize(model, np.zeros((0, 3, 16, 16), np.float32))
