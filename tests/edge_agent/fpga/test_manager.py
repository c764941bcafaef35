"""Programming through the kernel's files."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from edge_agent.boards import RegisterField, profile
from edge_agent.errors import AgentError, HardwareError, IncompatibleError, VerificationError
from edge_agent.fpga.manager import FIRMWARE, FpgaManager
from edge_agent.fpga.ports import set_port_widths
from edge_agent.fpga.programmer import DirectProgrammer, fpga_of
from edge_agent.hardware.system import System
from tests.edge_agent.fpga.bitfiles import bit_file, configuration, swapped
from tests.edge_agent.fpga.kernel import Kernel, running_kernel
from tests.edge_agent.hardware.systems import add_device

PYNQ = fpga_of(profile("pynq"))


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    with running_kernel(tmp_path / "root") as made:
        yield made


def opened(path: Path, data: bytes) -> tuple[BinaryIO, str]:
    path.write_bytes(data)
    return path.open("rb"), hashlib.sha256(data).hexdigest()


def test_a_bit_file_becomes_what_the_kernel_takes(kernel: Kernel, tmp_path: Path) -> None:
    data = configuration()
    file, sha256 = opened(tmp_path / "vta.bit", bit_file(data))
    (kernel.firmware / f".{FIRMWARE}.123.temporary").write_text("left by a power cut")
    with file:
        assert DirectProgrammer(kernel.system, profile("pynq")).program(file, sha256) > 0
    assert (kernel.firmware / FIRMWARE).read_bytes() == swapped(data)
    assert sorted(os.listdir(kernel.firmware)) == [FIRMWARE]
    assert kernel.programmed == [hashlib.sha256(swapped(data)).hexdigest()]
    assert (kernel.folder / "state").read_text() == "operating\n" and (kernel.folder / "flags").read_text() == "0"


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (bit_file(configuration()), VerificationError, "was announced; send it again"),
        (bit_file(configuration(), "7z010clg400"), IncompatibleError, "board 'pynq' has a 7z020"),
        (bit_file(configuration())[:-4], VerificationError, "it is truncated"),
        (configuration(8192), VerificationError, "an image of a 7z020 has 4045564"),
        (b"", VerificationError, "is empty"),
    ],
)
def test_nothing_is_touched_for_a_bad_file(
    kernel: Kernel, tmp_path: Path, data: bytes, error: type[AgentError], message: str
) -> None:
    file, sha256 = opened(tmp_path / "vta.bit", data)
    with file, pytest.raises(error, match=message):
        DirectProgrammer(kernel.system, profile("pynq")).program(
            file, sha256 if "announced" not in message else "0" * 64
        )
    assert not kernel.programmed and not os.listdir(kernel.firmware)


def test_what_the_kernel_says_is_passed_on(kernel: Kernel) -> None:
    manager = FpgaManager(kernel.system, PYNQ)
    with pytest.raises(HardwareError, match=r"its state is 'write init error'; see its log on the board: dmesg"):
        manager.program(configuration())  # not swapped
    with pytest.raises(HardwareError, match=r"its state is 'write complete error'"):
        manager.program(swapped(configuration(idcode=0x04710093)))
    manager.program(swapped(configuration()))
    assert manager.state() == "operating"


def test_a_kernel_that_refuses_at_once(tmp_path: Path) -> None:
    """A write that fails with the driver's own code, as sysfs hands it on."""
    with running_kernel(tmp_path / "root") as kernel:
        (kernel.folder / "firmware").unlink()
        (kernel.folder / "firmware").mkdir()
        with pytest.raises(HardwareError, match=r"refuses the bitstream: Is a directory; its state is 'unknown'"):
            FpgaManager(kernel.system, PYNQ).program(swapped(configuration()))


def test_a_kernel_that_never_answers(tmp_path: Path) -> None:
    with running_kernel(tmp_path / "root") as kernel:
        pass
    with pytest.raises(HardwareError, match=r"not programmed after 0.1 s: the kernel's state is 'unknown'"):
        FpgaManager(kernel.system, PYNQ, deadline=0.1).program(swapped(configuration()))


def test_kernels_that_cannot(kernel: Kernel, tmp_path: Path) -> None:
    with pytest.raises(HardwareError, match=r"has no FPGA manager .*'Xilinx Zynq FPGA Manager'"):
        FpgaManager(System(tmp_path / "empty"), PYNQ).state()
    (kernel.folder / "name").write_text("Xilinx ZynqMP FPGA Manager\n")
    with pytest.raises(HardwareError, match=r"is 'Xilinx ZynqMP FPGA Manager', a 7z020 has 'Xilinx Zynq FPGA Manager'"):
        FpgaManager(kernel.system, PYNQ).program(b"")
    (kernel.folder / "name").write_text("Altera SOCFPGA FPGA Manager\n")
    with pytest.raises(HardwareError, match=r"programming a 5CSEBA6U23I7 by socfpga_registers is not implemented"):
        FpgaManager(kernel.system, fpga_of(profile("de10nano"))).program(b"")
    (kernel.folder / "name").unlink()
    (kernel.folder / "firmware").unlink()
    with pytest.raises(HardwareError, match=r"programs by device tree overlays only"):
        FpgaManager(kernel.system, PYNQ).program(b"")
    with pytest.raises(IncompatibleError, match=r"board 'sim' .* has no FPGA to program"):
        DirectProgrammer(kernel.system, profile("sim"))


def test_port_widths_keep_the_other_bits(tmp_path: Path) -> None:
    system = System(tmp_path)
    device = add_device(system, "mem", 0xFD616000)
    with device.open("r+b") as file:
        for address, value in ((0xFD360000, 0xA5A5A5A7), (0xFD615000, 0xFFFFFDFF)):
            file.seek(address)
            file.write(value.to_bytes(4, "little"))
    set_port_widths(system, fpga_of(profile("ultra96")).port_widths)
    with device.open("rb") as file:
        for address, value in ((0xFD360000, 0xA5A5A5A4), (0xFD360014, 0), (0xFD615000, 0xFFFFFEFF)):
            file.seek(address)
            assert int.from_bytes(file.read(4), "little") == value
    with pytest.raises(HardwareError, match=r"cannot be set: .*mem: No such file"):
        set_port_widths(System(tmp_path / "nothing"), [RegisterField(0xFD360000, 3, 0)])


def test_a_full_disk(tmp_path: Path) -> None:
    """A real one: the folder of firmware is a file system of 2 MiB."""
    with running_kernel(tmp_path / "root") as kernel:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(kernel.firmware)], capture_output=True, check=False
        )
        if mounted.returncode:
            pytest.skip(f"needs root to mount a small file system: {mounted.stderr.decode().strip()}")
        try:
            with pytest.raises(AgentError, match=r"4045564 bytes do not fit on the agent's disk: 2097152 are free"):
                FpgaManager(kernel.system, PYNQ).program(swapped(configuration()))
            assert not kernel.programmed and not os.listdir(kernel.firmware)
        finally:
            subprocess.run(["umount", str(kernel.firmware)], check=True)


def test_a_disk_that_fills_up_while_it_is_written(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AgentError, match=r"cannot be written to .*: No space left on device; free some space"):
        FpgaManager(kernel.system, PYNQ).program(swapped(configuration()))
    assert not os.listdir(kernel.firmware) and not kernel.programmed
