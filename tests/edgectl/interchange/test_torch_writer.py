"""The code that is written for PyTorch reads as a person's would, loads strictly and computes the same."""

from __future__ import annotations

import ast
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from PIL import Image

from edgectl.errors import ModelError
from edgectl.frontends import zoo
from edgectl.frontends.mxnet import from_symbol
from edgectl.graph import Model, Node, Preprocessing
from edgectl.images import load_image
from edgectl.interchange.torch_layers import TRANSLATORS
from edgectl.interchange.torch_writer import preprocessing_in, to_torch
from edgectl.interpreter import interpret
from edgectl.operators.activation import Clip, Relu
from edgectl.operators.base import Operator, TensorType
from edgectl.operators.convolution import Convolution
from edgectl.operators.pixels import QuantizePixels
from edgectl.operators.shape import Slice
from tests.edgectl.frontends.test_mxnet_operators import INDEX, recorded_case
from tests.edgectl.interchange.networks import (
    bottleneck_model,
    imported,
    one_operator,
    random_inputs,
    run_torch,
    two_inputs,
)
from tests.edgectl.interchange.old_resnet import old_checkpoint
from tests.edgectl.interchange.test_mxnet_writer import pools, sound

pytestmark = pytest.mark.torch


def assert_runs(model: Model, folder: Path, tolerance: float = 1e-5) -> None:
    pytest.importorskip("torch")
    inputs = random_inputs(model)
    expected = interpret(model, inputs)
    results = run_torch(to_torch(model, "net.pth"), inputs, folder)
    assert len(results) == len(model.outputs)
    for name, result in zip(model.outputs, results, strict=True):
        np.testing.assert_allclose(result, expected[name], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", INDEX)
def test_every_operator_computes_the_same(name: str, tmp_path: Path) -> None:
    symbol, parameters, x, _ = recorded_case(name)
    assert_runs(from_symbol(symbol, parameters, {"data": x.shape}), tmp_path)


@pytest.mark.parametrize(
    "operator",
    [Slice(1, 1, 3), Slice(3, 0, 5, 2), Clip(-math.inf, 0.5), Clip(0.0, math.inf), Clip(0.0, 6.0), Clip(1.0, 1.0)],
)
def test_operators_of_other_frameworks(operator: Operator, tmp_path: Path) -> None:
    assert_runs(one_operator(operator, (1, 4, 5, 6)), tmp_path)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=pools())
def test_pools_of_every_padding(tmp_path: Path, case: tuple[Operator, tuple[int, ...]]) -> None:
    operator, shape = case
    if sound(operator, shape) and np.isfinite(operator.evaluate(np.zeros(shape, np.float32))).all():
        assert_runs(one_operator(operator, shape), tmp_path)


def test_uneven_padding(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((2, 3, 3, 3)).astype(np.float32)
    assert_runs(one_operator(Convolution((2, 2), (0, 1, 2, 3)), (1, 3, 9, 9), {"weight": weight}), tmp_path)


def test_several_inputs_and_outputs_shared_and_stored_operands(tmp_path: Path) -> None:
    assert_runs(two_inputs(), tmp_path)
    made = to_torch(two_inputs())
    assert "def forward(self, left, right):" in made.code
    assert list(made.state) == [
        "branch.conv.weight", "branch.conv.bias", "again.weight", "again.bias", "norm.weight", "norm.bias",
        "norm.running_mean", "norm.running_var", "norm.num_batches_tracked", "scale", "head.weight",
    ]  # fmt: skip
    np.testing.assert_array_equal(made.state["norm.weight"], np.ones(6))  # gamma is fixed
    assert made.translation.notes == ("1 normalisations (norm) have a fixed gamma: their weight is written as 1",)


def test_momentum_and_epsilon_are_those_of_pytorch() -> None:
    assert "nn.BatchNorm2d(6, eps=0.001, momentum=0.01)" in to_torch(two_inputs()).code
    assert "nn.BatchNorm2d(5, eps=0.001)" in to_torch(bottleneck_model()).code


def test_a_bottleneck_without_gamma(tmp_path: Path) -> None:
    assert_runs(bottleneck_model(), tmp_path)


def small_resnet() -> Model:
    return old_checkpoint((2, 5, 1, 2), (8, 16, 32, 32, 32), 21, 32, "imagenet11k_152")[2]


def test_units_of_one_structure_are_one_class(tmp_path: Path) -> None:
    made = to_torch(model := small_resnet())
    assert re.findall(r"^class (\w+)", made.code, re.MULTILINE) == ["Unit", "UnitB", "Imagenet11k152"]
    assert '*((f"unit{i}", UnitB(32, 8)) for i in range(2, 6)),' in made.code
    assert max(map(len, made.code.splitlines())) <= 120
    assert {"bn_data.weight", "stage2.unit5.conv3.weight", "stage1.unit1.sc.weight", "fc1.bias"} <= made.state.keys()
    assert made.translation.layers["stage1_unit1_conv1"] == "stage1.unit1.conv1"
    assert made.translation.layers["_plus1"] == "stage1.unit2.forward: y = y + x"
    assert_runs(model, tmp_path)


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("resnet18_v1", ["Stage", "StageB", "Resnet18V1"]),
        ("vgg11", ["Vgg11"]),
        ("mobilenetv2_0.25", ["Linearbottleneck", "Mobilenetv2025"]),
    ],
)
def test_networks_of_the_zoo_have_classes_of_their_stages(name: str, classes: list[str]) -> None:
    code = to_torch(zoo.load(name)).code
    assert re.findall(r"^class (\w+)", code, re.MULTILINE) == classes
    ast.parse(code)


