"""The width of the ports between processor and FPGA, which a bitstream of a Zynq UltraScale+ relies on."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from contextlib import ExitStack

from edge_agent.boards import RegisterField
from edge_agent.errors import HardwareError
from edge_agent.hardware.registers import Place, map_block
from edge_agent.hardware.system import System


def set_port_widths(system: System, widths: Sequence[RegisterField]) -> None:
    """Give the bits of each register their value, the others keep theirs. Raises HardwareError."""
    if not widths:
        return
    device = system.devices / "mem"
    with ExitStack() as stack:
        try:
            descriptor = os.open(device, os.O_RDWR | os.O_SYNC | os.O_CLOEXEC)
        except OSError as error:
            raise HardwareError(
                f"the widths of the FPGA's ports cannot be set: {device}: {error.strerror}; run the helper that "
                "programs as root"
            ) from error
        stack.callback(os.close, descriptor)
        for width in widths:
            page = width.register - width.register % mmap.PAGESIZE
            block = map_block(descriptor, Place(device, page), mmap.PAGESIZE, stack)
            offset = width.register - page
            block.write(offset, block.read(offset) & ~width.mask & 0xFFFFFFFF | width.value)
