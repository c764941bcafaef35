"""DMA memory from the kernel module u-dma-buf: a region that stays allocated while the module is loaded.

Nothing can leak: whoever opens the device has the whole region, and divides it anew.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_agent.errors import BusyError, HardwareError
from edge_agent.hardware.dma import ALIGNMENT, DmaBuffer, RegionMemory, check_reach
from edge_agent.hardware.system import System, read_number

_CLASSES = ("u-dma-buf", "udmabuf")
"""The module's class in the kernel: its name today, and before version 2."""
_JOURNAL_BYTES = ALIGNMENT
_TO_DEVICE, _FROM_DEVICE = 1, 2
_LINE_BYTES = 64
"""A multiple of the cache lines of Cortex-A9 (32) and A53 (64)."""


@dataclass(frozen=True)
class Region:
    """A u-dma-buf device: its attributes' folder and its memory."""

    attributes: Path
    physical: int
    nbytes: int


def find(system: System, limit: int) -> Region | None:
    """The largest device below `limit`; None where the module is not loaded. Raises HardwareError where all of them
    lie elsewhere."""
    regions = [
        Region(entry, read_number(entry / "phys_addr"), read_number(entry / "size"))
        for name in _CLASSES
        for entry in sorted(system.kernel_class(name).glob("*"))
    ]
    usable = [region for region in regions if region.physical + region.nbytes <= limit]
    if regions and not usable:
        region = regions[0]
        check_reach(f"/dev/{region.attributes.name}", region.physical, region.nbytes, limit)
    return max(usable, key=lambda region: region.nbytes, default=None)


class UDmaBuf(RegionMemory):
    """Buffers from one u-dma-buf device, which this process alone has until `close`."""

    def __init__(self, system: System, region: Region, coherent: bool) -> None:
        """Raises HardwareError (permission, size), BusyError (another process has it)."""
        device = system.devices / region.attributes.name
        check_reach(str(device), region.physical, region.nbytes, 1 << 32)
        if region.nbytes < 2 * _JOURNAL_BYTES:
            raise HardwareError(f"{device} has {region.nbytes} bytes; load u-dma-buf with a larger one (docs/zynq.md)")
        self._maintain = not coherent
        with ExitStack() as stack:
            descriptor = _open(device, os.O_RDWR)
            stack.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise BusyError(f"another process uses {device}; stop the other edge-agent first") from error
            # The mapping lives as long as its arrays and has the descriptor's copy, which would keep the lock.
            stack.callback(fcntl.flock, descriptor, fcntl.LOCK_UN)
            try:
                mapping = mmap.mmap(descriptor, region.nbytes, mmap.MAP_SHARED)
            except (OSError, ValueError) as error:
                raise HardwareError(f"{device} cannot be mapped, {region.nbytes} bytes: {error}") from error
            self._attributes = {}
            if self._maintain:
                for name in ("sync_offset", "sync_size", "sync_direction", "sync_for_device", "sync_for_cpu"):
                    self._attributes[name] = _open(region.attributes / name, os.O_WRONLY)
                    stack.callback(os.close, self._attributes[name])
            self._stack = stack.pop_all()
        whole = np.frombuffer(mapping, np.uint8)
        self.journal = whole[:_JOURNAL_BYTES]
        super().__init__(str(device), region.physical + _JOURNAL_BYTES, whole[_JOURNAL_BYTES:])

    def to_device(self, buffer: DmaBuffer, begin: int, end: int) -> None:
        self._synchronise(buffer, begin, end, _TO_DEVICE, "sync_for_device")

    def to_cpu(self, buffer: DmaBuffer, begin: int, end: int) -> None:
        self._synchronise(buffer, begin, end, _FROM_DEVICE, "sync_for_cpu")

    def close(self) -> None:
        """The mapping itself goes with its last array."""
        self._stack.close()

    def _synchronise(self, buffer: DmaBuffer, begin: int, end: int, direction: int, attribute: str) -> None:
        if not self._maintain:
            return
        assert isinstance(buffer.handle, int)
        base = buffer.handle + _JOURNAL_BYTES
        first = (base + begin) // _LINE_BYTES * _LINE_BYTES
        size = -(-(base + end - first) // _LINE_BYTES) * _LINE_BYTES
        for name, value in (("sync_offset", first), ("sync_size", size), ("sync_direction", direction), (attribute, 1)):
            os.pwrite(self._attributes[name], b"%d\n" % value, 0)


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except OSError as error:
        raise HardwareError(
            f"{path} cannot be opened: {error.strerror}; give the agent's user access by the udev rule of "
            "docs/zynq.md, or run it as root"
        ) from error
