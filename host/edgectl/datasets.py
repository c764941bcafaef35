"""Images from a folder or an .npz file, as a model's input, for calibration and evaluation."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgectl.errors import UsageError
from edgectl.graph import Model, Preprocessing
from edgectl.images import load_images, normalised, read_pixels, resized

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


Data = Dataset | np.ndarray | str | os.PathLike[str] | Iterable[Any]
"""What `read_data` takes."""


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
                    "(N, H, W, C) or float32 (N, C, H, W), and y where classes are known"
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
    return _checked(name, images, labels)


def _checked(name: str, images: np.ndarray, labels: np.ndarray | None) -> Dataset:
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


def read_data(data: Data, model: Model, limit: int | None = None) -> Dataset:
    """The first `limit` images to evaluate `model` on. Raises UsageError where there are none or they do not fit.

    `data` is a Dataset; an .npz file; a folder of photographs; an array of images; or an iterable of images, of batches
    of them, or of pairs of either with its labels.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit} must be at least 1")
    if isinstance(data, Dataset):
        return Dataset(data.images[:limit], None if data.labels is None else data.labels[:limit])
    if isinstance(data, np.ndarray):
        return _checked("the data", data[:limit], None)
    if isinstance(data, str | os.PathLike):
        return _read_photographs(Path(data), model, limit) if Path(data).is_dir() else read_dataset(data, limit)
    return _collected(data, model, limit)


def _read_photographs(folder: Path, model: Model, limit: int | None) -> Dataset:
    """Photographs as pixels of the size that the model takes, in the order of their names, without labels."""
    how = model.preprocessing
    files = _image_files(folder)[:limit]
    if how is None:
        raise UsageError(f"'{model.name}' says nothing of preprocessing; give --mean and --std for photographs")
    if len(how.mean) not in (1, 3):
        raise UsageError(f"'{model.name}' takes {len(how.mean)} channels, photographs have 3; give an .npz file")

    def pixels(file: Path) -> np.ndarray:
        image = resized(read_pixels(file), how).convert("L" if len(how.mean) == 1 else "RGB")
        return np.asarray(image).reshape(*how.crop, len(how.mean))

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return Dataset(np.stack(list(pool.map(pixels, files))), None)


def _collected(data: Iterable[Any], model: Model, limit: int | None) -> Dataset:
    images: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    rank, found = len(next(iter(model.inputs.values())).shape), 0
    for item in data:
        x, y = item if isinstance(item, tuple | list) else (item, None)
        x = np.asarray(x)
        batch = x if x.ndim == rank else x[np.newaxis]
        images.append(batch)
        found += len(batch)
        if y is not None:
            labels.append(np.asarray(y).reshape(-1))
        if limit is not None and found >= limit:
            break
    if len({(batch.shape[1:], batch.dtype) for batch in images}) != 1:
        raise UsageError("the data is empty, or its images differ in shape or type; give images that are alike")
    joined = np.concatenate(labels) if labels else None
    if joined is not None and len(joined) != found:
        raise UsageError(f"the data has {found} images and {len(joined)} labels; give one for each, or none")
    return _checked("the data", np.concatenate(images)[:limit], None if joined is None else joined[:limit])


def as_input(images: np.ndarray, model: Model) -> np.ndarray:
    """Stored images as float32 (N, C, H, W): float as it is, bytes by the model's preprocessing.

    Raises UsageError where they do not fit, or the model has no preprocessing.
    """
    if len(model.inputs) != 1:
        raise UsageError(f"'{model.name}' has inputs {sorted(model.inputs)}; only models with one take data so far")
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


def _image_files(folder: Path) -> list[Path]:
    """Photographs in a folder and those in it. Raises UsageError where there are none."""
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise UsageError(f"there are no images in {folder} (looked for {', '.join(IMAGE_SUFFIXES)})")
    return files


def read_calibration(data: Data, model: Model, limit: int = CALIBRATION_IMAGES) -> np.ndarray:
    """Calibration images, as the model's input: at most `limit`, evenly spread over those that there are, or the first
    of an iterable. `data` is what `read_data` takes.

    Raises UsageError where there are none or they are unreadable.
    """
    if isinstance(data, str | os.PathLike) and Path(data).is_dir():
        files = _image_files(Path(data))
        files = [files[index] for index in _spread(len(files), limit)]
        if model.preprocessing is None:
            raise UsageError(f"'{model.name}' says nothing of preprocessing; give --mean and --std for photographs")
        return load_images(files, model.preprocessing)
    known = isinstance(data, Dataset | np.ndarray | str | os.PathLike)
    images = read_data(data, model, None if known else limit).images
    return as_input(images if len(images) <= limit else images[_spread(len(images), limit)], model)


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
