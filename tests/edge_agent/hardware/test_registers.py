"""Registers are found where the system has them, and accessed by 32 bits."""

from __future__ import annotations

import fcntl
import struct
from pathlib import Path

import pytest

from edge_agent.errors import BusyError, HardwareError
from edge_agent.hardware.registers import RegisterMap, find
from edge_agent.hardware.system import System
from tests.edge_agent.hardware.systems import add_device, add_uio, pynq_hardware

HARDWARE = pynq_hardware()
FETCH = HARDWARE.registers["fetch"]


@pytest.fixture
def system(tmp_path: Path) -> System:
    return System(tmp_path)


def test_one_uio_device_for_each_block(system: System) -> None:
    paths = {
        name: add_uio(system, number, [(address, 0x1000)])
        for number, (name, address) in enumerate(HARDWARE.registers.items())
    }
    registers = RegisterMap(system, HARDWARE)
    assert registers.way == "UIO"
    registers.blocks["compute"].write(0x18, 0xFEDCBA98)
    registers.blocks["fetch"].write(0x10, 7)
    assert registers.blocks["compute"].read(0x18) == 0xFEDCBA98
    registers.close()
    assert paths["compute"].read_bytes()[0x18:0x1C] == struct.pack("<I", 0xFEDCBA98)
    assert paths["fetch"].read_bytes()[0x10:0x14] == struct.pack("<I", 7)


def test_one_uio_device_with_four_maps_or_one_map(system: System, tmp_path: Path) -> None:
    path = add_uio(system, 3, [(address, 0x1000) for address in HARDWARE.registers.values()])
    registers = RegisterMap(system, HARDWARE)
    registers.blocks["store"].write(0x10, 5)
    registers.close()
    assert path.read_bytes()[3 * 0x1000 + 0x10] == 5
    whole = System(tmp_path / "whole")
    path = add_uio(whole, 0, [(FETCH, 0x10000)])
    registers = RegisterMap(whole, HARDWARE)
    registers.blocks["store"].write(0x10, 6)
    registers.close()
    assert path.read_bytes()[0x3010] == 6


def test_memory_where_uio_does_not_offer_all(system: System) -> None:
    add_uio(system, 0, [(FETCH, 0x1000)])
    memory = add_device(system, "mem", FETCH + 0x4000)
    registers = RegisterMap(system, HARDWARE)
    assert registers.way == "/dev/mem"
    registers.blocks["load"].write(0x18, 0x01020304)
    registers.close()
    with memory.open("rb") as file:
        file.seek(HARDWARE.registers["load"] + 0x18)
        assert file.read(4) == b"\x04\x03\x02\x01"


def test_an_address_beyond_31_bits(system: System) -> None:
    """ZynqMP's are; the file stands for /dev/mem."""
    hardware = type(HARDWARE)({"fetch": 0xA0000000}, 0x1000, True, "", 5)
    add_device(system, "mem", 0xA0001000)
    assert find(system, hardware)["fetch"].offset == 0xA0000000
    RegisterMap(system, hardware).close()


def test_nothing_there(system: System) -> None:
    with pytest.raises(HardwareError, match=r"registers at 0x43c00000: no UIO device .* docs/zynq\.md"):
        RegisterMap(system, HARDWARE)


def test_a_device_that_cannot_be_opened(system: System) -> None:
    for number, address in enumerate(HARDWARE.registers.values()):
        add_uio(system, number, [(address, 0x1000)]).unlink()
    with pytest.raises(HardwareError, match=r"uio0: No such file.*udev rule"):
        RegisterMap(system, HARDWARE)


def test_a_range_that_cannot_be_mapped(system: System) -> None:
    add_device(system, "mem", 0x1000)
    with pytest.raises(HardwareError, match=r"cannot be mapped at 0x43c00000.*strict"):
        RegisterMap(system, HARDWARE)


def test_a_broken_attribute(system: System) -> None:
    add_uio(system, 0, [(FETCH, 0x1000)])
    (system.kernel_class("uio") / "uio0" / "maps" / "map0" / "addr").write_text("here")
    with pytest.raises(HardwareError, match="holds 'here', not a number"):
        RegisterMap(system, HARDWARE)


def test_two_processes_do_not_share_it(system: System) -> None:
    memory = add_device(system, "mem", FETCH + 0x4000)
    with memory.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match="another process drives the accelerator"):
            RegisterMap(system, HARDWARE)
    RegisterMap(system, HARDWARE).close()
    RegisterMap(system, HARDWARE).close()
