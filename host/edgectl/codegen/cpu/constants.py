"""The blob of all constants that kernels read."""

from __future__ import annotations

import hashlib

import numpy as np

CONSTANT_ALIGNMENT = 64
"""Bytes; kernels assume that their tensors are aligned so."""


class ConstantPool:
    """Collects arrays into one blob; identical ones (dtype, shape and bytes) are stored once."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._offsets: dict[tuple[str, tuple[int, ...], bytes], int] = {}
        self._size = 0

    def add(self, array: np.ndarray) -> int:
        """The array's byte offset in the blob."""
        data = np.ascontiguousarray(array).tobytes()
        key = (str(array.dtype), tuple(array.shape), hashlib.sha256(data).digest())
        if key not in self._offsets:
            self._offsets[key] = self._size
            padding = -len(data) % CONSTANT_ALIGNMENT
            self._parts += [data, bytes(padding)]
            self._size += len(data) + padding
        return self._offsets[key]

    def blob(self) -> bytes:
        return b"".join(self._parts)
