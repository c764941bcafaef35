"""Integer models that take pixels: the same answers as those that take normalised images, to the bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_agent.boards import profile
from edge_agent.bundle import read_bundle
from edge_agent.devices import open_accelerator
from edge_agent.runtime.executor import Runtime
from edgectl.building import build
from edgectl.codegen.offload import OFFLOADS
from edgectl.errors import UsageError
from edgectl.graph import Model, Node, Preprocessing
from edgectl.images import in_order, normalised
from edgectl.interpreter import interpret
from edgectl.operators.activation import Relu
from edgectl.operators.base import TensorType
from edgectl.operators.pixels import QuantizePixels
from edgectl.operators.quantization import Quantize
from edgectl.pixels import with_pixel_input
from edgectl.quantization.quantizer import quantize
from tests.edgectl.quantization.networks import NETWORKS

HOW = Preprocessing(16, (16, 16), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "BGR")
PHOTOGRAPHS = np.random.default_rng(5).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)


def network(name: str) -> Model:
    return replace(NETWORKS[name](), preprocessing=HOW)


@pytest.mark.parametrize("name", NETWORKS)
def test_answers_are_equal_to_the_bit(name: str) -> None:
    """Of pre_activation, which normalises its input itself, the table has inverses and offsets of each channel."""
    integer = quantize(network(name))
    pixels = with_pixel_input(integer)
    assert pixels.inputs == {"data": TensorType((1, 3, 16, 16), "uint8")}
    expected = interpret(integer, {"data": normalised(PHOTOGRAPHS, HOW)})
    found = interpret(pixels, {"data": in_order(PHOTOGRAPHS, HOW)})
    for output, values in expected.items():
        np.testing.assert_array_equal(found[output], values)
    assert len({values.tobytes() for values in found[integer.outputs[0]]}) == len(PHOTOGRAPHS)


@pytest.mark.parametrize("name", ["residual", "pre_activation"])
@pytest.mark.parametrize("offload", OFFLOADS)
def test_the_bundle_takes_pixels_and_gives_the_float_bundles_answers(name: str, offload: str) -> None:
    answers = []
    for pixels in (False, True):
        built = build(network(name).with_batch(2), "sim", offload=offload, pixels=pixels)
        (spec,) = built.manifest["inputs"]
        assert spec["dtype"] == ("uint8" if pixels else "float32")
        board = profile("sim")
        loaded = Runtime(open_accelerator(board.accelerator, board)).load(read_bundle(built.data))
        try:
            loaded.self_test()
            image = in_order(PHOTOGRAPHS[:2], HOW) if pixels else normalised(PHOTOGRAPHS[:2], HOW)
            (scores,) = loaded.infer({"data": np.ascontiguousarray(image)}).outputs.values()
            answers.append(scores.copy())
        finally:
            loaded.close()
    np.testing.assert_array_equal(*answers)


def test_such_a_bundle_is_predicted_without_normalising() -> None:
    steps = {}
    for pixels in (False, True):
        predicted = build(network("residual"), "pynq", pixels=pixels).manifest["predicted"]
        steps[pixels] = {step["step"]: step for step in predicted["steps"]}
    assert set(steps[False]) - set(steps[True]) == {"normalise the image"}
    assert steps[False]["copy the inputs"]["seconds"] == pytest.approx(4 * steps[True]["copy the inputs"]["seconds"])
    assert [step["why"].split(":")[0] for step in steps[True].values() if "quantize_pixels" in step["why"]] == [
        "quantize_pixels+pack_patches"
    ]


def test_parameters_are_never_replaced() -> None:
    integer = quantize(network("residual"))
    reader = next(node for node in integer.nodes if isinstance(node.operator, Quantize))
    taken = replace(integer, parameters={**integer.parameters, f"{reader.name}.levels": np.zeros(3, np.int8)})
    pixels = with_pixel_input(taken)
    assert pixels.parameters[f"{reader.name}.levels"].tolist() == [0, 0, 0]
    (look_up,) = (node for node in pixels.nodes if isinstance(node.operator, QuantizePixels))
    assert pixels.parameters[look_up.inputs[1]].shape == (3, 256)


def another_reader(operator: Relu | Quantize) -> Model:
    integer = quantize(network("residual"))
    return replace(integer, nodes=(*integer.nodes, Node("other", operator, ("data",))))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: replace(quantize(network("residual")), preprocessing=None), "says nothing of preprocessing"),
        (
            lambda: replace(quantize(network("residual")), preprocessing=replace(HOW, mean=(0.5,), std=(0.5,))),
            r"preprocessing is of 1 channels, its input 'data' is float32\[1, 3, 16, 16\]",
        ),
        (lambda: another_reader(Relu()), "layer 'other' reads the image in floating point"),
        (lambda: another_reader(Quantize((1.0,))), "2 layers read its input 'data', not one"),
        (
            lambda: replace(quantize(network("residual")), inputs={"data": TensorType((1, 8))}),
            r"is float32\[1, 8\], not a float32 image",
        ),
        (lambda: with_pixel_input(quantize(network("residual"))), "is uint8"),
        (
            lambda: replace(network("residual"), inputs={"a": TensorType((1, 3)), "b": TensorType((1, 3))}),
            "it has the inputs a, b, not one image",
        ),
    ],
)
def test_what_cannot_take_pixels_is_refused_with_the_reason(model: object, message: str) -> None:
    assert callable(model)
    with pytest.raises(UsageError, match=message):
        with_pixel_input(model())


def test_building_for_pixels_without_preprocessing_is_refused() -> None:
    with pytest.raises(UsageError, match="'net' cannot take pixels: it says nothing of preprocessing"):
        build(NETWORKS["residual"](), pixels=True)
