"""Packs weights into blocks, and grouped convolutions into groups that are whole blocks."""

from __future__ import annotations

from math import lcm

import numpy as np


def merged_groups(groups: int, group_inputs: int, group_outputs: int, block: int) -> int:
    """How many groups are left when neighbours are merged until the inputs and outputs of each fill whole blocks."""
    together = _neighbours(group_inputs, group_outputs, block)
    merged = -(-groups // together)
    # A last group that is not full must still have all its blocks.
    whole_in = -(-groups * group_inputs // block) == merged * (together * group_inputs // block)
    whole_out = -(-groups * group_outputs // block) == merged * (together * group_outputs // block)
    return merged if whole_in and whole_out else 1


def _neighbours(group_inputs: int, group_outputs: int, block: int) -> int:
    """How many groups together have whole blocks of inputs and of outputs."""
    return lcm(lcm(group_inputs, block) // group_inputs, lcm(group_outputs, block) // group_outputs)


def pack_weight(weight: np.ndarray, groups: int, merged: int, block: int) -> np.ndarray:
    """int8 (O, I/groups, KH, KW) -> int8 (merged * outs, ins, KH, KW, block, block), output channel outer.

    Channels that do not meet, in different groups of one merged group, have zeros.
    """
    out_channels, group_inputs, kernel_h, kernel_w = weight.shape
    group_outputs = out_channels // groups
    together = groups if merged == 1 else _neighbours(group_inputs, group_outputs, block)
    outs, ins = -(-together * group_outputs // block), -(-together * group_inputs // block)
    full = np.zeros((merged, outs * block, ins * block, kernel_h, kernel_w), np.int8)
    for group in range(groups):
        part, place = divmod(group, together)
        rows = slice(place * group_outputs, (place + 1) * group_outputs)
        columns = slice(place * group_inputs, (place + 1) * group_inputs)
        full[part, rows, columns] = weight[group * group_outputs : (group + 1) * group_outputs]
    tiles = full.reshape(merged * outs, block, ins, block, kernel_h, kernel_w)
    return np.ascontiguousarray(tiles.transpose(0, 2, 4, 5, 1, 3))


def identity(block: int, factor: int) -> np.ndarray:
    """The one block that multiplies every channel by `factor`: int8 (1, 1, 1, 1, block, block)."""
    return np.asarray(np.eye(block, dtype=np.int8) * np.int8(factor)).reshape(1, 1, 1, 1, block, block)
