"""Weights in blocks: grouped convolutions as groups of whole blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgectl.codegen.vta.packing import identity, merged_groups, pack_weight


@pytest.mark.parametrize(
    ("groups", "inputs", "outputs", "merged"),
    [
        (1, 3, 5, 1),
        (32, 1, 1, 2),
        (33, 1, 1, 3),
        (4, 8, 8, 2),
        (3, 16, 32, 3),
        (2, 24, 24, 1),
        (4, 24, 24, 2),
        # 20 outputs of the last group would leave half of its blocks out.
        (20, 1, 3, 1),
        (32, 1, 2, 2),
        (6, 8, 16, 3),
        (5, 8, 8, 3),
        (5, 8, 16, 1),
    ],
)
def test_neighbours_are_merged_until_they_fill_blocks(groups: int, inputs: int, outputs: int, merged: int) -> None:
    assert merged_groups(groups, inputs, outputs, 16) == merged


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 20), st.integers(1, 20), st.sampled_from([4, 8, 16]))
def test_every_weight_is_where_its_channels_are(seed: int, groups: int, inputs: int, outputs: int, block: int) -> None:
    """Blocks as a matrix over all channels: the group's weights on its diagonal, zeros elsewhere."""
    weight = np.random.default_rng(seed).integers(-128, 128, (groups * outputs, inputs, 1, 2), dtype=np.int8)
    merged = merged_groups(groups, inputs, outputs, block)
    packed = pack_weight(weight, groups, merged, block)
    units, ins = packed.shape[:2]
    assert packed.shape[2:] == (1, 2, block, block) and packed.flags.c_contiguous
    assert units == -(-groups * outputs // block) and merged * ins == -(-groups * inputs // block)
    dense = np.zeros((units * block, merged * ins * block, 1, 2), np.int8)
    for unit in range(units):
        first = unit // (units // merged) * ins
        for number in range(ins):
            rows, columns = (
                slice(unit * block, (unit + 1) * block),
                slice((first + number) * block, (first + number + 1) * block),
            )
            dense[rows, columns] = packed[unit, number].transpose(2, 3, 0, 1)
    expected = np.zeros_like(dense)
    for group in range(groups):
        rows, columns = slice(group * outputs, (group + 1) * outputs), slice(group * inputs, (group + 1) * inputs)
        expected[rows, columns] = weight[rows]
    np.testing.assert_array_equal(dense, expected)


def test_the_block_that_passes_everything() -> None:
    np.testing.assert_array_equal(identity(4, 3), 3 * np.eye(4, dtype=np.int8).reshape(1, 1, 1, 1, 4, 4))
    assert identity(16, 1).dtype == np.int8
