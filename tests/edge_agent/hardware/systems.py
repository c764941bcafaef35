"""Folders that stand for / on boards of several kinds, with ordinary files as devices."""

from __future__ import annotations

import mmap
from pathlib import Path

from edge_agent.boards import Hardware, profile
from edge_agent.hardware.system import System


def pynq_hardware() -> Hardware:
    hardware = profile("pynq").hardware
    assert hardware is not None
    return hardware


def add_device(system: System, name: str, nbytes: int) -> Path:
    """A device file of zeros; it takes no room on the disk."""
    path = system.devices / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(nbytes)
    return path


def add_uio(system: System, number: int, ranges: list[tuple[int, int]]) -> Path:
    """A UIO device with (address, bytes) as its maps."""
    for index, (address, nbytes) in enumerate(ranges):
        folder = system.kernel_class("uio") / f"uio{number}" / "maps" / f"map{index}"
        folder.mkdir(parents=True)
        (folder / "addr").write_text(f"{address:#010x}\n")
        (folder / "size").write_text(f"{nbytes:#x}\n")
    return add_device(system, f"uio{number}", len(ranges) * mmap.PAGESIZE + max(size for _, size in ranges))


def add_udmabuf(system: System, name: str, physical: int, nbytes: int, kind: str = "u-dma-buf") -> Path:
    """A u-dma-buf device with its attributes."""
    folder = system.kernel_class(kind) / name
    folder.mkdir(parents=True)
    (folder / "phys_addr").write_text(f"{physical:#018x}\n")
    (folder / "size").write_text(f"{nbytes}\n")
    for attribute in ("sync_offset", "sync_size", "sync_direction", "sync_for_device", "sync_for_cpu"):
        (folder / attribute).write_text("0\n")
    return add_device(system, name, nbytes)
