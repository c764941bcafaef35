"""Convolution by unfolding equals convolution by its definition, for every geometry."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgectl.operators import windows
from edgectl.operators.base import window_output
from edgectl.operators.windows import convolve, pad


def by_definition(
    x: np.ndarray, weight: np.ndarray, strides: tuple[int, int], padding: tuple[int, int, int, int],
    dilation: tuple[int, int], groups: int,
) -> np.ndarray:  # fmt: skip
    top, left, bottom, right = padding
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    outputs, group_channels, kernel_h, kernel_w = weight.shape
    height = window_output(x.shape[2], kernel_h, strides[0], top, bottom, dilation[0])
    width = window_output(x.shape[3], kernel_w, strides[1], left, right, dilation[1])
    out = np.zeros((x.shape[0], outputs, height, width), x.dtype)
    for channel, row, column in np.ndindex(outputs, height, width):
        first = channel // (outputs // groups) * group_channels
        for i, j in np.ndindex(kernel_h, kernel_w):
            y, z = row * strides[0] + i * dilation[0], column * strides[1] + j * dilation[1]
            taps = padded[:, first : first + group_channels, y, z]
            out[:, channel, row, column] += taps @ weight[channel, :, i, j]
    return out


small = st.integers(1, 3)
pairs = st.tuples(small, small)


@settings(max_examples=150)
@given(
    batch=small, groups=small, group_channels=small, per_group=small, kernel=pairs, strides=pairs,
    padding=st.tuples(*[st.integers(0, 2)] * 4), dilation=st.tuples(*[st.integers(1, 2)] * 2),
    extra=st.tuples(*[st.integers(0, 4)] * 2), seed=st.integers(0, 99),
)  # fmt: skip
def test_equals_the_definition(
    batch: int, groups: int, group_channels: int, per_group: int, kernel: tuple[int, int], strides: tuple[int, int],
    padding: tuple[int, int, int, int], dilation: tuple[int, int], extra: tuple[int, int], seed: int,
) -> None:  # fmt: skip
    generator = np.random.default_rng(seed)
    size = tuple(dilation[i] * (kernel[i] - 1) + 1 + extra[i] for i in range(2))
    # Small integers: every order of summation gives the same.
    x = generator.integers(-8, 9, (batch, groups * group_channels, *size)).astype(np.float32)
    weight = generator.integers(-8, 9, (groups * per_group, group_channels, *kernel)).astype(np.float32)
    result = convolve(x, weight, strides, padding, dilation, groups)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, by_definition(x, weight, strides, padding, dilation, groups))


def test_a_batch_that_exceeds_the_unfolding_limit_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    x = generator.integers(-8, 9, (7, 3, 6, 6)).astype(np.float32)
    weight = generator.integers(-8, 9, (4, 3, 3, 3)).astype(np.float32)
    whole = convolve(x, weight, (1, 1), (1, 1, 1, 1), (1, 1), 1)
    monkeypatch.setattr(windows, "UNFOLDED_BYTES", 2 * 27 * 36 * 4)
    np.testing.assert_array_equal(convolve(x, weight, (1, 1), (1, 1, 1, 1), (1, 1), 1), whole)


def test_inputs_are_not_changed() -> None:
    x, weight = np.ones((1, 2, 4, 4), np.float32), np.ones((2, 1, 3, 3), np.float32)
    convolve(x, weight, (1, 1), (0, 0, 0, 0), (1, 1), 2)
    assert (x == 1).all() and (weight == 1).all()


def test_padding_value_and_sides() -> None:
    padded = pad(np.zeros((1, 1, 1, 1), np.float32), (1, 2, 3, 4), 5)
    assert padded.shape == (1, 1, 5, 7)
    assert (padded[0, 0, 1, 2], padded.sum()) == (0, 5 * 34)