def test_code_is_what_a_person_would_write() -> None:
    weight = np.zeros((4, 3, 3, 3), np.float32)
    nodes = (
        Node("features.0", Convolution((2, 2), (1, 1, 1, 1)), ("data", "features.0.weight")),
        Node("features.1", Relu(), ("features.0",)),
        Node("tail", Relu(), ("features.1",)),
    )
    model = Model(
        "net", {"data": TensorType((1, 3, 8, 8))}, nodes, {"features.0.weight": weight}, ("tail",),
        Preprocessing(9, (8, 8), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "BGR"), ("cat", 'a "dog"'),
    )  # fmt: skip
    assert (
        to_torch(model, "net.pth").code
        == '''"""net for PyTorch, converted by edgectl.

net = load("net.pth")

Input: float32[1, 3, 8, 8]. Output: float32[1, 4, 4, 4]. The batch may be of any size.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn

INPUT_SHAPES = {"data": (1, 3, 8, 8)}

# How a photograph becomes the input: resized, its centre cropped, scaled to 0..1, normalised.
RESIZE = 9  # of the short side, in pixels
CROP = (8, 8)  # height, width
MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)
CHANNELS = "BGR"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(OrderedDict([
            ("0", nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)),
            ("1", nn.ReLU()),
        ]))

    def forward(self, data):
        return F.relu(self.features(data))


def load(path="net.pth"):
    """The network with the weights of a state dict, ready for inference."""
    net = Net()
    net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), strict=True)
    return net.eval()


def preprocess(pixels):
    """A photograph of any size, uint8 pixels (H, W, 3), in RGB order, -> float32 (1, 3, 8, 8)."""
    x = pixels.permute(2, 0, 1).unsqueeze(0)
    ratio = max(RESIZE, *CROP) / min(x.shape[2:])
    x = F.interpolate(x, [round(extent * ratio) for extent in x.shape[2:]], mode="bilinear", antialias=True)
    top, left = ((extent - kept) // 2 for extent, kept in zip(x.shape[2:], CROP))
    x = x[:, :, top : top + CROP[0], left : left + CROP[1]]
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (MEAN, STD))
    return (x.flip(1) / 255 - mean) / std


LABELS = (
    "cat",
    "a \\"dog\\"",
)
'''
    )


@pytest.mark.parametrize(("resize", "crop"), [(32, (32, 32)), (40, (32, 24)), (16, (32, 32)), (0, (20, 30))])
@pytest.mark.parametrize("size", [(32, 32), (57, 41), (20, 90)], ids=str)
@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_preprocess_is_what_images_become_here(
    size: tuple[int, int], resize: int, crop: tuple[int, int], order: str, tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    how = Preprocessing(resize, crop, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), order)
    (tmp_path / "net.py").write_text(to_torch(replace(small_resnet(), preprocessing=how)).code)
    module = imported(tmp_path / "net.py")
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photograph.png")
    expected = load_image(tmp_path / "photograph.png", how)
    levels = np.abs(module.preprocess(torch.from_numpy(pixels)).numpy() - expected) * 255 * np.array(how.std).min()
    assert levels.shape == (1, 3, *crop)
    assert levels.max() < 1.01, "Pillow and PyTorch round some pixels to neighbouring levels"
    assert preprocessing_in(vars(module)) == how


def test_preprocess_is_for_one_channel_too(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    (tmp_path / "net.py").write_text(
        to_torch(replace(small_resnet(), preprocessing=Preprocessing(9, (8, 8), (0.5,), (0.25,)))).code
    )
    found = imported(tmp_path / "net.py").preprocess(torch.full((12, 12, 1), 51, dtype=torch.uint8))
    assert found.shape == (1, 1, 8, 8) and torch.allclose(found, torch.full_like(found, (0.2 - 0.5) / 0.25))


@pytest.mark.parametrize(
    "damage", [{"MEAN": None}, {"CROP": (0, 3)}, {"CHANNELS": "HSV"}, {"STD": (0.0, 1.0, 1.0)}, {"RESIZE": "8"}]
)
def test_other_constants_say_nothing(damage: dict[str, object]) -> None:
    values = {"RESIZE": 8, "CROP": (8, 8), "MEAN": (0.5,) * 3, "STD": (0.5,) * 3, "CHANNELS": "RGB"}
    assert preprocessing_in(values) is not None
    assert preprocessing_in({**values, **damage}) is None
    assert preprocessing_in({"MEAN": (0.5,)}) is None


def test_strangers_names_are_not_run() -> None:
    evil = '"""\nraise SystemExit\n"""; é'
    nodes = (
        Node(f"{evil}.conv", Convolution(), ("x", f"{evil}.conv.weight")),
        Node("forward", Relu(), (f"{evil}.conv",)),
    )
    parameters = {f"{evil}.conv.weight": np.zeros((1, 1, 1, 1), np.float32)}
    model = Model(evil, {"x": TensorType((1, 1, 2, 2))}, nodes, parameters, ("forward",), labels=(evil,))
    for node in ast.walk(ast.parse(to_torch(model).code)):
        assert not isinstance(node, ast.Raise)


def test_every_operator_that_mxnet_can_say_pytorch_can_too() -> None:
    from edgectl.interchange.mxnet_writer import WRITERS

    assert TRANSLATORS.keys() == WRITERS.keys()


def test_what_pytorch_cannot_say_is_listed() -> None:
    with pytest.raises(ModelError, match=r"operator 'quantize_pixels' is not supported \(layer layer\)"):
        to_torch(one_operator(QuantizePixels(), (1, 3, 4, 4)))
