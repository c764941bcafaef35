"""Biases as products: a bias is what a block of weights makes of one constant input element.

A GEMM micro-op costs one cycle where adding a loaded accumulator costs two ALU cycles and a transfer, and weight blocks
take part in double buffering. One block reaches +-241,998 per lane; larger biases take several blocks.
"""

from __future__ import annotations

import numpy as np

LARGEST = 127


def constant_input(batch: int, block: int) -> np.ndarray:
    """The int8 input element (1, batch, block) that bias blocks are multiplied with: 127, in the last lane 1."""
    element = np.full((1, batch, block), LARGEST, np.int8)
    element[..., -1] = 1
    return element


def block_count(bias: np.ndarray, block: int) -> int:
    """How many blocks the largest of the biases needs; 0 where all are zero."""
    coarse = np.abs(_coarse(bias)).max(initial=0)
    return max(-(-int(coarse) // (LARGEST * (block - 1))), int(bool(np.any(bias))))


def _coarse(bias: np.ndarray) -> np.ndarray:
    """The nearest multiple of 127, divided by it: what is left is at most 63 in magnitude."""
    return (bias.astype(np.int64) + LARGEST // 2) // LARGEST


def bias_blocks(bias: np.ndarray, count: int, block: int) -> np.ndarray:
    """int32 (O) -> int8 (ceil(O/block), count, block, block): weights that make it of the constant input."""
    full = np.pad(bias.astype(np.int64), (0, -len(bias) % block))
    coarse = _coarse(full)
    fine = full - coarse * LARGEST
    lanes = count * (block - 1)
    # Every lane takes an equal share of the coarse part, the first ones one more.
    share, extra = np.abs(coarse) // lanes, np.abs(coarse) % lanes
    values = (share[:, None] + (np.arange(lanes) < extra[:, None])) * np.sign(coarse)[:, None]
    weights = np.zeros((len(full), count, block), np.int8)
    weights[:, :, :-1] = values.reshape(len(full), count, block - 1)
    weights[:, 0, -1] = fine
    return np.ascontiguousarray(weights.reshape(-1, block, count, block).transpose(0, 2, 1, 3))
