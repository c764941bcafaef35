"""The model's physical memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_agent.vta.violation import Violation


@dataclass(frozen=True, eq=False)
class PhysicalMemory:
    """`array`, uint8 (n,), at address `base`; there is nothing else."""

    base: int
    array: np.ndarray

    def view(self, begin: int, end: int) -> np.ndarray:
        """The bytes at addresses [begin, end). Raises Violation where no memory answers."""
        first, last = begin - self.base, end - self.base
        if not 0 <= first <= last <= len(self.array):
            raise Violation(
                "bus",
                f"no memory answers at {begin:#x} to {end:#x}, there is some from {self.base:#x} to "
                f"{self.base + len(self.array):#x}",
            )
        return self.array[first:last]
