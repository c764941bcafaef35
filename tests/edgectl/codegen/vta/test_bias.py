"""Bias blocks times the constant input are the bias."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgectl.codegen.vta.bias import bias_blocks, block_count, constant_input

REACH = 127 * 127 * 15 + 63
"""What one block of 16 lanes reaches."""


@given(st.lists(st.integers(-3 * REACH, 3 * REACH), min_size=1, max_size=40), st.sampled_from([8, 16]))
def test_the_products_add_up_to_the_bias(values: list[int], block: int) -> None:
    bias = np.array(values, np.int64)
    blocks = bias_blocks(bias, max(1, block_count(bias, block)), block)
    assert blocks.dtype == np.int8
    element = constant_input(1, block)[0, 0].astype(np.int64)
    sums = (blocks.astype(np.int64) @ element).sum(axis=1).ravel()
    assert sums[: len(bias)].tolist() == values
    assert not sums[len(bias) :].any()


@pytest.mark.parametrize(("largest", "count"), [(0, 0), (1, 1), (REACH, 1), (REACH + 1, 2), (-REACH - 1, 2)])
def test_as_few_blocks_as_the_largest_bias_needs(largest: int, count: int) -> None:
    assert block_count(np.array([0, largest, 0]), 16) == count
