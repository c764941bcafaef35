"""Weights and biases fitted to data: what is rounded together, mean errors, and no sum beyond int32."""

from __future__ import annotations

import numpy as np
import pytest

from edgectl.errors import UsageError
from edgectl.graph import Model, Node
from edgectl.interpreter import interpret, interpret_images
from edgectl.operators.activation import Relu
from edgectl.operators.base import TensorType
from edgectl.operators.dense import Dense
from edgectl.operators.integer import IntegerConvolution, IntegerDense
from edgectl.quantization.calibration import Observation, observe, synthetic_images
from edgectl.quantization.equalization import equalized
from edgectl.quantization.fitting import DAMPINGS, FEW, _covariance, best_damping, fitted, rounded
from edgectl.quantization.folding import fold_batch_norm
from edgectl.quantization.quantizer import quantize
from edgectl.quantization.rewrite import rewrite
from tests.edgectl.quantization.networks import NETWORKS, NetworkBuilder, residual_network


def test_inputs_that_go_together_share_their_rounding() -> None:
    # Two inputs that are always equal: 0.4 + 0.4 is 0.8, so that one of the two is rounded up.
    together = np.array([[1.0, 1.0], [1.0, 1.0]])
    assert rounded(np.array([[0.4, 0.4]]), together).sum() == 1
    assert rounded(np.array([[0.4, 0.4]]), np.eye(2)).sum() == 0
    assert rounded(np.array([[300.0, -300.0]]), np.eye(2)).tolist() == [[127, -127]]


def test_results_change_less_than_by_rounding_to_the_nearest() -> None:
    generator = np.random.default_rng(0)
    inputs = generator.standard_normal((24, 8)) @ generator.standard_normal((8, 4000))
    inputs += 0.1 * generator.standard_normal(inputs.shape)
    weight = generator.normal(0, 20, (16, 24))
    ours = rounded(weight, np.cov(inputs))
    assert np.array_equal(ours, np.rint(ours))
    lost = [np.square((integers - weight) @ inputs).mean() for integers in (ours, np.rint(weight))]
    assert lost[0] < 0.2 * lost[1]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_means_of_the_calibration_data_are_kept(name: str) -> None:
    model = NETWORKS[name]()
    images = synthetic_images(None, model.inputs["data"].shape, 16, 0)
    integer, layers = rewrite(*equalized(*_observed(model, images)))
    fitted_model = fitted(integer, layers, images)
    sums: dict[str, np.ndarray] = {}
    values = dict(fitted_model.parameters)

    def look(node_name: str, array: np.ndarray) -> None:
        values[node_name] = array

    values["data"] = images
    interpret(fitted_model, {"data": images}, look)
    for node in fitted_model.nodes:
        if isinstance(node.operator, IntegerConvolution | IntegerDense):
            inputs = [values[name] for name in node.inputs]
            total = (
                node.operator.accumulate(*inputs)
                if isinstance(node.operator, IntegerConvolution)
                else node.operator.evaluate(*inputs)
            )
            axes = tuple(axis for axis in range(total.ndim) if axis != 1)
            sums[node.inputs[1]] = total.mean(axis=axes, dtype=np.float64)
    assert set(sums) == set(layers)
    for weights, mean in sums.items():
        assert np.abs(mean - layers[weights].mean).max() <= 0.51


def _observed(model: Model, images: np.ndarray) -> tuple[Model, dict[str, Observation]]:
    folded = fold_batch_norm(model)
    return folded, observe(folded, images)


def test_fitting_does_not_depend_on_the_number_of_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    model = residual_network()
    images = synthetic_images(None, model.inputs["data"].shape, 12, 0)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    alone = quantize(model, images)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    several = quantize(model, images)
    assert alone.parameters.keys() == several.parameters.keys()
    for name, array in alone.parameters.items():
        np.testing.assert_array_equal(array, several.parameters[name])


def test_progress_counts_images_and_then_layers() -> None:
    model = residual_network()
    seen: list[tuple[int, int]] = []
    quantize(model, synthetic_images(None, (1, 3, 16, 16), 6, 0), lambda done, total: seen.append((done, total)))
    assert seen == [(4, 6), (6, 6), *((layer, 7) for layer in range(1, 8))]


def test_no_sum_leaves_int32_however_many_the_products_are() -> None:
    features = 70_000
    weight = np.full((2, features), 0.5, np.float32)
    weight[1] *= -1
    nodes = (Node("positive", Relu(), ("data",)), Node("fc", Dense(), ("positive", "w")))
    model = Model("wide", {"data": TensorType((1, features))}, nodes, {"w": weight}, ("fc",))
    data = np.abs(np.random.default_rng(0).standard_normal((4, features))).astype(np.float32)
    integer = quantize(model, data)
    ours = np.abs(integer.parameters["fc.weight_int8"].astype(np.int64)).sum(axis=1)
    assert (127 * ours).max() + np.abs(integer.parameters["fc.bias_int32"].astype(np.int64)).max() < 2**31
    np.testing.assert_allclose(interpret_images(integer, data), interpret_images(model, data), rtol=0.02)


def test_one_image_is_enough_to_come_through() -> None:
    net = NetworkBuilder((1, 16, 4, 4))
    model = net.model(net.convolution("conv", "data", (16, 8)))
    one = synthetic_images(None, (1, 16, 4, 4), 1, 0)
    expected, actual = interpret_images(model, one).ravel(), interpret_images(quantize(model, one), one).ravel()
    assert expected @ actual > 0.999 * np.linalg.norm(expected) * np.linalg.norm(actual)
    with pytest.raises(UsageError, match="has 0 images"):
        quantize(model, one[:0])


def test_the_fewer_positions_the_less_their_correlations_count() -> None:
    rng = np.random.default_rng(0)
    mixing = np.eye(96) + 0.1 * rng.standard_normal((96, 96))
    weight = rng.uniform(-60, 60, (1, 32, 96))

    def inputs(positions: int) -> np.ndarray:
        return (mixing @ rng.standard_normal((96, positions))).astype(np.float32)[None]

    assert best_damping(weight, inputs(96 * FEW)) == DAMPINGS[0]
    few, true = inputs(64), mixing @ mixing.T
    chosen = best_damping(weight, few)
    assert chosen > DAMPINGS[0]
    errors = []
    for damping in (chosen, DAMPINGS[0]):
        error = rounded(weight[0], _covariance(few[0]), damping) - weight[0]
        errors.append(np.einsum("ok,kl,ol->", error, true, error))
    assert errors[0] < 0.9 * errors[1]


def test_a_single_position_is_enough() -> None:
    assert best_damping(np.ones((1, 2, 3)), np.ones((1, 3, 1), np.float32)) == DAMPINGS[0]
