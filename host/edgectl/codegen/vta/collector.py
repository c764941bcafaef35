"""Takes a layer's instructions like an assembler, and keeps only the micro-op lists that they need."""

from __future__ import annotations

import numpy as np

from edge_agent.vta.config import Config, Memory
from edge_agent.vta.program import Role
from edgectl.codegen.vta.loops import Region, nests

Span = tuple[int, int]
"""[begin, end) of an on-chip memory."""


class Collector:
    """What a LayerEmitter emits into; `Assembler` makes a program of it, this one a list of micro-op sequences."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.sequences: dict[bytes, None] = {}

    def activation(self, name: str, role: Role, shape: tuple[int, ...]) -> int:
        """Declare a packed int8 activation; returns its tensor index. Declaring it again returns the same."""
        return 0

    def constant(self, name: str, memory: Memory, array: np.ndarray) -> int:
        """Declare a constant (once per name); returns its tensor index."""
        return 0

    def load(
        self,
        memory: Memory,
        tensor: int,
        sram: int,
        dram: int,
        rows: int,
        columns: int,
        stride: int,
    ) -> None:
        """LOAD of INP or WGT: `rows` of `columns` elements, `stride` elements apart in DRAM."""

    def store(self, tensor: int, sram: int, dram: int, rows: int, columns: int, stride: int) -> None:
        """STORE of OUT: `rows` of `columns` elements, dense on chip, `stride` elements apart in DRAM."""

    def multiply(self, region: Region, acc: Span, inp: Span, wgt: Span, reuse: float) -> None:
        """Accumulate products over `region`; the spans bound what it touches, `reuse`: see `nests`."""
        self.sequences.update((nest.micro_ops, None) for nest in nests(region, self.config, reuse))

    def alu(self, operation: str, imm: int | None, region: Region, reuse: float = 1.0) -> None:
        """An operation over `region`: of each dst with the immediate (src equals dst), or without one with its src."""
        self.sequences.update((nest.micro_ops, None) for nest in nests(region, self.config, reuse))

    def reset_linear(self, span: Span) -> None:
        """Zero the accumulators of `span`."""

    def alu_linear(self, operation: str, imm: int, span: Span) -> None:
        """An operation with an immediate on every accumulator of `span`."""

    def end_layer(self, name: str) -> None:
        """All instructions since the previous call belong to layer `name`."""
