"""What a user says of a model, and the prepared model that it means: weights, preprocessing, calibration data."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgectl.datasets import image_preprocessing, read_calibration
from edgectl.errors import UsageError
from edgectl.frontends.graph_builder import Shapes
from edgectl.graph import Model
from edgectl.loading import load
from edgectl.weights import WeightsReport

MAXIMUM_BATCH = 256
MAXIMUM_ELEMENTS = 1 << 26
"""Values of one input sample, as in an image of 4096 x 4096 pixels: beyond, no board's memory holds the layers."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Source:
    """A model as named on the command line. `name` is what `load` takes as text; `shape` (C, H, W), (N, C, H, W) or
    (features), of several inputs by name, is needed where a file records none; `mean` and `std` override
    preprocessing's.

    `calibration` is a folder of photographs or an .npz file; empty: synthetic images. `offload`, `pixels`: see `build`.
    """

    name: str
    weights: str = "auto"
    shape: tuple[int, ...] | Mapping[str, tuple[int, ...]] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    calibration: str = ""
    batch: int = 1
    seed: int = 0
    offload: str = "all"
    pixels: bool = False


def is_bundle(model: str) -> bool:
    """Whether `model` names a bundle: by its ending, or as a file that begins with a ZIP's signature."""
    if model.endswith(".bundle"):
        return True
    if model.endswith((".pt2", ".pt", ".pth")):
        return False  # PyTorch's are ZIP archives too.
    try:
        with open(model, "rb") as file:
            return file.read(4) == b"PK\x03\x04"
    except (OSError, ValueError):
        return False


@dataclass(frozen=True)
class Prepared:
    """A float model ready to build, where its weights come from, and notices for the user."""

    model: Model
    weights: WeightsReport
    origin: dict[str, Any]
    notices: tuple[str, ...]

    def calibration(self, path: str) -> np.ndarray | None:
        """Images to calibrate on; None for an empty path."""
        return read_calibration(path, self.model) if path else None


def input_shapes(shape: tuple[int, ...] | Mapping[str, tuple[int, ...]]) -> Shapes | None:
    """What `--shape` means, batches of one, as `load` takes it; None where it is empty. Raises UsageError."""
    if isinstance(shape, Mapping):
        return {name: _with_batch(extents) for name, extents in shape.items()}
    return _with_batch(shape) if shape else None


def prepare(source: Source, simulated: bool = True, quantized: bool = True) -> Prepared:
    """Load the model that `source` names; notices say how it is `quantized`, if it is.

    Raises ModelError, UsageError, UnreachableError, VerificationError.
    """
    if not 1 <= source.batch <= MAXIMUM_BATCH:
        raise UsageError(f"--batch {source.batch} must be 1 to {MAXIMUM_BATCH}")
    shapes = input_shapes(source.shape)
    model, weights = load(source.name, source.weights, shapes, simulated, source.seed, labels=source.labels)
    notices = []
    if bool(source.mean) != bool(source.std):
        raise UsageError("give --mean and --std together")
    images = [t for t in model.inputs.values() if len(t.shape) == 4]
    if source.mean:
        if not images:
            raise UsageError("--mean and --std are for models of images")
        given = image_preprocessing(source.mean, source.std, images[0].shape)
        if model.preprocessing is not None:
            given = replace(model.preprocessing, mean=given.mean, std=given.std)
        model = replace(model, preprocessing=given)
    elif model.preprocessing is None and images and images[0].shape[1] == 3:
        notices.append(
            "the model says nothing of preprocessing: assuming ImageNet's mean and std, RGB; "
            "--mean and --std say otherwise"
        )
        model = replace(model, preprocessing=image_preprocessing(IMAGENET_MEAN, IMAGENET_STD, images[0].shape))
    if quantized and not source.calibration:
        notices.append(
            "quantized on synthetic images; --calibration DIR|FILE.npz with a few dozen real ones is more accurate"
        )
    origin = {
        "source": source.name,
        "weights": {"kind": weights.kind, "source": weights.source},
        "seed": source.seed,
        "parameters_sha256": parameters_digest(model),
    }
    return Prepared(model.with_batch(source.batch), weights, origin, tuple(notices))


def _with_batch(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a batch of one. Raises UsageError."""
    text = ",".join(map(str, shape))
    if len(shape) not in (1, 3, 4) or min(shape) < 1:
        raise UsageError(f"--shape {text}: give C,H,W, such as 3,224,224, or the number of features")
    if math.prod(shape[-3:]) > MAXIMUM_ELEMENTS:
        raise UsageError(
            f"--shape {text} has {math.prod(shape[-3:]):,} values, at most {MAXIMUM_ELEMENTS:,} are supported"
        )
    return (1, *shape[-3:])


def parameters_digest(model: Model) -> str:
    """SHA-256 over the names and values of all parameters, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(model.parameters):
        array = np.ascontiguousarray(model.parameters[name])
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
