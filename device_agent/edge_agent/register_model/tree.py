"""The devices and kernel files of a modelled board, in a folder that stands for /.

Registers and memory are anonymous files of the model's process: they need no disk and go with it. The folder holds
links to them.
"""

from __future__ import annotations

import mmap
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_agent.boards import Hardware
from edge_agent.hardware.fabric import SLCR
from edge_agent.register_model.memory import PhysicalMemory

_MANAGER = "Xilinx Zynq FPGA Manager"
MEMORY_BASE = 0x10000000
MEMORY_BYTES = 256 << 20
"""The u-dma-buf region: within the 512 MiB of a Pynq; only what is used takes memory of this machine."""
_ATTRIBUTES = {
    "sync_mode": 1,
    "sync_offset": 0,
    "sync_size": 0,
    "sync_direction": 0,
    "sync_for_cpu": 0,
    "sync_for_device": 0,
}


@dataclass(frozen=True, eq=False)
class Tree:
    """What the model itself sees: register pages, uint32 (n,), by block; Zynq's system registers; the memory."""

    root: Path
    pages: Mapping[str, np.ndarray]
    slcr: np.ndarray
    memory: PhysicalMemory

    @property
    def fpga_manager(self) -> Path:
        return self.root / "sys" / "class" / "fpga_manager" / "fpga0"


def make_tree(root: Path, hardware: Hardware, memory_bytes: int = MEMORY_BYTES, uio: bool = True) -> Tree:
    """Create it; `root` must not exist or be empty. Without `uio`, registers are in /dev/mem alone."""
    devices, classes = root / "dev", root / "sys" / "class"
    devices.mkdir(parents=True)
    (root / "lib" / "firmware").mkdir(parents=True)
    physical = _create(devices / "mem", SLCR + mmap.PAGESIZE)
    pages = {}
    for number, (name, address) in enumerate(hardware.registers.items()):
        if not uio:
            pages[name] = _map(physical, hardware.register_bytes, address).view(np.uint32)
            continue
        descriptor = _create(devices / f"uio{number}", hardware.register_bytes)
        pages[name] = _map(descriptor, hardware.register_bytes).view(np.uint32)
        attributes = {"addr": hex(address), "size": hex(hardware.register_bytes), "offset": "0x0", "name": name}
        _write(classes / "uio" / f"uio{number}" / "maps" / "map0", attributes)
        _write(classes / "uio" / f"uio{number}", {"name": f"vta-{name}"})
    slcr = _map(physical, mmap.PAGESIZE, SLCR).view(np.uint32)
    memory = _map(_create(devices / "udmabuf0", memory_bytes), memory_bytes)
    region = {"phys_addr": f"{MEMORY_BASE:#018x}", "size": memory_bytes, "dma_coherent": int(hardware.coherent)}
    _write(classes / "u-dma-buf" / "udmabuf0", region | _ATTRIBUTES)
    _write(classes / "fpga_manager" / "fpga0", {"name": _MANAGER, "state": "operating", "flags": 0, "firmware": ""})
    kernel = root / "proc" / "sys" / "kernel" / "random"
    _write(kernel, {"boot_id": uuid.uuid4()})
    return Tree(root, pages, slcr, PhysicalMemory(MEMORY_BASE, memory))


def _create(path: Path, nbytes: int) -> int:
    """A device file of zeros; it lasts as long as this process."""
    descriptor = os.memfd_create(path.name, os.MFD_CLOEXEC)
    os.ftruncate(descriptor, nbytes)
    path.symlink_to(f"/proc/{os.getpid()}/fd/{descriptor}")
    return descriptor


def _map(descriptor: int, nbytes: int, offset: int = 0) -> np.ndarray:
    """A part of a device's bytes, uint8 (nbytes,)."""
    return np.frombuffer(mmap.mmap(descriptor, nbytes, mmap.MAP_SHARED, offset=offset), np.uint8)


def _write(folder: Path, attributes: Mapping[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in attributes.items():
        (folder / name).write_text(f"{value}\n")
