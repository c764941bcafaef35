"""The Zynq driver in front of the register-level model, both in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from edge_agent.boards import BoardProfile, profile
from edge_agent.devices.base import AcceleratorInfo
from edge_agent.devices.zynq import Zynq
from edge_agent.errors import HardwareError
from edge_agent.hardware.core import Core
from edge_agent.hardware.dma import ALIGNMENT, DmaBuffer, RegionMemory
from edge_agent.register_model.core import ModelCore, model_blocks
from edge_agent.register_model.machine import Machine
from edge_agent.register_model.memory import PhysicalMemory
from edge_agent.register_model.quirks import Quirks

BASE = 0x10000000
PATIENCE = 0.25
"""Short, because runs that never end are waited for."""


class CoherentMemory(RegionMemory):
    """What the CPU sees is what the accelerator sees; a part of it outlives the process."""

    def __init__(self, region: np.ndarray) -> None:
        super().__init__("memory", BASE + ALIGNMENT, region[ALIGNMENT:])
        self.journal = region[:ALIGNMENT]
        self.synchronised: list[tuple[str, int, int]] = []

    def to_device(self, buffer: DmaBuffer, begin: int, end: int) -> None:
        self.synchronised.append(("device", buffer.physical - BASE + begin, buffer.physical - BASE + end))

    def to_cpu(self, buffer: DmaBuffer, begin: int, end: int) -> None:
        self.synchronised.append(("cpu", buffer.physical - BASE + begin, buffer.physical - BASE + end))


class CachedMemory(CoherentMemory):
    """The CPU works on a cache of its own: bytes move between it and memory only when they are told to."""

    def __init__(self, region: np.ndarray) -> None:
        super().__init__(region.copy())
        self.memory = region

    def to_device(self, buffer: DmaBuffer, begin: int, end: int) -> None:
        super().to_device(buffer, begin, end)
        offset = buffer.physical - BASE
        self.memory[offset + begin : offset + end] = buffer.array[begin:end]

    def to_cpu(self, buffer: DmaBuffer, begin: int, end: int) -> None:
        super().to_cpu(buffer, begin, end)
        offset = buffer.physical - BASE
        buffer.array[begin:end] = self.memory[offset + begin : offset + end]


@dataclass
class Modelled:
    """A modelled board; `quirks` may be replaced at any time. `driver` opens it as an agent's process does."""

    board: BoardProfile = field(default_factory=lambda: profile("pynq"))
    quirks: Quirks = field(default_factory=Quirks)
    memory_bytes: int = 1 << 20
    make_machine: Callable[[PhysicalMemory, BoardProfile], Machine] = lambda memory, board: Machine(
        memory, board.vta, board.features
    )
    can_reset: bool = False
    resets: int = 0

    def __post_init__(self) -> None:
        self.physical = PhysicalMemory(BASE, np.zeros(self.memory_bytes, np.uint8))
        self.core = ModelCore(self.make_machine(self.physical, self.board), lambda: self.quirks)

    def reset(self) -> None:
        self.resets += 1
        if not self.quirks.reset_works:
            raise HardwareError("the fabric's reset is out of reach")
        self.core.reset()

    def driver(
        self,
        memory: RegionMemory | None = None,
        patience: float = PATIENCE,
        require_programmed: Callable[[], None] = lambda: None,
    ) -> Zynq:
        return Zynq(
            AcceleratorInfo("zynq", self.board.config, self.board.features, self.board.clock_hz),
            self.board.bus_bytes,
            Core(model_blocks(self.core)),
            memory or CoherentMemory(self.physical.array),
            patience,
            require_programmed,
            self.reset if self.can_reset else None,
        )


def outputs_of(x: np.ndarray) -> Mapping[str, np.ndarray]:
    """Where TiledConvolution's result goes; full of what it will not be."""
    return {"y": np.full_like(x, 99)}
