"""Photographs to input tensors, by a model's preprocessing."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from edgectl.errors import UsageError
from edgectl.graph import Preprocessing

MAXIMUM_PIXELS = 1 << 27
"""Of a resized photograph: 400 MB."""
DEFAULT_IMAGE = Path(__file__).parent / "data" / "images" / "cat.jpg"
"""The photograph that ships: a cat (see NOTICE)."""


def read_pixels(path: str | os.PathLike[str]) -> Image.Image:
    """A photograph as an upright RGB image; transparency is laid on white. Raises UsageError where it is unreadable."""
    name = os.fspath(path)
    try:
        # Pillow warns of decompression bombs from 89 million pixels and raises from twice that: refuse at the warning.
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(name) as image:
                upright = ImageOps.exif_transpose(image)
                # Before Pillow 11 a grey PNG of 16 bits opens as "I", which nothing else in a PNG does.
                if upright.mode.startswith("I;16") or (upright.mode, image.format) == ("I", "PNG"):
                    upright = _eight_bit(upright)
                return _opaque(upright).convert("RGB")
    except FileNotFoundError:
        raise UsageError(f"there is no image {name}; give the path of a photograph (JPEG, PNG, ...)") from None
    # Pillow's decoders raise all of these on damaged files.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError, Warning) as error:
        raise UsageError(f"cannot read {name} as an image ({error}); give a sound JPEG or PNG file") from error


def _eight_bit(image: Image.Image) -> Image.Image:
    # Pillow's own conversion clips at 255 instead of scaling: everything bright becomes white.
    return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))


def _opaque(image: Image.Image) -> Image.Image:
    if "transparency" not in image.info and image.mode not in ("RGBA", "LA", "PA", "RGBa", "La"):
        return image
    transparent = image.convert("RGBA")
    white = Image.new("RGBA", transparent.size, "white")
    return Image.alpha_composite(white, transparent)


def resized(image: Image.Image, how: Preprocessing) -> Image.Image:
    """The short side resized to `how.resize` (bilinear) and the centre cropped to `how.crop`, (height, width).

    A crop larger than `how.resize` widens it; `how.resize` 0 stretches the whole image to the crop. Raises UsageError
    where a strip of an image would become too large.
    """
    height, width = how.crop
    if how.resize == 0:
        return image.resize((width, height), Image.Resampling.BILINEAR)
    ratio = max(how.resize, height, width) / min(image.size)
    size = round(image.width * ratio), round(image.height * ratio)
    if size[0] * size[1] > MAXIMUM_PIXELS:
        raise UsageError(
            f"an image of {image.width} x {image.height} pixels is too long for a centre crop: resized, it would have "
            f"{size[0]} x {size[1]}; cut it first"
        )
    scaled = image.resize(size, Image.Resampling.BILINEAR)
    left, top = (scaled.width - width) // 2, (scaled.height - height) // 2
    return scaled.crop((left, top, left + width, top + height))


def in_order(pixels: np.ndarray, how: Preprocessing) -> np.ndarray:
    """uint8 pixels (N, H, W, C) in RGB order -> uint8 (N, C, H, W), channels in the model's order; a view.

    Raises UsageError where the pixels' size or channels are not the model's.
    """
    expected = (*how.crop, len(how.mean))
    if pixels.ndim != 4 or pixels.shape[1:] != expected or pixels.dtype != np.uint8:
        shape = ", ".join(map(str, expected))
        raise UsageError(f"pixels are {pixels.dtype}{list(pixels.shape)}, the model needs uint8[N, {shape}]")
    channels = pixels[..., ::-1] if how.channel_order == "BGR" else pixels
    return channels.transpose(0, 3, 1, 2)


def normalised_levels(how: Preprocessing) -> np.ndarray:
    """float32 (C, 256): (level / 255 - mean) / std of each of a channel's levels."""
    mean, deviation = np.asarray(how.mean, np.float32), np.asarray(how.std, np.float32)
    levels = (np.arange(256, dtype=np.float32)[:, np.newaxis] / np.float32(255) - mean) / deviation
    return np.ascontiguousarray(levels.T)


def normalised(pixels: np.ndarray, how: Preprocessing) -> np.ndarray:
    """uint8 pixels (N, H, W, C) in RGB order -> float32 (N, C, H, W): (pixels / 255 - mean) / std per channel.

    The 256 levels of each channel are computed once and looked up, in a fifth of the instructions on ARM.
    Raises UsageError where the pixels' size or channels are not the model's.
    """
    planes = in_order(pixels, how)
    result = np.empty(planes.shape, np.float32)
    for channel, table in enumerate(normalised_levels(how)):
        # No level lies outside the table; "wrap" is the mode in which NumPy looks up fastest.
        np.take(table, planes[:, channel], out=result[:, channel], mode="wrap")
    return result


def pixels_of(images: np.ndarray, how: Preprocessing) -> np.ndarray:
    """The inverse of `normalised`: float32 (N, C, H, W) -> uint8 (N, C, H, W), channels in the model's order.

    Raises UsageError where a value is none that a pixel becomes.
    """
    result = np.empty(images.shape, np.uint8)
    for channel, levels in enumerate(normalised_levels(how)):
        order = np.argsort(levels, kind="stable")
        found = order[np.minimum(np.searchsorted(levels[order], images[:, channel]), len(levels) - 1)]
        if not np.array_equal(levels[found], images[:, channel]):
            raise UsageError(
                "the images are float32 and not 8-bit pixels, normalised as the model says: a bundle compiled with "
                "--pixels cannot take them; give the images as uint8 (N, H, W, C)"
            )
        result[:, channel] = found
    return result


def load_pixels(path: str | os.PathLike[str], how: Preprocessing) -> np.ndarray:
    """A photograph as the input of a model compiled with pixels=True: resized and cropped, uint8 (1, C, H, W).

    Raises UsageError where it is unreadable.
    """
    return np.ascontiguousarray(in_order(_pixels([path], how), how))


def load_image(path: str | os.PathLike[str], how: Preprocessing) -> np.ndarray:
    """A photograph as the input of a model: float32 (1, C, H, W). Raises UsageError where it is unreadable."""
    return load_images([path], how)


def load_images(paths: Sequence[str | os.PathLike[str]], how: Preprocessing) -> np.ndarray:
    """Photographs as one batch: float32 (N, C, H, W). Raises UsageError where one is unreadable."""
    return normalised(_pixels(paths, how), how)


def _pixels(paths: Sequence[str | os.PathLike[str]], how: Preprocessing) -> np.ndarray:
    """uint8 (N, H, W, C), in RGB order."""
    return np.stack([_channels(resized(read_pixels(path), how), len(how.mean)) for path in paths])


def _channels(image: Image.Image, count: int) -> np.ndarray:
    if count not in (1, 3):
        raise UsageError(f"the model takes {count} channels, a photograph has 1 or 3; give a tensor: --input FILE.npy")
    pixels = np.asarray(image.convert("L" if count == 1 else "RGB"))
    return pixels.reshape(image.height, image.width, count)
