"""The tensors that a client keeps in the agent: memory behind handles, bounded over all sessions."""

from __future__ import annotations

import threading

import numpy as np

from edge_agent.errors import BusyError, InputError
from edge_agent.rpc.codec import Tensor

_ALIGNMENT = 4096


class Budget:
    """Bytes that all sessions together may hold, in tensors and in long frames. Thread-safe."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._used = 0
        self._lock = threading.Lock()

    def take(self, nbytes: int) -> None:
        """Raises BusyError where the bytes are not there."""
        with self._lock:
            if nbytes > self.limit - self._used:
                raise BusyError(
                    f"{nbytes} bytes of memory are asked for, {self.limit - self._used} of {self.limit} "
                    "are free; release tensors or close other sessions"
                )
            self._used += nbytes

    def give(self, nbytes: int) -> None:
        with self._lock:
            self._used -= nbytes


class Memory:
    """One session's tensors. Handles look like addresses but are not: every access is looked up and checked."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._arrays: dict[int, np.ndarray] = {}
        self._next = _ALIGNMENT

    def allocate(self, nbytes: int) -> int:
        """Zeroed bytes; returns their handle. Raises BusyError, InputError."""
        if nbytes < 0:
            raise InputError(f"{nbytes} bytes cannot be allocated")
        self._budget.take(nbytes)
        handle = self._next
        self._next += (nbytes // _ALIGNMENT + 2) * _ALIGNMENT
        self._arrays[handle] = np.zeros(nbytes, np.uint8)
        return handle

    def free(self, handle: int) -> bool:
        """Whether there was such a handle."""
        array = self._arrays.pop(handle, None)
        if array is None:
            return False
        self._budget.give(array.nbytes)
        return True

    def clear(self) -> None:
        for handle in list(self._arrays):
            self.free(handle)

    def bytes_of(self, tensor: Tensor, count: int | None = None) -> np.ndarray:
        """`count` bytes (all of the tensor by default) from the tensor's offset, as a writable uint8 view.

        Raises InputError where they are not inside the memory that the handle stands for.
        """
        array = self._arrays.get(tensor.data)
        if array is None:
            raise InputError(f"there is no tensor memory with handle {tensor.data:#x} in this session")
        begin = tensor.byte_offset
        end = begin + (tensor.nbytes if count is None else count)
        if not 0 <= begin <= end <= array.nbytes:
            raise InputError(f"bytes {begin} to {end} of a tensor lie outside its {array.nbytes} bytes of memory")
        return array[begin:end]

    def array(self, tensor: Tensor) -> np.ndarray:
        """The tensor as a writable array. Raises InputError."""
        dtype = tensor.dtype.numpy()
        return self.bytes_of(tensor).view(dtype).reshape(tensor.shape)
