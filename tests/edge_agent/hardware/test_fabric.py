"""The FPGA's state and reset."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.errors import DegradedError, HardwareError
from edge_agent.hardware import fabric
from edge_agent.hardware.fabric import SLCR, require_programmed, reset_of
from edge_agent.hardware.registers import MappedBlock
from edge_agent.hardware.system import System
from tests.edge_agent.hardware.systems import add_device, pynq_hardware


def test_an_fpga_that_is_not_programmed(tmp_path: Path) -> None:
    system = System(tmp_path)
    require_programmed(system, "pynq")  # a kernel that does not say
    folder = system.kernel_class("fpga_manager") / "fpga0"
    folder.mkdir(parents=True)
    (folder / "state").write_text("operating\n")
    require_programmed(system, "pynq")
    (folder / "state").write_text("write error\n")
    with pytest.raises(
        DegradedError, match="the kernel says 'write error', not 'operating'; program it: `edgectl flash"
    ):
        require_programmed(system, "pynq")


def test_zynqs_reset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sequence of writes: unlock, assert, release, lock; other resets keep their bits."""
    system = System(tmp_path)
    memory = add_device(system, "mem", SLCR + 0x1000)
    with memory.open("r+b") as file:
        file.seek(SLCR + 0x240)
        file.write(struct.pack("<I", 0xC))
    writes: list[tuple[int, int]] = []
    original = MappedBlock.write

    def write(self: MappedBlock, offset: int, value: int) -> None:
        writes.append((offset, value))
        original(self, offset, value)

    monkeypatch.setattr(MappedBlock, "write", write)
    monkeypatch.setattr(fabric, "_SETTLE_SECONDS", 0)
    reset = reset_of(system, pynq_hardware())
    assert reset is not None
    reset()
    assert writes == [(0x008, 0xDF0D), (0x240, 0xD), (0x240, 0xC), (0x004, 0x767B)]
    memory.unlink()
    with pytest.raises(HardwareError, match="reset is out of reach"):
        reset()


def test_boards_without_a_reset(tmp_path: Path) -> None:
    assert reset_of(System(tmp_path), replace(pynq_hardware(), reset="")) is None
