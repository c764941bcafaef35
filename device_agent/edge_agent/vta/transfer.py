"""The elements that a LOAD or STORE touches."""

from __future__ import annotations

import numpy as np

from edge_agent.vta.isa import Load, Store


def sram_elements(transfer: Load | Store) -> int:
    """SRAM elements written or read, from sram_base on, padding included."""
    if isinstance(transfer, Store):
        return transfer.y_size * transfer.x_size
    width = transfer.x_pad_0 + transfer.x_size + transfer.x_pad_1
    return width * (transfer.y_pad_0 + transfer.y_size + transfer.y_pad_1)


def last_dram_element(transfer: Load | Store) -> int:
    """The highest DRAM element touched; at least one is."""
    return transfer.dram_base + (transfer.y_size - 1) * transfer.x_stride + transfer.x_size - 1


def dram_rows(elements: np.ndarray, transfer: Load | Store) -> np.ndarray:
    """The DRAM side as a (y_size, x_size, ...) view of a tensor's contiguous `elements` (n, ...), which contain it."""
    stride, *inner = elements.strides
    return np.ndarray(
        (transfer.y_size, transfer.x_size, *elements.shape[1:]),
        elements.dtype,
        elements.data,
        transfer.dram_base * stride,
        (transfer.x_stride * stride, stride, *inner),
    )
