"""Images from a folder or an .npz file, as a model's input, for calibration and evaluation."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from edgectl.errors import UsageError
from edgectl.graph import Model, Preprocessing
from edgectl.images import load_images, normalised, resized

CALIBRATION_IMAGES = 512
"""A few dozen images show a network's ranges; more cost memory and time."""
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".gif", ".tif", ".tiff")
REPAIR = "make one with numpy.savez(PATH, x=images, y=labels)"


@dataclass(frozen=True)
class Dataset:
    """Stored images: uint8 (N, H, W, C) or float32 (N, C, H, W), or samples of features, float32 (N, features); and
    their class indices (N) where there are any."""

    images: np.ndarray
    labels: np.ndarray | None


def read_dataset(path: str | os.PathLike[str], limit: int | None = None) -> Dataset:
    """`x`, and `y` if present, of an .npz file. Raises UsageError where it is unreadable or lacks `x`."""
    name = os.fspath(path)
    try:
        loaded = np.load(name, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise UsageError(f"cannot read {name} as .npz: it is one array; {REPAIR}")
        with loaded as archive:
            if "x" not in archive:
                raise UsageError(
                    f"{name} has no array 'x' (it has {', '.join(archive.files) or 'none'}); it needs x, uint8 "
                    "(N, H, W, C) or float32 (N, C, H, W), and y for an evaluation"
                )
            images = archive["x"][:limit]
            labels = archive["y"][:limit] if "y" in archive else None
    except FileNotFoundError:
        raise UsageError(f"there is no file {name}") from None
    except OSError as error:
        raise UsageError(f"cannot read {name} as .npz: {error.strerror or error}") from error
    # NumPy's own words for damaged files are of pickles, and how to trust them.
    except (ValueError, EOFError, zipfile.BadZipFile, AttributeError, KeyError) as error:
        raise UsageError(f"cannot read {name} as .npz: it is damaged, or none; {REPAIR}") from error
    if (images.ndim, images.dtype) not in ((4, np.uint8), (4, np.float32), (2, np.float32)):
        raise UsageError(
            f"x of {name} is {images.dtype}{list(images.shape)}; it must be uint8 (N, H, W, C), "
            "float32 (N, C, H, W) or float32 (N, features)"
        )
    if labels is not None and (labels.ndim != 1 or labels.dtype.kind not in "iu"):
        raise UsageError(f"y of {name} is {labels.dtype}{list(labels.shape)}; it must be integer (N)")
    if len(images) == 0 or (labels is not None and len(labels) != len(images)):
        raise UsageError(
            f"{name} has {len(images)} images{'' if labels is None else f' and {len(labels)} labels'}; there must be "
            "one at least, and a label for each"
        )
    return Dataset(images, labels)


def as_input(images: np.ndarray, model: Model) -> np.ndarray:
    """Stored images as float32 (N, C, H, W): float as it is, bytes by the model's preprocessing.

    Raises UsageError where they do not fit, or the model has no preprocessing.
    """
    (declared,) = model.inputs.values()
    if images.dtype == np.float32:
        if images.shape[1:] != declared.shape[1:]:
            raise UsageError(f"the images are float32{list(images.shape)}, the model's input is {declared}")
        if not np.isfinite(images).all():
            raise UsageError("the images hold values that are not numbers, or infinite ones; remove these images")
        return images
    how = model.preprocessing
    if how is None:
        raise UsageError(f"'{model.name}' says nothing of preprocessing; give --mean and --std for images of bytes")
    # Checked before resizing too: Pillow knows no images of other numbers of channels.
    if images.shape[3] != len(how.mean):
        raise UsageError(
            f"the images are uint8{list(images.shape)}, in the order (N, H, W, C); the model takes "
            f"{len(how.mean)} channels"
        )
    if images.shape[1:3] != how.crop:
        images = np.stack([_resized_pixels(image, how) for image in images])
    return normalised(images, how)


def _resized_pixels(pixels: np.ndarray, how: Preprocessing) -> np.ndarray:
    # Pillow's grey images have no axis of channels.
    grey = pixels.shape[2] == 1
    scaled = np.asarray(resized(Image.fromarray(pixels[..., 0] if grey else pixels), how))
    return scaled[..., None] if grey else scaled


def _spread(count: int, limit: int) -> np.ndarray:
    """At most `limit` indices, evenly spread over `count`."""
    return np.unique(np.linspace(0, count - 1, min(count, limit)).astype(np.int64))


def read_calibration(path: str | os.PathLike[str], model: Model, limit: int = CALIBRATION_IMAGES) -> np.ndarray:
    """Calibration images from a folder of photographs or an .npz file, as the model's input; at most `limit`, evenly
    spread over those that there are.

    Raises UsageError where there are none or they are unreadable.
    """
    folder = Path(path)
    if not folder.is_dir():
        images = read_dataset(path).images
        return as_input(images[_spread(len(images), limit)], model)
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    files = [files[index] for index in _spread(len(files), limit)]
    if not files:
        raise UsageError(f"there are no images in {folder} (looked for {', '.join(IMAGE_SUFFIXES)})")
    if model.preprocessing is None:
        raise UsageError(f"'{model.name}' says nothing of preprocessing; give --mean and --std for photographs")
    return load_images(files, model.preprocessing)


def image_preprocessing(
    mean: tuple[float, ...], std: tuple[float, ...], shape: tuple[int, ...], channel_order: str = "RGB"
) -> Preprocessing:
    """Preprocessing for a model of input `shape` (N, C, H, W) that says nothing of it: the whole image, normalised.

    Large inputs are cropped from a slightly larger image, as ImageNet's convention is (256 for 224).
    """
    channels, height, width = shape[1:]
    if len(mean) not in (1, channels) or len(std) not in (1, channels):
        raise UsageError(f"--mean has {len(mean)} and --std {len(std)} numbers, the model's input {channels} channels")
    if not np.isfinite((*mean, *std)).all() or min(std) <= 0:
        raise UsageError(f"--mean {mean} must be finite and --std {std} finite and positive")
    short = min(height, width)
    resize = round(short * 256 / 224) if short >= 128 else short
    full = (tuple(np.resize(mean, channels).tolist()), tuple(np.resize(std, channels).tolist()))
    return Preprocessing(resize, (height, width), *full, channel_order)
