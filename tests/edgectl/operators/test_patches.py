"""Patches as channels: every value's place, the convolution they stand for, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgectl.errors import ModelError
from edgectl.operators.base import TensorType
from edgectl.operators.integer import IntegerConvolution
from edgectl.operators.layout import Pack, Unpack
from edgectl.operators.patches import PackPatches

seeds = st.integers(0, 2**32 - 1)
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
operators = st.builds(
    PackPatches,
    batch=st.integers(1, 2),
    block=st.sampled_from([4, 16]),
    patch=pairs,
    steps=pairs,
    padding=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    grid=st.tuples(st.integers(1, 5), st.integers(1, 5)),
).filter(lambda operator: (np.array(operator.extents()) > operator.padding).all())


def int8(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)


@given(
    operator=operators,
    seed=seeds,
    outer=st.integers(1, 2),
    channels=st.integers(1, 5),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_every_lane_holds_its_pixel(
    operator: PackPatches, seed: int, outer: int, channels: int, size: tuple[int, int]
) -> None:
    """Also grids that lie partly outside the image, or cover only a part of it."""
    x = int8(seed, outer * operator.batch, channels, *size)
    packed = operator.evaluate(x)
    assert TensorType(packed.shape, str(packed.dtype)) == operator.infer(TensorType(x.shape, "int8"))
    expected = np.zeros(packed.shape, np.int8)
    (rows, columns), (top, left) = operator.patch, operator.padding
    for n, gy, gx, py, px, c in np.ndindex(len(x), *operator.grid, rows, columns, channels):
        y, w = gy * operator.steps[0] + py - top, gx * operator.steps[1] + px - left
        if 0 <= y < size[0] and 0 <= w < size[1]:
            lane = (py * columns + px) * channels + c
            place = (n // operator.batch, lane // operator.block, gy, gx, n % operator.batch, lane % operator.block)
            expected[place] = x[n, c, y, w]
    np.testing.assert_array_equal(packed, expected)
    assert packed.flags.c_contiguous


@given(seed=seeds, channels=st.integers(1, 20), size=st.tuples(st.integers(1, 6), st.integers(1, 6)))
def test_patches_of_one_pixel_are_the_packed_layout(seed: int, channels: int, size: tuple[int, int]) -> None:
    operator = PackPatches(2, 16, patch=(1, 1), steps=(1, 1), padding=(0, 0), grid=size)
    x = int8(seed, 2, channels, *size)
    np.testing.assert_array_equal(operator.evaluate(x), Pack(2, 16).evaluate(x))


def test_a_strided_convolution_becomes_one_of_stride_one() -> None:
    """7x7 with stride 2 and 3 pixels of padding is 4x4 over 2x2 patches, the first of which begins 4 pixels outside."""
    x, weight, bias = int8(1, 1, 3, 20, 24), int8(2, 8, 3, 7, 7), np.arange(8, dtype=np.int32)
    expected = IntegerConvolution((2, 2), (3, 3, 3, 3), shift=9).evaluate(x, weight, bias)
    operator = PackPatches(1, 16, patch=(2, 2), steps=(2, 2), padding=(4, 4), grid=(13, 15))
    wide = np.pad(weight, ((0, 0), (0, 0), (1, 0), (1, 0))).reshape(8, 3, 4, 2, 4, 2)  # a row and column of zeros first
    over_patches = np.ascontiguousarray(wide.transpose(0, 3, 5, 1, 2, 4).reshape(8, 12, 4, 4))
    patches = Unpack(12).evaluate(operator.evaluate(x))
    actual = IntegerConvolution((1, 1), shift=9).evaluate(patches, over_patches, bias)
    np.testing.assert_array_equal(actual, expected)


GOOD = PackPatches(2, 16, patch=(2, 2), steps=(2, 2), padding=(0, 0), grid=(4, 4))
IMAGE = TensorType((2, 3, 8, 8), "int8")


@pytest.mark.parametrize(
    ("operator", "x", "message"),
    [
        (GOOD, TensorType((2, 3, 8, 8)), "needs int8 NCHW"),
        (GOOD, TensorType((2, 3), "int8"), "needs int8 NCHW"),
        (GOOD, TensorType((3, 3, 8, 8), "int8"), "3 samples do not divide by 2"),
        (replace(GOOD, patch=(0, 2)), IMAGE, "no grid of patches"),
        (replace(GOOD, steps=(2, 0)), IMAGE, "no grid of patches"),
        (replace(GOOD, grid=(0, 4)), IMAGE, "no grid of patches"),
        (replace(GOOD, padding=(-1, 0)), IMAGE, "no grid of patches"),
        (replace(GOOD, block=0), IMAGE, "no grid of patches"),
        (replace(GOOD, padding=(8, 0)), IMAGE, "covers nothing but padding"),
        (replace(GOOD, padding=(0, 8)), IMAGE, "covers nothing but padding"),
    ],
)
def test_types_that_do_not_fit_are_refused(operator: PackPatches, x: TensorType, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        operator.infer(x)
