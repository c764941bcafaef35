"""Photographs become input tensors; damaged ones are usage errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgectl.errors import UsageError
from edgectl.graph import Preprocessing
from edgectl.images import (
    DEFAULT_IMAGE,
    in_order,
    load_image,
    load_images,
    load_pixels,
    normalised,
    pixels_of,
    read_pixels,
    resized,
)

HOW = Preprocessing(8, (6, 6), (0.5, 0.25, 0.0), (0.5, 0.25, 1.0))


def saved(folder: Path, pixels: np.ndarray, name: str = "image.png", mode: str | None = None) -> Path:
    path = folder / name
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path)
    return path


def test_shipped_photograph_is_small_and_sound() -> None:
    assert DEFAULT_IMAGE.stat().st_size < 60_000
    tensor = load_image(DEFAULT_IMAGE, Preprocessing(256, (224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    assert (tensor.shape, tensor.dtype) == ((1, 3, 224, 224), np.float32)
    assert 0.5 < tensor.std() < 1.5


def test_a_plain_colour_is_normalised_per_channel(tmp_path: Path) -> None:
    path = saved(tmp_path, np.full((20, 30, 3), (255, 0, 51), np.uint8))
    tensor = load_image(path, HOW)
    assert tensor.shape == (1, 3, 6, 6)
    np.testing.assert_allclose(tensor[0, :, 3, 3], [(1 - 0.5) / 0.5, (0 - 0.25) / 0.25, 0.2], rtol=1e-6)
    assert np.ptp(tensor, axis=(2, 3)).max() == 0


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_grey_of_16_bits_is_scaled_not_clipped(tmp_path: Path, kind: str) -> None:
    grey = np.arange(0, 256, dtype=np.uint16).reshape(16, 16)
    path = saved(tmp_path, grey * 257, f"grey.{kind}")
    np.testing.assert_array_equal(np.asarray(read_pixels(path)), np.repeat(grey[:, :, None], 3, axis=2))


def test_grey_of_16_bits_is_rotated_as_exif_says(tmp_path: Path) -> None:
    grey = np.arange(0, 32, dtype=np.uint16).reshape(8, 4) * 1024
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(grey).save(tmp_path / "grey.png", exif=exif)
    np.testing.assert_array_equal(np.asarray(read_pixels(tmp_path / "grey.png"))[..., 0], np.rot90(grey, -1) >> 8)


def test_bgr_swaps_channels_before_normalising(tmp_path: Path) -> None:
    path = saved(tmp_path, np.full((20, 30, 3), (255, 0, 51), np.uint8))
    tensor = load_image(path, replace(HOW, channel_order="BGR"))
    np.testing.assert_allclose(tensor[0, :, 0, 0], [(0.2 - 0.5) / 0.5, -1, 1], rtol=1e-6)


@pytest.mark.parametrize("size", [(64, 96), (96, 64), (33, 65)])
def test_short_side_is_resized_and_the_centre_cropped(size: tuple[int, int]) -> None:
    width, height = size
    columns = np.broadcast_to(np.linspace(0, 255, width).astype(np.uint8)[None, :, None], (height, width, 3))
    result = resized(Image.fromarray(np.ascontiguousarray(columns)), replace(HOW, resize=32, crop=(24, 28)))
    assert result.size == (28, 24)
    pixels = np.asarray(result).astype(float)[:, :, 0]
    assert abs(pixels.mean() - 127.5) < 6
    # The ramp spans the scaled width; the crop shows 28 pixels of it.
    scaled = round(width * 32 / min(size))
    assert abs(np.ptp(pixels) - 255 * 28 / scaled) < 25


def test_resize_equals_pillows_bilinear() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 40, 3), np.uint8)
    image = Image.fromarray(pixels)
    expected = np.asarray(image.resize((8, 10), Image.Resampling.BILINEAR))[2:8, 1:7]
    np.testing.assert_array_equal(np.asarray(resized(image, HOW)), expected)


def test_resize_zero_stretches() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 40, 3), np.uint8))
    expected = np.asarray(image.resize((6, 6), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(np.asarray(resized(image, replace(HOW, resize=0))), expected)


def test_an_image_of_the_right_size_is_not_touched() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    np.testing.assert_array_equal(np.asarray(resized(Image.fromarray(pixels), replace(HOW, crop=(8, 8)))), pixels)


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(mode: str, tmp_path: Path) -> None:
    name = "image.tif" if mode == "CMYK" else "image.png"
    if mode == "I;16":
        path = tmp_path / name
        Image.fromarray(np.full((9, 9), 65535, np.uint16)).save(path)
    else:
        path = saved(tmp_path, np.full((9, 9, 3), 255, np.uint8), name, mode)
    image = read_pixels(path)
    assert image.mode == "RGB"
    assert np.asarray(image).min() >= 250


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:2, :, 3] = 255
    image = np.asarray(read_pixels(saved(tmp_path, pixels)))
    assert image[:2].max() == 0
    assert image[2:].min() == 255


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to view
    Image.fromarray(pixels).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    image = np.asarray(read_pixels(tmp_path / "turned.jpg"))
    assert image.shape == (32, 16, 3)
    assert image[:14].min() > 200 and image[18:].max() < 50


def test_grayscale_models_get_one_channel(tmp_path: Path) -> None:
    path = saved(tmp_path, np.full((9, 9, 3), 51, np.uint8))
    tensor = load_image(path, Preprocessing(8, (6, 6), (0.0,), (1.0,)))
    np.testing.assert_allclose(tensor, np.full((1, 1, 6, 6), 0.2, np.float32), rtol=1e-6)


def test_several_images_are_one_batch(tmp_path: Path) -> None:
    paths = [saved(tmp_path, np.full((9, 9, 3), level, np.uint8), f"{level}.png") for level in (0, 255)]
    batch = load_images(paths, HOW)
    assert batch.shape == (2, 3, 6, 6)
    np.testing.assert_array_equal(batch[:1], load_image(paths[0], HOW))


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_every_level_is_normalised_to_the_bit_as_the_formula_says(order: str) -> None:
    how = Preprocessing(8, (16, 48), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), order)
    pixels = np.random.default_rng(3).permuted(np.arange(2 * 16 * 48 * 3) % 256).astype(np.uint8).reshape(2, 16, 48, 3)
    expected = pixels if order == "RGB" else pixels[..., ::-1]
    expected = (expected.astype(np.float32) / np.float32(255) - np.array(how.mean, np.float32)) / np.array(
        how.std, np.float32
    )
    actual = normalised(pixels, how)
    np.testing.assert_array_equal(actual, expected.transpose(0, 3, 1, 2))
    assert actual.dtype == np.float32 and actual.flags.c_contiguous


def test_pixels_of_another_size_are_refused_with_both() -> None:
    with pytest.raises(UsageError, match=r"uint8\[2, 7, 6, 3\], the model needs uint8\[N, 6, 6, 3\]"):
        normalised(np.zeros((2, 7, 6, 3), np.uint8), HOW)


@pytest.mark.parametrize("damage", ["missing", "text", "truncated", "empty", "folder", "bomb"])
def test_unreadable_images_are_usage_errors(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "photo.jpg"
    if damage == "text":
        path.write_text("not an image")
    elif damage == "truncated":
        path.write_bytes(DEFAULT_IMAGE.read_bytes()[:9000])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "folder":
        path.mkdir()
    elif damage == "bomb":
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        path.write_bytes(DEFAULT_IMAGE.read_bytes())
    with pytest.raises(UsageError, match=r"photo\.jpg") as caught:
        load_image(path, HOW)
    assert caught.value.exit_code == 2


def test_a_strip_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, np.zeros((1, 60_000, 3), np.uint8))
    with pytest.raises(UsageError, match="60000 x 1 pixels is too long"):
        load_image(path, replace(HOW, resize=256, crop=(224, 224)))


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_pixels_are_what_is_normalised(tmp_path: Path, order: str) -> None:
    path = saved(tmp_path, np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8))
    how = replace(HOW, channel_order=order)
    pixels, image = load_pixels(path, how), load_image(path, how)
    assert (pixels.shape, pixels.dtype) == ((1, 3, 6, 6), np.uint8) and pixels.flags.c_contiguous
    np.testing.assert_allclose(image[0, 0], pixels[0, 0] / 127.5 - 1, atol=1e-6)
    plain = np.full((1, 6, 6, 3), (255, 0, 51), np.uint8)
    assert in_order(plain, how)[0, :, 2, 2].tolist() == ([255, 0, 51] if order == "RGB" else [51, 0, 255])


def test_pixels_are_recovered_from_what_they_became() -> None:
    """Also where the deviation is negative, which turns the order of levels around."""
    pixels = np.random.default_rng(1).integers(0, 256, (3, 6, 6, 3), np.uint8)
    for how in (HOW, replace(HOW, channel_order="BGR"), replace(HOW, std=(-0.2, 0.21, 0.22))):
        np.testing.assert_array_equal(pixels_of(normalised(pixels, how), how), in_order(pixels, how))


@pytest.mark.parametrize("value", [1e-3, 5.0, -5.0])
def test_values_that_no_pixel_becomes_are_refused(value: float) -> None:
    images = normalised(np.zeros((1, 6, 6, 3), np.uint8), HOW)
    images[0, 1, 2, 3] = value
    with pytest.raises(UsageError, match="not 8-bit pixels, normalised as the model says"):
        pixels_of(images, HOW)
