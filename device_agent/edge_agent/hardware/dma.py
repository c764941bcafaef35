"""Memory that the CPU and the accelerator share: the contract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np

from edge_agent.errors import HardwareError
from edge_agent.hardware.allocator import Allocator

ALIGNMENT = 256
"""Of every buffer: the largest DRAM element of the usual configurations, and a multiple of every cache line."""


@dataclass(frozen=True, eq=False)
class DmaBuffer:
    """Physically contiguous memory: its address for the accelerator, and its bytes, uint8 (n,), for the CPU."""

    physical: int
    array: np.ndarray
    handle: object = field(default=None, repr=False)
    """What the memory it came from needs to know."""

    @property
    def nbytes(self) -> int:
        return int(self.array.nbytes)


class DmaMemory(ABC):
    """Gives out DMA buffers. Caches are maintained only where the accelerator's port is not coherent."""

    kind: str
    journal: np.ndarray | None = None
    """Bytes, uint8 (n,), that outlive the process, where there are such."""

    @abstractmethod
    def allocate(self, nbytes: int) -> DmaBuffer:
        """A buffer of at least one byte, ALIGNMENT-aligned, its contents undefined. Raises HardwareError."""

    @abstractmethod
    def free(self, buffer: DmaBuffer) -> None:
        """Give a buffer back; neither side uses it any more."""

    def at(self, physical: int, nbytes: int) -> DmaBuffer | None:
        """Bytes that an earlier process has used, where this kind of memory outlives processes."""
        return None

    def to_device(self, buffer: DmaBuffer, begin: int, end: int) -> None:  # noqa: B027
        """What the CPU has written to bytes [begin, end) is in memory when this returns."""

    def to_cpu(self, buffer: DmaBuffer, begin: int, end: int) -> None:  # noqa: B027
        """What the accelerator has written to bytes [begin, end) is what the CPU reads from now on."""

    def close(self) -> None:  # noqa: B027
        """Give everything back."""


class RegionMemory(DmaMemory):
    """Buffers from one contiguous region."""

    def __init__(self, kind: str, physical: int, region: np.ndarray) -> None:
        """`region`: the bytes, uint8 (n,), at address `physical`, a multiple of ALIGNMENT."""
        self.kind = kind
        self.physical = physical
        self._region = region
        self._allocator = Allocator(len(region), ALIGNMENT)

    @property
    def free_bytes(self) -> int:
        return self._allocator.free_bytes

    def allocate(self, nbytes: int) -> DmaBuffer:
        offset = self._allocator.allocate(nbytes)
        if offset is None:
            raise HardwareError(
                f"a program needs {nbytes} bytes of contiguous DMA memory, {self.kind} has {self._allocator.largest} "
                f"of {len(self._region)} free; make it larger, or unload other models (docs/zynq.md)"
            )
        return DmaBuffer(self.physical + offset, self._region[offset : offset + nbytes], offset)

    def free(self, buffer: DmaBuffer) -> None:
        assert isinstance(buffer.handle, int)
        self._allocator.free(buffer.handle)

    def at(self, physical: int, nbytes: int) -> DmaBuffer | None:
        offset = physical - self.physical
        if not 0 <= offset <= len(self._region) - nbytes:
            return None
        return DmaBuffer(physical, self._region[offset : offset + nbytes], offset)


def check_reach(kind: str, physical: int, nbytes: int, limit: int) -> None:
    """Raise HardwareError unless the accelerator reaches the memory: it must lie below `limit`, on ALIGNMENT."""
    if physical + nbytes > limit or physical % ALIGNMENT:
        raise HardwareError(
            f"{kind} has its memory at {physical:#x} to {physical + nbytes:#x}; the accelerator reaches addresses "
            f"below {limit:#x} and needs multiples of {ALIGNMENT}: reserve memory there (`cma=` boot argument with "
            "an upper limit, or memory-region in the device tree; docs/zynq.md)"
        )
