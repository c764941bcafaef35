"""A compiled VTA program: what the host emits, the bundle carries and an accelerator loads.

Its binary format: docs/program-format.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from edge_agent.vta.config import Memory
from edge_agent.vta.counters import Counters


class Role(str, Enum):
    """What a program's DRAM tensor is for."""

    INPUT = "input"
    OUTPUT = "output"
    SCRATCH = "scratch"
    """Written and read inside the program only."""
    CONSTANT = "constant"
    """Weights, biases and micro-ops: its bytes are in the program."""


@dataclass(frozen=True)
class ProgramTensor:
    """A DRAM region of a program: `elements` of the size that `memory` has in the configuration.

    `memory` says how instructions address it: INP for activations (which STORE writes as OUT elements of the same
    size), WGT, ACC (int32 biases) or UOP. `shape` and `dtype` describe activations and constants as arrays, row-major,
    the last two axes being the element's (batch, block): activations are (N/batch, C/block, H, W, batch, block) int8.
    """

    name: str
    role: Role
    memory: Memory
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Relocation:
    """Instruction `instruction` (a LOAD or STORE) addresses `tensor` (index in the tensor table).

    Its dram_base field holds an element offset into the tensor; loading adds the tensor's physical base address
    divided by the element bytes of the instruction's memory type.
    """

    instruction: int
    tensor: int


@dataclass(frozen=True)
class Layer:
    """A range of instructions [begin, end) that computes one layer of the user's network; for reports and errors."""

    name: str
    begin: int
    end: int


@dataclass(frozen=True)
class Program:
    """One run of the accelerator, from the first LOAD to FINISH.

    `instructions` is uint64 (n, 2), `constants` maps the index of each CONSTANT tensor to its bytes. `features` are
    what the program needs beyond the portable rules (vta-facts 13), a subset of the board profile's.
    """

    name: str
    config: str
    features: frozenset[str]
    instructions: np.ndarray
    tensors: tuple[ProgramTensor, ...]
    constants: dict[int, bytes]
    relocations: tuple[Relocation, ...]
    layers: tuple[Layer, ...]
    counters: Counters

    def tensors_of(self, role: Role) -> list[ProgramTensor]:
        return [tensor for tensor in self.tensors if tensor.role is role]
