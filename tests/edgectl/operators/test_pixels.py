"""Pixels looked up are the integers that normalising and quantizing gives, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgectl.errors import ModelError
from edgectl.graph import Preprocessing
from edgectl.images import in_order, normalised
from edgectl.operators.base import TensorType
from edgectl.operators.pixels import QuantizePixels
from edgectl.operators.quantization import Quantize
from edgectl.pixels import level_table

TABLE = TensorType((3, 256), "int8")
means = st.floats(0, 1)
deviations = st.floats(0.01, 2)
inverses = st.floats(0.5, 200)
offsets = st.floats(-3, 3)


def three(numbers: st.SearchStrategy[float]) -> st.SearchStrategy[tuple[float, ...]]:
    return st.tuples(numbers, numbers, numbers)


@given(
    mean=three(means),
    std=three(deviations),
    inverse=three(inverses) | st.tuples(inverses),
    offset=three(offsets) | st.tuples(offsets) | st.just(()),
    order=st.sampled_from(["RGB", "BGR"]),
)
def test_every_level_of_every_channel_is_the_float_paths(
    mean: tuple[float, ...], std: tuple[float, ...], inverse: tuple[float, ...], offset: tuple[float, ...], order: str
) -> None:
    how = Preprocessing(16, (16, 16), mean, std, order)
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    photograph = np.stack([levels, levels[::-1], levels.T], axis=-1)[np.newaxis]
    quantize = Quantize(inverse, offset)
    found = QuantizePixels().evaluate(in_order(photograph, how), level_table(how, quantize))
    np.testing.assert_array_equal(found, quantize.evaluate(normalised(photograph, how)))
    assert found.dtype == np.int8


def test_a_level_by_hand() -> None:
    """Level 51 is 0.2; (0.2 - 0.5) / 0.25 is -1.2, of which 10 each make -12; level 255 is 2."""
    table = level_table(Preprocessing(1, (1, 1), (0.5,), (0.25,)), Quantize((10.0,)))
    assert (table.shape, table.dtype) == ((1, 256), np.int8)
    assert table[0, [0, 51, 255]].tolist() == [-20, -12, 20]


def test_each_channel_has_a_row_of_the_table() -> None:
    table = np.stack([np.arange(256) - 128, 127 - np.arange(256)]).astype(np.int8)
    x = np.array([[[[0, 255]], [[1, 2]]], [[[7, 128]], [[0, 255]]]], np.uint8)
    found = QuantizePixels().evaluate(x, table)
    assert found.tolist() == [[[[-128, 127]], [[126, 125]]], [[[-121, 0]], [[127, -128]]]]


@pytest.mark.parametrize(
    ("x", "table", "message"),
    [
        (TensorType((1, 3, 4, 4)), TABLE, "needs uint8 NCHW"),
        (TensorType((1, 3), "uint8"), TABLE, "needs uint8 NCHW"),
        (TensorType((1, 1, 4, 4), "uint8"), TABLE, r"needs a table int8\[1, 256\], got int8\[3, 256\]"),
        (TensorType((1, 3, 4, 4), "uint8"), TensorType((3, 256)), "got float32"),
    ],
)
def test_types_that_do_not_fit_are_refused(x: TensorType, table: TensorType, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        QuantizePixels().infer(x, table)
