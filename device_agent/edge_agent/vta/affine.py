"""Index sequences as strided views, which NumPy walks faster than it gathers."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided


def affine_view(elements: np.ndarray, indices: np.ndarray) -> np.ndarray | None:
    """`elements[indices.ravel()]` as a view of shape (..., *elements.shape[1:]), or None where no nest of loops has
    these indices. The leading axes multiply to the number of indices and are in their order.
    """
    sequence = indices.ravel()
    base = int(sequence[0])
    stride = elements.strides[0]
    shape: list[int] = []
    strides: list[int] = []
    while len(sequence) > 1:
        differences = np.diff(sequence)
        breaks = np.flatnonzero(differences != differences[0])
        run = int(breaks[0]) + 1 if len(breaks) else len(sequence)
        if len(sequence) % run:
            return None
        blocks = sequence.reshape(-1, run)
        if not np.array_equal(blocks - blocks[:, :1], np.broadcast_to(blocks[0] - blocks[0, 0], blocks.shape)):
            return None
        shape.insert(0, run)
        strides.insert(0, int(differences[0]) * stride)
        sequence = blocks[:, 0]
    return as_strided(
        elements[base:], (*(shape or [1]), *elements.shape[1:]), (*(strides or [stride]), *elements.strides[1:])
    )
