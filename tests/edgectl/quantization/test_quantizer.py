"""The integer model: same function within quantization error, the expected operators, valid for the hardware."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from edgectl.errors import UsageError
from edgectl.graph import Model
from edgectl.interpreter import interpret, interpret_images
from edgectl.operators.integer import IntegerConvolution
from edgectl.quantization.calibration import synthetic_images
from edgectl.quantization.folding import fold_batch_norm
from edgectl.quantization.quantizer import quantize
from tests.edgectl.quantization.networks import NETWORKS, pre_activation_network, residual_network


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


def test_the_result_does_not_depend_on_the_number_of_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    model = residual_network()
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    alone = quantize(model)
    monkeypatch.setattr("os.cpu_count", lambda: 5)
    several = quantize(model)
    x = {"data": images(model, 3, 2)}
    np.testing.assert_array_equal(interpret(alone, x)["fc"], interpret(several, x)["fc"])


def test_calibration_data_that_does_not_fit_is_refused() -> None:
    model = residual_network()
    with pytest.raises(UsageError, match=r"float32\[2, 1, 16, 16\].*float32\[1, 3, 16, 16\]"):
        quantize(model, np.zeros((2, 1, 16, 16), np.float32))
    with pytest.raises(UsageError, match="not numbers"):
        quantize(model, np.full((2, 3, 16, 16), np.nan, np.float32))
    with pytest.raises(UsageError, match="empty"):
        quantize(model, np.zeros((0, 3, 16, 16), np.float32))
