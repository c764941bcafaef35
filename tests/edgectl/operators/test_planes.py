"""int32 tensors in four planes of bytes: every byte's place, round trips and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgectl.errors import ModelError
from edgectl.operators.base import TensorType
from edgectl.operators.planes import JoinPlanes, SplitPlanes

seeds = st.integers(0, 2**32 - 1)
tiles = st.tuples(st.integers(1, 3), st.sampled_from([1, 4, 16]))
sizes = st.one_of(st.just(()), st.tuples(st.integers(1, 3), st.integers(1, 3)))


def int32(seed: int, *shape: int) -> np.ndarray:
    """Values of the whole range, its ends among them."""
    x = np.random.default_rng(seed).integers(-(2**31), 2**31, shape).astype(np.int32)
    ends = np.array([-(2**31), 2**31 - 1, -1, 0, 128, -129], np.int32)[: x.size]
    x.reshape(-1)[: ends.size] = ends
    return x


@given(seed=seeds, tile=tiles, outer=st.integers(1, 3), channels=st.integers(1, 20), size=sizes)
def test_every_plane_holds_its_byte(
    seed: int, tile: tuple[int, int], outer: int, channels: int, size: tuple[int, ...]
) -> None:
    (batch, block), split = tile, SplitPlanes(*tile)
    x = int32(seed, outer * batch, channels, *size)
    planes = split.evaluate(x)
    assert TensorType(planes.shape, str(planes.dtype)) == split.infer(TensorType(x.shape, "int32"))
    expected = np.zeros(planes.shape, np.int64)
    for n, c, *pixel in np.ndindex(*x.shape):
        row, column = pixel or (0, 0)
        for plane, octet in enumerate(int(x[(n, c, *pixel)]).to_bytes(4, "little", signed=True)):
            place = (plane, n // batch, c // block, row, column, n % batch, c % block)
            expected[place] = octet - 256 if octet > 127 else octet
    np.testing.assert_array_equal(planes, expected)
    assert planes.flags.c_contiguous


@given(seed=seeds, tile=tiles, outer=st.integers(1, 3), channels=st.integers(1, 20), size=sizes)
def test_join_is_the_inverse(
    seed: int, tile: tuple[int, int], outer: int, channels: int, size: tuple[int, ...]
) -> None:
    x = int32(seed, outer * tile[0], channels, *size)
    split, join = SplitPlanes(*tile), JoinPlanes(channels, flat=not size)
    declared = TensorType(x.shape, "int32")
    assert join.infer(split.infer(declared)) == declared
    joined = join.evaluate(split.evaluate(x))
    assert joined.dtype == np.int32
    np.testing.assert_array_equal(joined, x)


@pytest.mark.parametrize(
    ("operator", "x", "message"),
    [
        (SplitPlanes(), TensorType((1, 16, 3, 3), "int8"), "needs int32"),
        (SplitPlanes(), TensorType((1, 16, 3), "int32"), r"needs NCHW or \(N, K\)"),
        (SplitPlanes(2), TensorType((3, 16), "int32"), "3 samples do not divide by 2"),
        (JoinPlanes(16), TensorType((4, 1, 1, 3, 3, 1, 16), "int32"), "needs 4 packed int8 planes"),
        (JoinPlanes(16), TensorType((3, 1, 1, 3, 3, 1, 16), "int8"), "needs 4 packed int8 planes"),
        (JoinPlanes(16), TensorType((4, 1, 3, 3, 1, 16), "int8"), "needs 4 packed int8 planes"),
        (JoinPlanes(17), TensorType((4, 1, 1, 3, 3, 1, 16), "int8"), "does not hold 17 channels"),
        (JoinPlanes(16, flat=True), TensorType((4, 1, 1, 3, 3, 1, 16), "int8"), "3x3 pixels do not become"),
    ],
)
def test_types_that_do_not_fit_are_refused(operator: SplitPlanes | JoinPlanes, x: TensorType, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        operator.infer(x)
