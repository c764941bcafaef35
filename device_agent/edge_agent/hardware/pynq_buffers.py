"""DMA memory from PYNQ's allocator over XRT (PYNQ 2.7 and later). The kernel takes it back when the process ends."""

from __future__ import annotations

import importlib.util
from importlib import import_module
from typing import Any

import numpy as np

from edge_agent.errors import HardwareError
from edge_agent.hardware.dma import DmaBuffer, DmaMemory, check_reach


def available() -> bool:
    """Whether PYNQ can be imported; importing it is slow, so it is done only when it is used."""
    return importlib.util.find_spec("pynq") is not None


class PynqBuffers(DmaMemory):
    """Each buffer is one of PYNQ's."""

    kind = "pynq.allocate"

    def __init__(self, limit: int, coherent: bool) -> None:
        """Raises HardwareError where PYNQ does not work here."""
        self._limit = limit
        self._maintain = not coherent
        try:
            self._pynq: Any = import_module("pynq")
        except Exception as error:  # it fails in many ways without its devices
            raise HardwareError(
                f"PYNQ is installed but cannot be imported: {error}; run the agent in PYNQ's environment and as root, "
                "or load u-dma-buf (docs/zynq.md)"
            ) from error

    def allocate(self, nbytes: int) -> DmaBuffer:
        try:
            buffer = self._pynq.allocate(shape=(nbytes,), dtype=np.uint8)
        except Exception as error:  # PYNQ raises RuntimeError, MemoryError and others of XRT
            raise HardwareError(
                f"PYNQ cannot allocate {nbytes} bytes of contiguous memory: {error}; unload other models, or give the "
                "kernel more with the boot argument `cma=256M`"
            ) from error
        physical = int(getattr(buffer, "device_address", None) or buffer.physical_address)
        try:
            check_reach("pynq.allocate", physical, nbytes, self._limit)
        except HardwareError:
            buffer.freebuffer()
            raise
        return DmaBuffer(physical, np.asarray(buffer).view(np.ndarray), buffer)

    def free(self, buffer: DmaBuffer) -> None:
        handle: Any = buffer.handle
        handle.freebuffer()

    def to_device(self, buffer: DmaBuffer, begin: int, end: int) -> None:
        """PYNQ maintains whole buffers."""
        handle: Any = buffer.handle
        if self._maintain:
            handle.flush()

    def to_cpu(self, buffer: DmaBuffer, begin: int, end: int) -> None:
        handle: Any = buffer.handle
        if self._maintain:
            handle.invalidate()
