"""Stored images as a model's input."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgectl.datasets import Data, Dataset, as_input, image_preprocessing, read_calibration, read_data, read_dataset
from edgectl.errors import UsageError
from edgectl.graph import Model, Preprocessing
from edgectl.operators.base import TensorType

HOW = Preprocessing(4, (4, 4), (0.5, 0.25, 0.0), (0.5, 0.25, 1.0))


def model(preprocessing: Preprocessing | None = HOW) -> Model:
    return Model("net", {"data": TensorType((1, 3, 4, 4))}, (), {}, (), preprocessing)


def test_bytes_are_normalised_by_the_models_preprocessing() -> None:
    images = np.zeros((2, 4, 4, 3), np.uint8)
    images[1] = (255, 51, 102)
    x = as_input(images, model())
    assert x.shape == (2, 3, 4, 4) and x.dtype == np.float32
    np.testing.assert_allclose(x[0, :, 0, 0], [-1, -1, 0], atol=1e-6)
    np.testing.assert_allclose(x[1, :, 3, 3], [1, -0.2, 0.4], atol=1e-6)


def test_bytes_of_another_size_are_resized() -> None:
    images = np.full((1, 8, 12, 3), 255, np.uint8)
    assert as_input(images, model()).shape == (1, 3, 4, 4)


@pytest.mark.parametrize("shape", [(1, 3, 8, 12), (1, 8, 12, 1), (1, 4, 4, 4)])
def test_bytes_of_other_channels_or_order(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="the model takes 3 channels"):
        as_input(np.zeros(shape, np.uint8), model())


def test_bytes_of_one_channel_are_resized() -> None:
    grey = Model("net", {"data": TensorType((1, 1, 4, 4))}, (), {}, (), Preprocessing(4, (4, 4), (0.5,), (0.5,)))
    assert as_input(np.full((2, 8, 6, 1), 255, np.uint8), grey).tolist() == np.ones((2, 1, 4, 4)).tolist()


def test_samples_of_features(tmp_path: Path) -> None:
    samples = np.arange(10, dtype=np.float32).reshape(2, 5)
    np.savez(tmp_path / "data.npz", x=samples, y=[0, 1])
    vectors = Model("net", {"data": TensorType((1, 5))}, (), {}, ())
    np.testing.assert_array_equal(as_input(read_dataset(tmp_path / "data.npz").images, vectors), samples)
    np.savez(tmp_path / "data.npz", x=samples.astype(np.uint8))
    with pytest.raises(UsageError, match="float32 \\(N, features\\)"):
        read_dataset(tmp_path / "data.npz")


def test_floats_are_used_as_they_are() -> None:
    images = np.random.default_rng(0).normal(size=(3, 3, 4, 4)).astype(np.float32)
    assert as_input(images, model(None)) is images


def test_bytes_without_preprocessing() -> None:
    with pytest.raises(UsageError, match="--mean and --std"):
        as_input(np.zeros((1, 4, 4, 3), np.uint8), model(None))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number(value: float) -> None:
    with pytest.raises(UsageError, match="not numbers"):
        as_input(np.full((1, 3, 4, 4), value, np.float32), model())


def test_limit_and_labels(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    images = np.arange(5 * 4 * 4 * 3, dtype=np.uint8).reshape(5, 4, 4, 3)
    np.savez(path, x=images, y=np.arange(5))
    dataset = read_dataset(path, 3)
    np.testing.assert_array_equal(dataset.images, images[:3])
    assert dataset.labels is not None and dataset.labels.tolist() == [0, 1, 2]
    np.savez(path, x=images)
    assert read_dataset(path).labels is None


def test_calibration_from_a_folder_and_from_a_file_is_the_same(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (3, 4, 4, 3), np.uint8)
    (tmp_path / "deep").mkdir()
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "deep" / f"{index}.PNG")
    (tmp_path / "notes.txt").write_text("not an image")
    np.savez(tmp_path / "data.npz", x=pixels)
    from_folder = read_calibration(tmp_path, model())
    np.testing.assert_array_equal(from_folder, read_calibration(tmp_path / "data.npz", model()))
    assert len(read_calibration(tmp_path, model(), limit=2)) == 2


def test_calibration_from_arrays_and_iterables() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (6, 4, 4, 3), np.uint8)
    expected = as_input(pixels, model())
    for data in (
        pixels,
        expected,
        Dataset(pixels, None),
        iter(pixels),
        [pixels[:2], pixels[2:]],
        zip(pixels, range(6), strict=True),
    ):
        np.testing.assert_array_equal(read_calibration(data, model()), expected)
    endless = itertools.cycle(pixels)
    np.testing.assert_array_equal(read_calibration(endless, model(), limit=2), expected[:2])
    np.testing.assert_array_equal(read_calibration(pixels, model(), limit=2), expected[[0, 5]])


def test_models_with_several_inputs_take_no_data() -> None:
    two = replace(model(), inputs={"a": TensorType((1, 3, 4, 4)), "b": TensorType((1, 3, 4, 4))})
    with pytest.raises(UsageError, match=r"has inputs \['a', 'b'\]"):
        read_calibration(np.zeros((1, 4, 4, 3), np.uint8), two)


@pytest.mark.parametrize(("size", "resize"), [(32, 32), (224, 256), (299, 342), (128, 146)])
def test_preprocessing_of_a_model_that_says_nothing(size: int, resize: int) -> None:
    how = image_preprocessing((0.5,), (0.25,), (1, 3, size, size))
    assert how == Preprocessing(resize, (size, size), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


@pytest.mark.parametrize(
    ("mean", "std"),
    [((0.5, 0.5), (1.0,)), ((0.5,), (1.0, 1.0)), ((0.5,), (0.0,)), ((0.5,), (-1.0,)), ((np.inf,), (1.0,))],
)
def test_preprocessing_that_cannot_be(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    with pytest.raises(UsageError):
        image_preprocessing(mean, std, (1, 3, 32, 32))


@pytest.mark.parametrize("content", ["array", "text"])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "data.npz"
    if content == "array":
        with path.open("wb") as file:
            np.save(file, np.zeros((2, 8, 8, 3), np.uint8))
    else:
        path.write_text("x,y")
    with pytest.raises(UsageError, match=r"cannot read .* as \.npz: .*; make one with numpy\.savez"):
        read_dataset(path)


def _taking_images(mean: tuple[float, ...] = (0.5, 0.5, 0.5)) -> Model:
    how = Preprocessing(0, (4, 6), mean, (0.25,) * len(mean))
    return Model("net", {"data": TensorType((1, len(mean), 4, 6))}, (), {}, (), how)


def test_data_of_every_kind_is_the_same(tmp_path: Path) -> None:
    model, generator = _taking_images(), np.random.default_rng(0)
    images, labels = generator.integers(0, 256, (5, 4, 6, 3), np.uint8), np.arange(5)
    np.savez(tmp_path / "data.npz", x=images, y=labels)
    folder = tmp_path / "photographs" / "nested"
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number}.png")
    labelled: list[Data] = [
        Dataset(images, labels),
        tmp_path / "data.npz",
        zip(images, labels, strict=True),
        [(images[:3], labels[:3]), (images[3:], labels[3:])],
    ]
    for data in labelled:
        found = read_data(data, model, 4)
        np.testing.assert_array_equal(found.images, images[:4])
        assert found.labels is not None and found.labels.tolist() == [0, 1, 2, 3]
    unlabelled: list[Data] = [images, str(tmp_path / "photographs"), iter(images), [images[:2], images[2:]]]
    for data in unlabelled:
        found = read_data(data, model)
        np.testing.assert_array_equal(found.images, images)
        assert found.labels is None


def test_an_endless_iterable_is_read_up_to_the_limit() -> None:
    endless = (np.full((4, 6, 3), number % 256, np.uint8) for number in itertools.count())
    assert read_data(endless, _taking_images(), 7).images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_photographs_in_grey(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 12, 3), 77, np.uint8)).save(tmp_path / "a.png")
    found = read_data(tmp_path, _taking_images((0.5,)))
    assert found.images.shape == (1, 4, 6, 1) and (found.images == 77).all()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "the data is empty"),
        ([np.zeros((4, 6, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)], "differ in shape or type"),
        ([np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6, 3), np.float32)], "differ in shape or type"),
        ([(np.zeros((4, 6, 3), np.uint8), 1), np.zeros((4, 6, 3), np.uint8)], "2 images and 1 labels"),
        ([(np.zeros((4, 6, 3), np.uint8), 1.5)], "y of the data is float64"),
        (np.zeros((2, 4, 6, 3)), "x of the data is float64"),
        (np.zeros((0, 4, 6, 3), np.uint8), "the data has 0 images"),
    ],
)
def test_data_that_is_no_images(data: Data, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_data(data, _taking_images())


def test_photographs_need_preprocessing(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match="give --mean and --std"):
        read_data(tmp_path, replace(_taking_images(), preprocessing=None))
    with pytest.raises(UsageError, match="takes 4 channels, photographs have 3"):
        read_data(tmp_path, _taking_images((0.5,) * 4))
    with pytest.raises(UsageError, match="--limit 0 must be at least 1"):
        read_data(tmp_path, _taking_images(), 0)
