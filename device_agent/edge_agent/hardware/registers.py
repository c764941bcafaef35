"""The accelerator's register blocks, mapped into this process: through UIO devices, or through /dev/mem.

Each access is one 32-bit load or store. Python's memoryview compiles to that; NumPy's scalars do not: they go through
memcpy, which on AArch64 reads four bytes twice, and so would lose bits that reading clears.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge_agent.boards import Hardware
from edge_agent.errors import BusyError, HardwareError
from edge_agent.hardware.system import System, read_number

_WORD_BYTES = 4


class Block(Protocol):
    """The registers of one module, by byte offset."""

    def read(self, offset: int) -> int:
        """A 32-bit register. Some bits are cleared by reading them."""

    def write(self, offset: int, value: int) -> None: ...


class MappedBlock:
    """Registers in a mapping of this process."""

    def __init__(self, mapping: mmap.mmap, begin: int, nbytes: int) -> None:
        """`nbytes` of the mapping from byte `begin`, both multiples of 4."""
        self._words = memoryview(mapping)[begin : begin + nbytes].cast("I")

    def read(self, offset: int) -> int:
        return self._words[offset // _WORD_BYTES]

    def write(self, offset: int, value: int) -> None:
        self._words[offset // _WORD_BYTES] = value

    def close(self) -> None:
        self._words.release()


@dataclass(frozen=True)
class Place:
    """Where a range of physical addresses can be mapped: a device file, and the offset to give to mmap."""

    device: Path
    offset: int


class RegisterMap:
    """A board's register blocks by name. This process alone has them, until `close`."""

    def __init__(self, system: System, hardware: Hardware) -> None:
        """Raises HardwareError where nothing maps them, BusyError where another process holds them."""
        places = find(system, hardware)
        self.way = "UIO" if next(iter(places.values())).device.name.startswith("uio") else "/dev/mem"
        self.blocks: dict[str, MappedBlock] = {}
        with ExitStack() as stack:
            for name, place in places.items():
                descriptor = _open(place.device, hardware)
                stack.callback(os.close, descriptor)
                if not self.blocks:
                    _lock(descriptor, place.device)
                self.blocks[name] = map_block(descriptor, place, hardware.register_bytes, stack)
            self._stack = stack.pop_all()

    def close(self) -> None:
        self._stack.close()


def map_block(descriptor: int, place: Place, nbytes: int, stack: ExitStack) -> MappedBlock:
    """`nbytes` of registers at a place; `stack` gets what unmaps them. Raises HardwareError."""
    begin = place.offset % mmap.ALLOCATIONGRANULARITY
    try:
        mapping = mmap.mmap(descriptor, begin + nbytes, mmap.MAP_SHARED, offset=place.offset - begin)
    except (OSError, ValueError) as error:
        raise HardwareError(
            f"{place.device} cannot be mapped at {place.offset:#x}: {error}; a kernel with strict /dev/mem refuses "
            "addresses that have a driver, then give the accelerator a UIO device (docs/zynq.md)"
        ) from error
    stack.callback(mapping.close)
    block = MappedBlock(mapping, begin, nbytes)
    stack.callback(block.close)
    return block


def find(system: System, hardware: Hardware) -> Mapping[str, Place]:
    """Where each block is: UIO devices where they offer all, else /dev/mem. Raises HardwareError where neither is."""
    ranges = _uio_ranges(system)
    found: dict[str, Place] = {}
    for name, address in hardware.registers.items():
        for begin, end, place in ranges:
            if begin <= address and address + hardware.register_bytes <= end:
                found[name] = Place(place.device, place.offset + address - begin)
    if len(found) == len(hardware.registers):
        return found
    memory = system.devices / "mem"
    if not memory.exists():
        first = min(hardware.registers.values())
        raise HardwareError(
            f"nothing maps the accelerator's registers at {first:#x}: no UIO device has that address and there is no "
            f"{memory}; load the device tree overlay of docs/zynq.md"
        )
    return {name: Place(memory, address) for name, address in hardware.registers.items()}


def _uio_ranges(system: System) -> list[tuple[int, int, Place]]:
    """Physical begin and end of every range that a UIO device maps; mmap's offset chooses one by its page."""
    ranges = []
    for device in sorted(system.kernel_class("uio").glob("uio*")):
        for entry in sorted(device.glob("maps/map*")):
            number = int(entry.name[len("map") :])
            address, size = (read_number(entry / name) for name in ("addr", "size"))
            inside = read_number(entry / "offset") if (entry / "offset").exists() else 0
            place = Place(system.devices / device.name, number * mmap.PAGESIZE + inside)
            ranges.append((address, address + size, place))
    return ranges


def _open(device: Path, hardware: Hardware) -> int:
    try:
        return os.open(device, os.O_RDWR | os.O_SYNC | os.O_CLOEXEC)
    except OSError as error:
        raise HardwareError(
            f"the accelerator's registers at {min(hardware.registers.values()):#x} cannot be opened: {device}: "
            f"{error.strerror}; give the agent's user the UIO devices by the udev rule of docs/zynq.md, or run it as "
            "root"
        ) from error


def _lock(descriptor: int, device: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise BusyError(
            f"another process drives the accelerator ({device}); stop the other edge-agent first"
        ) from error
