"""The state of the FPGA: whether it may be touched at all, and the reset that brings the core back."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from edge_agent.boards import Hardware
from edge_agent.errors import DegradedError, HardwareError
from edge_agent.hardware.registers import Place, map_block
from edge_agent.hardware.system import System, read_text

_OPERATING = "operating"

SLCR = 0xF8000000
"""Zynq-7000's system registers (Xilinx UG585, appendix B.28)."""
SLCR_LOCK, SLCR_UNLOCK, FPGA_RESET = 0x004, 0x008, 0x240
LOCK_KEY, UNLOCK_KEY = 0x767B, 0xDF0D
_RESET_0 = 0x1
_HOLD_SECONDS, _SETTLE_SECONDS = 0.001, 0.05
"""The reset also stops the core's clock generator: registers must not be touched before it runs again."""


def require_programmed(system: System, board: str) -> None:
    """Raise DegradedError where the kernel says that the FPGA is not programmed.

    The registers of an empty FPGA answer nothing, and the processor that reads them waits for ever.
    """
    for manager in sorted(system.kernel_class("fpga_manager").glob("fpga*")):
        state = read_text(manager / "state")
        if state != _OPERATING:
            raise DegradedError(
                f"the FPGA is not programmed: the kernel says '{state}', not '{_OPERATING}'; program it: "
                f"`edgectl flash BOARD`, BOARD being this {board}"
            )


def reset_of(system: System, hardware: Hardware) -> Callable[[], None] | None:
    """What resets the core without programming it, or None where nothing does. It raises HardwareError."""
    if hardware.reset == "zynq_slcr":
        return lambda: _pulse_slcr(system.devices / "mem")
    return None


def _pulse_slcr(device: Path) -> None:
    """Assert and release FCLK_RESET0_N, which resets all modules and queues of VTA's block design."""
    with ExitStack() as stack:
        try:
            descriptor = os.open(device, os.O_RDWR | os.O_SYNC | os.O_CLOEXEC)
        except OSError as error:
            raise HardwareError(f"the fabric's reset is out of reach: {device}: {error.strerror}") from error
        stack.callback(os.close, descriptor)
        registers = map_block(descriptor, Place(device, SLCR), mmap.PAGESIZE, stack)
        held = registers.read(FPGA_RESET) & ~_RESET_0
        registers.write(SLCR_UNLOCK, UNLOCK_KEY)
        registers.write(FPGA_RESET, held | _RESET_0)
        time.sleep(_HOLD_SECONDS)
        registers.write(FPGA_RESET, held)
        registers.write(SLCR_LOCK, LOCK_KEY)
    time.sleep(_SETTLE_SECONDS)
