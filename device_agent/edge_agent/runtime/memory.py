"""The plan's buffers as arrays: views of storages, aligned as the kernels assume."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Mapping

import numpy as np

from edge_agent.errors import AgentError, IncompatibleError
from edge_agent.runtime.plan import Buffer, Plan

ALIGNMENT = 64
"""Bytes; the address of every tensor that a kernel gets is a multiple."""


def aligned_bytes(nbytes: int) -> np.ndarray:
    """Zeroed uint8 memory whose address is a multiple of ALIGNMENT."""
    raw = np.zeros(nbytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + nbytes]


def allocate_buffers(plan: Plan, members: Mapping[str, bytes]) -> list[np.ndarray]:
    """An array for each buffer of the plan; those of one storage share its memory, constants are read-only copies.

    Raises IncompatibleError where a constant does not lie in its member or a buffer is not aligned, AgentError where
    there is not enough memory.
    """
    try:
        storages = [aligned_bytes(nbytes) for nbytes in plan.storages]
    except MemoryError:
        raise AgentError(
            f"no memory for the model's {sum(plan.storages)} bytes of tensors; unload other models, or "
            "compile for a smaller batch"
        ) from None
    constants: dict[str, np.ndarray] = {}
    for name in {buffer.constant for buffer in plan.buffers if buffer.constant}:
        if name not in members:
            raise IncompatibleError(f"the bundle has no member '{name}', whose constants its plan uses")
        constants[name] = aligned_bytes(len(members[name]))
        constants[name][:] = np.frombuffer(members[name], np.uint8)
        constants[name].flags.writeable = False
    return [
        _view(buffer, constants[buffer.constant] if buffer.constant else storages[buffer.storage])
        for buffer in plan.buffers
    ]


def return_freed_memory() -> None:
    """Give the system what was freed: glibc keeps the room of large arrays for the next ones, and a board that has
    loaded one model beside another then seems to need both from there on."""
    with contextlib.suppress(OSError, AttributeError):  # libraries other than glibc have no such function
        ctypes.CDLL(None).malloc_trim(0)


def _view(buffer: Buffer, memory: np.ndarray) -> np.ndarray:
    end = buffer.offset + buffer.nbytes
    if end > memory.nbytes or buffer.offset % ALIGNMENT:
        raise IncompatibleError(
            f"the plan's buffer '{buffer.name}' lies at bytes {buffer.offset} to {end} of "
            f"{memory.nbytes}; it must lie inside and begin at a multiple of {ALIGNMENT}"
        )
    return memory[buffer.offset : end].view(buffer.dtype).reshape(buffer.shape)
