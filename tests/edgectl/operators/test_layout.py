"""The packed layout: every value's place, round trips, (N, K) tensors and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgectl.errors import ModelError
from edgectl.operators.base import TensorType
from edgectl.operators.layout import Pack, Unpack

seeds = st.integers(0, 2**32 - 1)
tiles = st.tuples(st.integers(1, 3), st.sampled_from([1, 4, 16]))
shapes = st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 4), st.integers(1, 4))


def int8(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)


@given(seed=seeds, tile=tiles, shape=shapes)
def test_pack_places_every_value(seed: int, tile: tuple[int, int], shape: tuple[int, int, int, int]) -> None:
    (batch, block), (outer, channels, height, width) = tile, shape
    x, pack = int8(seed, outer * batch, channels, height, width), Pack(batch, block)
    packed = pack.evaluate(x)
    assert TensorType(packed.shape, str(packed.dtype)) == pack.infer(TensorType(x.shape, "int8"))
    expected = np.zeros(packed.shape, np.int8)
    for n, c, h, w in np.ndindex(*x.shape):
        expected[n // batch, c // block, h, w, n % batch, c % block] = x[n, c, h, w]
    np.testing.assert_array_equal(packed, expected)
    assert packed.flags.c_contiguous


@given(seed=seeds, tile=tiles, shape=shapes)
def test_unpack_is_the_inverse(seed: int, tile: tuple[int, int], shape: tuple[int, int, int, int]) -> None:
    x = int8(seed, tile[0] * shape[0], *shape[1:])
    unpack, packed = Unpack(shape[1]), Pack(*tile).evaluate(x)
    assert unpack.infer(TensorType(packed.shape, "int8")) == TensorType(x.shape, "int8")
    np.testing.assert_array_equal(unpack.evaluate(packed), x)


@given(seed=seeds, tile=tiles, outer=st.integers(1, 3), channels=st.integers(1, 40))
def test_vectors_pack_as_images_of_one_pixel(seed: int, tile: tuple[int, int], outer: int, channels: int) -> None:
    x, pack, unpack = int8(seed, outer * tile[0], channels), Pack(*tile), Unpack(channels, flat=True)
    packed = pack.evaluate(x)
    np.testing.assert_array_equal(packed, pack.evaluate(x[:, :, None, None]))
    declared = TensorType(x.shape, "int8")
    assert pack.infer(declared) == TensorType(packed.shape, "int8")
    assert unpack.infer(pack.infer(declared)) == declared
    np.testing.assert_array_equal(unpack.evaluate(packed), x)
    np.testing.assert_array_equal(Unpack(channels).evaluate(packed), x[:, :, None, None])


@pytest.mark.parametrize(
    ("operator", "x", "message"),
    [
        (Pack(), TensorType((1, 16, 3, 3)), "needs int8, got float32"),
        (Pack(), TensorType((1, 16, 3), "int8"), r"needs NCHW or \(N, K\), got \[1, 16, 3\]"),
        (Pack(2), TensorType((3, 16, 3, 3), "int8"), "3 samples do not divide by 2"),
        (Pack(2), TensorType((3, 16), "int8"), "3 samples do not divide by 2"),
        (Pack(0), TensorType((3, 16), "int8"), "tiles of 0 samples x 16 channels"),
        (Unpack(16), TensorType((1, 16, 3, 3), "int8"), "needs a packed tensor"),
        (Unpack(17), TensorType((1, 1, 3, 3, 1, 16), "int8"), "does not hold 17 channels"),
        (Unpack(0), TensorType((1, 1, 3, 3, 1, 16), "int8"), "does not hold 0 channels"),
        (Unpack(16, flat=True), TensorType((1, 1, 1, 3, 1, 16), "int8"), r"1x3 pixels do not become \(N, 16\)"),
    ],
)
def test_types_that_do_not_fit_are_refused(operator: Pack | Unpack, x: TensorType, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        operator.infer(x)
