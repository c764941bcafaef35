"""Which kind of DMA memory a system has; each kind is a file beside this one."""

from __future__ import annotations

from pathlib import Path

from edge_agent.errors import HardwareError
from edge_agent.hardware import cma, pynq_buffers, u_dma_buf
from edge_agent.hardware.dma import DmaMemory
from edge_agent.hardware.system import System


def open_dma_memory(system: System, limit: int, coherent: bool, directory: Path) -> DmaMemory:
    """The first kind of DMA memory that this system has: u-dma-buf, libcma, or PYNQ's allocator.

    Addresses stay below `limit`. `directory` is where something may be noted for the next process.
    Raises HardwareError, saying how to get one, where there is none.
    """
    if (region := u_dma_buf.find(system, limit)) is not None:
        return u_dma_buf.UDmaBuf(system, region, coherent)
    if (library := cma.find(system)) is not None:
        return cma.ContiguousMemory(library, limit, coherent, directory)
    if pynq_buffers.available():
        return pynq_buffers.PynqBuffers(limit, coherent)
    raise HardwareError(
        "there is no DMA memory: no u-dma-buf device, no /dev/xlnk with libcma, no PYNQ with XRT. Build and load the "
        "first with `modprobe u-dma-buf udmabuf0=67108864`, on a kernel with at least that much CMA (`cma=128M` boot "
        "argument); see docs/zynq.md"
    )
