"""What an agent that was killed tells the next one: whether a run was under way, and how to see its end.

It lies in DMA memory that outlives the process (u-dma-buf's), so it costs no system call and no disk.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np

_MAGIC = b"EDGEVTA1"
_ENTRY = struct.Struct("<8sIIQ16s")
"""Magic; 1 while a run is under way; bytes of the sentinel; its physical address; the bytes written over it."""
_CHECKSUM = struct.Struct("<I")


@dataclass(frozen=True)
class Entry:
    """A journal's contents. Without a run, the other entries mean nothing."""

    running: bool
    sentinel: int
    nonce: bytes


class Journal:
    """Writes and reads entries in `memory`, uint8, of at least 64 bytes."""

    def __init__(self, memory: np.ndarray) -> None:
        self._memory = memory[: _ENTRY.size + _CHECKSUM.size]

    def read(self) -> Entry | None:
        """None where no agent has written one, or it was killed while writing."""
        data = self._memory.tobytes()
        magic, running, nbytes, sentinel, nonce = _ENTRY.unpack_from(data)
        (checksum,) = _CHECKSUM.unpack_from(data, _ENTRY.size)
        if magic != _MAGIC or checksum != zlib.crc32(data[: _ENTRY.size]) or nbytes > len(nonce):
            return None
        return Entry(bool(running), sentinel, nonce[:nbytes])

    def begin(self, sentinel: int, nonce: bytes) -> None:
        """A run starts; its end shows at physical address `sentinel`, where `nonce` is now."""
        self._write(Entry(True, sentinel, nonce))

    def end(self) -> None:
        """No run is under way."""
        self._write(Entry(False, 0, b""))

    def _write(self, entry: Entry) -> None:
        data = _ENTRY.pack(_MAGIC, entry.running, len(entry.nonce), entry.sentinel, entry.nonce)
        self._memory[:] = np.frombuffer(data + _CHECKSUM.pack(zlib.crc32(data)), np.uint8)
