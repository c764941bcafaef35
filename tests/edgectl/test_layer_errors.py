"""The error of each layer, on integer models whose errors are known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from edgectl.graph import Model, Node
from edgectl.layer_errors import LayerError, layer_errors
from edgectl.model_edits import up_to
from edgectl.operators.activation import Relu
from edgectl.operators.base import TensorType
from edgectl.operators.convolution import Convolution
from edgectl.operators.integer import IntegerAffine, IntegerConvolution
from edgectl.operators.quantization import Dequantize, Quantize
from edgectl.quantization.calibration import observe
from edgectl.quantization.folding import fold_batch_norm
from edgectl.quantization.quantizer import quantize
from edgectl.quantization.rewrite import rewrite
from edgectl.sources import Source, prepare

UNIT = 1 / 64


def _images(count: int = 8) -> np.ndarray:
    return np.random.default_rng(3).uniform(-1, 1, (count, 16, 6, 6)).astype(np.float32)


def _float_model(layers: int = 3) -> Model:
    """Convolutions of one pixel, with a ReLU after each: c0, r0, c1, r1, ..."""
    generator = np.random.default_rng(7)
    parameters, nodes, before = {}, [], "data"
    for index in range(layers):
        parameters[f"w{index}"] = generator.normal(0, 0.25, (16, 16, 1, 1)).astype(np.float32)
        nodes.append(Node(f"c{index}", Convolution(), (before, f"w{index}"), f"layer{index}"))
        nodes.append(Node(f"r{index}", Relu(), (f"c{index}",)))
        before = f"r{index}"
    return Model("chain", {"data": TensorType((1, 16, 6, 6))}, tuple(nodes), parameters, (before,))


def _quantized(model: Model, images: np.ndarray) -> Model:
    """In integers, and its channels as they are."""
    folded = fold_batch_norm(model)
    return rewrite(folded, observe(folded, images))[0]


def _by_layer(errors: tuple[LayerError, ...]) -> dict[str, LayerError]:
    return {error.layer: error for error in errors}


def test_sqnr_of_a_rounding_is_its_definition() -> None:
    x = _images()
    nodes = (Node("data.int8", Quantize((1 / UNIT,)), ("data",), "data"), Node("y", Dequantize(UNIT), ("data.int8",)))
    model = Model("rounding", {"data": TensorType((1, 16, 6, 6))}, nodes, {}, ("y",))
    (found,) = layer_errors(replace(model, nodes=(Node("y", Relu(), ("data",)),)), model, x)
    noise = x - UNIT * np.rint(x / UNIT)
    assert found.sqnr == pytest.approx(10 * math.log10((x**2).sum() / (noise**2).sum()), abs=0.01)
    assert found.own == pytest.approx(found.sqnr) and (found.layer, found.operator) == ("data", "quantize")


def test_a_layer_with_coarse_weights_is_the_culprit() -> None:
    model, x = _float_model(), _images()
    integer = _quantized(model, x)
    sound = _by_layer(layer_errors(model, integer, x))
    assert all(error.sqnr > 25 and (error.own or 0) > 25 for error in sound.values())
    weights = next(name for name in integer.parameters if name.startswith("c1."))
    coarse = np.rint(integer.parameters[weights] / 64).astype(np.int8) * 64
    broken = replace(integer, parameters={**integer.parameters, weights: coarse})
    errors = layer_errors(model, broken, x)
    assert list(errors) == sorted(errors, key=lambda error: error.sqnr)
    found = _by_layer(errors)
    assert found["layer0"] == sound["layer0"], "what comes before is as it was"
    assert found["layer1"].sqnr < 15 and found["layer2"].sqnr < 17, "the error goes on"
    alone = {name: error.own or 0.0 for name, error in found.items()}
    assert alone["layer1"] < 15 < 25 < min(alone["layer0"], alone["layer2"]), "but one layer alone makes it"
    assert alone["layer2"] == pytest.approx(sound["layer2"].own, abs=2)


def test_an_answer_of_zeros_and_one_without_error() -> None:
    x = np.rint(_images() * 8) / 8
    inputs = {"data": TensorType((1, 16, 6, 6))}
    weight = np.eye(16, dtype=np.float32).reshape(16, 16, 1, 1)
    original = Model("same", inputs, (Node("y", Convolution(), ("data", "w")),), {"w": weight}, ("y",))

    def integer(shift: int) -> Model:
        parameters = {"i": weight.astype(np.int8), "b": np.zeros(16, np.int32)}
        nodes = (
            Node("data.int8", Quantize((8.0,)), ("data",)),
            Node("y.int8", IntegerConvolution(shift=shift), ("data.int8", "i", "b")),
            Node("y", Dequantize(1 / 8), ("y.int8",)),
        )
        return Model("same", inputs, nodes, parameters, ("y",))

    exact = _by_layer(layer_errors(original, integer(0), x))["y.int8"]
    assert (exact.sqnr, exact.own) == (math.inf, math.inf)
    assert exact.as_dict()["sqnr_db"] is None
    zeros = _by_layer(layer_errors(original, integer(10), x))["y.int8"]
    assert zeros.sqnr == pytest.approx(0) and zeros.own == pytest.approx(0), "all that is left is noise"


def test_channels_that_the_quantizer_gave_like_ranges() -> None:
    """Factors that a layer divides its channels by and the next multiplies back are units, not errors."""
    model, x = _float_model(), _images()
    plain = _by_layer(layer_errors(model, _quantized(model, x), x))
    factors = 2.0 ** np.linspace(-2, 2, 16).reshape(-1, 1, 1, 1)
    equalized = {
        **model.parameters,
        "w0": (model.parameters["w0"] / factors).astype(np.float32),
        "w1": (model.parameters["w1"] * factors.reshape(1, -1, 1, 1)).astype(np.float32),
    }
    same_function = replace(model, parameters=equalized)
    integer = _quantized(same_function, x)
    found, known = (_by_layer(layer_errors(original, integer, x)) for original in (model, same_function))
    assert found["data"] == plain["data"] and found["layer0"].sqnr > 22
    for name in ("layer1", "layer2"):
        assert found[name].sqnr == pytest.approx(known[name].sqnr, abs=0.01)
        assert found[name].own == pytest.approx(known[name].own, abs=0.5)
    one = layer_errors(model, _quantized(model, x), x[:1])
    assert all(math.isfinite(error.sqnr) for error in one)


def test_channels_with_units_of_their_own() -> None:
    """An IntegerAffine may leave each channel its unit; as one unit, such channels would look like noise."""
    source = Source("resnet18_v2", "random", shape=(3, 64, 64))
    model = up_to(prepare(source).model, "resnetv20_stage3_batchnorm3_fwd")
    images = np.random.default_rng(1).normal(0, 1, (4, 3, 64, 64)).astype(np.float32)
    integer = quantize(model, images)
    affine = {node.name for node in integer.nodes if isinstance(node.operator, IntegerAffine)}
    errors = layer_errors(fold_batch_norm(model), integer, images)
    found = [error for error in errors if error.operator == IntegerAffine.kind]
    assert len(affine) == len(found) > 5
    assert min(error.own or 0 for error in found) > 15
