"""DMA memory from libcma and its driver xlnk, which PYNQ images had up to version 2.6.

The driver of some of those kernels keeps a process's buffers when the process is killed. So it is noted, in a file,
that buffers are held; a process that finds the note gives everything back first.
"""

from __future__ import annotations

import ctypes
import logging
from pathlib import Path

import numpy as np

from edge_agent.errors import HardwareError
from edge_agent.hardware.dma import DmaBuffer, DmaMemory, check_reach
from edge_agent.hardware.system import System

logger = logging.getLogger(__name__)

_LIBRARIES = ("libcma.so", "libsds_lib.so")
_FOLDERS = ("usr/lib", "usr/local/lib")
_NOTE = "cma-held"


def find(system: System) -> Path | None:
    """The library, where both it and the driver's device are there."""
    if not (system.devices / "xlnk").exists():
        return None
    paths = [system.root / folder / name for folder in _FOLDERS for name in _LIBRARIES]
    return next((path for path in paths if path.exists()), None)


class ContiguousMemory(DmaMemory):
    """Each buffer is one allocation of the kernel's."""

    kind = "libcma"

    def __init__(self, library: Path, limit: int, coherent: bool, directory: Path) -> None:
        """Raises HardwareError where the library cannot be used."""
        self._limit = limit
        self._maintain = not coherent
        self._held: set[int] = set()
        self._note = directory / _NOTE
        try:
            self._library = _declared(ctypes.CDLL(str(library)))
        except (OSError, AttributeError) as error:
            raise HardwareError(f"{library} cannot be used for DMA memory: {error}") from error
        if self._note.exists():
            logger.warning("an agent was killed and left buffers in CMA; giving all buffers of xlnk back")
            self._library._xlnk_reset()
        self._note.touch()

    def allocate(self, nbytes: int) -> DmaBuffer:
        address = self._library.cma_alloc(nbytes, 1)
        if not address:
            raise HardwareError(
                f"{nbytes} bytes of contiguous memory are not free (CmaFree in /proc/meminfo says how many are); "
                "unload other models, or give the kernel more with the boot argument `cma=256M`"
            )
        physical = int(self._library.cma_get_phy_addr(address))
        try:
            check_reach("libcma", physical, nbytes, self._limit)
        except HardwareError:
            self._library.cma_free(address)
            raise
        self._held.add(address)
        array = np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(address))
        return DmaBuffer(physical, array, address)

    def free(self, buffer: DmaBuffer) -> None:
        assert isinstance(buffer.handle, int)
        self._held.remove(buffer.handle)
        self._library.cma_free(buffer.handle)

    def to_device(self, buffer: DmaBuffer, begin: int, end: int) -> None:
        assert isinstance(buffer.handle, int)
        if self._maintain:
            self._library.cma_flush_cache(buffer.handle + begin, buffer.physical + begin, end - begin)

    def to_cpu(self, buffer: DmaBuffer, begin: int, end: int) -> None:
        assert isinstance(buffer.handle, int)
        if self._maintain:
            self._library.cma_invalidate_cache(buffer.handle + begin, buffer.physical + begin, end - begin)

    def close(self) -> None:
        while self._held:
            self._library.cma_free(self._held.pop())
        self._note.unlink(missing_ok=True)


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """Raises AttributeError where a function is missing."""
    pointer, u32, long = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_ulong
    for name, result, arguments in (
        ("cma_alloc", pointer, (u32, u32)),
        ("cma_get_phy_addr", long, (pointer,)),
        ("cma_free", None, (pointer,)),
        ("cma_flush_cache", None, (pointer, u32, ctypes.c_int)),
        ("cma_invalidate_cache", None, (pointer, u32, ctypes.c_int)),
        ("_xlnk_reset", None, ()),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
