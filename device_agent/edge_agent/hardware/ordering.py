"""Order between accesses to DMA memory and to registers.

Processors may let a store to a register overtake earlier stores to memory, and a load from memory overtake an earlier
load from a register. Python has no barrier instruction; releasing and taking a lock is one on every processor.
"""

from __future__ import annotations

import threading

_lock = threading.Lock()


def barrier() -> None:
    """Complete what this thread has read and written before anything that it reads and writes later."""
    with _lock:
        pass
    with _lock:
        pass
